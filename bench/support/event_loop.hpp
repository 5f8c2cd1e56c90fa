// SPDX-License-Identifier: Apache-2.0
#pragma once

// A minimal event loop for one thread: a coroutine that slept on the library's timer is resumed by
// the loop on which it went to sleep.

#include <atomic>
#include <chrono>
#include <coroutine>
#include <utility>

#include "bench/support/process.hpp"
#include "singleflight/core.hpp"

namespace bench {

class event_loop {
 public:
  /// Must be awaited on the loop's thread.
  class sleep : singleflight::timer_node {
   public:
    sleep(event_loop& home, steady::duration duration) noexcept
        : timer_node(&sleep::wake), home_(home), duration_(duration) {}
    bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<> sleeper) {
      sleeper_ = sleeper;
      singleflight::timer& clock = singleflight::default_timer();
      clock.arm(*this, clock.now() + duration_);
    }
    void await_resume() const noexcept {}

   private:
    friend event_loop;
    static void wake(timer_node& node) noexcept {
      auto& self = static_cast<sleep&>(node);
      self.home_.push(self);
    }

    event_loop& home_;
    steady::duration duration_;
    std::coroutine_handle<> sleeper_;
    sleep* behind_ = nullptr;
  };

  /// Resumes the coroutines whose sleep is over, in the order in which they woke; returns false if
  /// there were none.
  bool turn() {
    // The acquire pairs with the release in push: it makes visible what the timer's thread wrote.
    sleep* newest = awake_.exchange(nullptr, std::memory_order_acquire);
    if (newest == nullptr) return false;
    sleep* oldest = nullptr;
    while (newest != nullptr)
      newest = std::exchange(newest->behind_, std::exchange(oldest, newest));
    while (oldest != nullptr) std::exchange(oldest, oldest->behind_)->sleeper_.resume();
    return true;
  }
  bool idle() const noexcept { return awake_.load(std::memory_order_relaxed) == nullptr; }

 private:
  void push(sleep& node) noexcept {
    node.behind_ = awake_.load(std::memory_order_relaxed);
    while (!awake_.compare_exchange_weak(node.behind_, &node, std::memory_order_release,
                                         std::memory_order_relaxed)) {
    }
  }

  alignas(64) std::atomic<sleep*> awake_{nullptr};
};

}  // namespace bench
