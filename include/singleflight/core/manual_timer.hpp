// SPDX-License-Identifier: Apache-2.0
#pragma once

/// manual_timer: a timer whose time stands still until a test moves it.
///
/// Use when    a test must pass a deadline without waiting for it.
/// Threads     every member, from any thread; one advance at a time.
/// Ordering    advance(d) fires all that is due by the new time, in order of time, before it
///             returns.
/// Blocking    nodes fire on the thread that calls advance; waits of blocked threads end as well.
/// Lifetime    outlives every group and wait that uses it.

#include <chrono>

#include "singleflight/core/detail/timer_wheel.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE

class manual_timer final : public timer {
 public:
  explicit manual_timer(time_point start = time_point(std::chrono::hours(1)))
      : queue_(start), now_(start.time_since_epoch()) {}

  time_point now() const noexcept override {
    return time_point(now_.load(detail::memory_order_acquire));
  }
  void arm(timer_node& node, time_point when) override {
    detail::platform::unique_lock hold(queue_.lock());
    queue_.arm_locked(node, when);
    if (when <= now() && !advancing_) fire_locked(hold);
  }
  void cancel(timer_node& node) noexcept override { queue_.cancel(node); }

  /// Moves the time on by `step` (not negative) and fires what has come due.
  void advance(std::chrono::nanoseconds step) {
    detail::platform::unique_lock hold(queue_.lock());
    now_.store(now_.load(detail::memory_order_relaxed) + step, detail::memory_order_release);
    if (!advancing_) fire_locked(hold);
  }

 private:
  void fire_locked(detail::platform::unique_lock& hold) noexcept {
    advancing_ = true;
    do {
      queue_.fire_due(hold, now());
    } while (queue_.next_locked() <= now());  // armed meanwhile, due already
    advancing_ = false;
  }

  detail::timer_queue queue_;
  detail::atomic<time_point::duration> now_;
  bool advancing_ = false;  // guarded by the queue's lock
};

SINGLEFLIGHT_END_NAMESPACE
