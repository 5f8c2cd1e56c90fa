// SPDX-License-Identifier: Apache-2.0
#pragma once

// item: the values of the worlds of caches and live values, identified by a number. Reading one is
// a step, so the model finds a read after the item's end.

#include <atomic>

#include <singleflight/core/support/platform.hpp>

namespace model {

class item {
 public:
  explicit item(int number) : number_(number) {}
  item(item&& other) noexcept : number_(other.number_) {}
  int look() const {
    (void)seen_.load(std::memory_order_relaxed);
    return number_;
  }

 private:
  int number_;
  singleflight::detail::platform::atomic<int> seen_{0};
};

}  // namespace model
