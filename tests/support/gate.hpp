// SPDX-License-Identifier: Apache-2.0
#pragma once

// gate: holds threads until a test opens it. It stays open: threads that arrive later pass.
//
// A gate that is never opened fails the test instead of hanging it: wait() gives up after a
// generous time. The destructor of a gate waits for the threads that have not left wait() yet, so a
// test may open a gate as its last statement.

#include <gtest/gtest.h>

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <mutex>

namespace support {

/// How long a test waits for an event that must come before it reports a failure.
inline constexpr std::chrono::seconds patience{30};

class gate {
 public:
  gate() = default;
  gate(const gate&) = delete;
  gate& operator=(const gate&) = delete;
  ~gate() {
    std::unique_lock hold(lock_);
    changed_.wait(hold, [this] { return inside_ == 0; });
  }

  void open() {
    const std::lock_guard hold(lock_);
    open_ = true;
    changed_.notify_all();
  }
  /// Returns once the gate is open.
  void wait() {
    std::unique_lock hold(lock_);
    ++arrived_;
    ++inside_;
    changed_.notify_all();
    if (!changed_.wait_for(hold, patience, [this] { return open_; })) {
      ADD_FAILURE() << "a gate was never opened";
    }
    --inside_;
    changed_.notify_all();
  }
  /// Returns once `count` threads have called wait().
  void await_arrivals(std::size_t count = 1) {
    std::unique_lock hold(lock_);
    if (!changed_.wait_for(hold, patience, [&] { return arrived_ >= count; })) {
      ADD_FAILURE() << "only " << arrived_ << " of " << count << " reached a gate";
    }
  }
  bool is_open() const {
    const std::lock_guard hold(lock_);
    return open_;
  }

 private:
  mutable std::mutex lock_;
  std::condition_variable changed_;
  bool open_ = false;
  std::size_t arrived_ = 0;
  std::size_t inside_ = 0;
};

}  // namespace support
