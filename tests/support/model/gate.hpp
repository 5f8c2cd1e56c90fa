// SPDX-License-Identifier: Apache-2.0
#pragma once

// A gate at which threads of a world wait until another thread opens it.

#include <singleflight/core/support/platform.hpp>

namespace model {

class gate {
 public:
  void wait() {
    namespace platform = singleflight::detail::platform;
    while (open_.load(std::memory_order_acquire) == 0) platform::wait(open_, 0U);
  }
  void open() {
    namespace platform = singleflight::detail::platform;
    open_.store(1, std::memory_order_release);
    platform::wake(open_, 0x7fffffff);
  }

 private:
  singleflight::detail::platform::atomic<unsigned> open_{0};
};

}  // namespace model
