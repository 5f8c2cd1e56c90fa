// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <condition_variable>
#include <mutex>
#include <string>

#include "lab/backend/backend.hpp"

namespace singleflight::lab {

/// delay_backend: answers each key after the same delay, any number of keys concurrently.
class delay_backend : public backend {
 public:
  explicit delay_backend(std::chrono::nanoseconds delay) : delay_(delay) {}

  row load(const std::string& key, const patience& until) override;
  void interrupt() noexcept override;
  std::string name() const override;
  std::size_t connections() const override { return 0; }

 private:
  std::chrono::nanoseconds delay_;
  std::mutex mutex_;  // guards interrupted_
  std::condition_variable changed_;
  bool interrupted_ = false;
};

}  // namespace singleflight::lab
