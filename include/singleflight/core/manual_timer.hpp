// SPDX-License-Identifier: Apache-2.0
#pragma once

/// manual_timer: a timer whose time stands still until a test moves it.
///
/// Use when    a test must pass a deadline without waiting for it.
/// Threads     every member, from any thread; one advance at a time.
/// Ordering    advance(d) fires all that is due by the new time, in order of time, before it
///             returns. Within a fire it only moves the time: the fire that is under way goes on to
///             it.
/// Blocking    nodes fire on the thread that calls advance, or arm when they are due; advance waits
///             for those that fire on another thread. What is resumed on that thread
///             (inline_executor) runs when all has fired; on default_pool() where a program arms a
///             node of its own that is due. Waits of blocked threads end as well.
///             The time stops at the end of the clock's range. time_point::max() is never: what is
///             armed for it does not fire then either, nor does what is due later than the end.
/// Lifetime    outlives every group and wait that uses it.

#include <algorithm>
#include <chrono>

#include "singleflight/core/detail/timer_wheel.hpp"
#include "singleflight/core/support/trampoline.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE

class manual_timer final : public timer {
 public:
  explicit manual_timer(time_point start = time_point(std::chrono::hours(1)))
      : queue_(std::min(start, last)), now_(start.time_since_epoch()) {}

  time_point now() const noexcept override {
    return time_point(now_.load(detail::memory_order_acquire));
  }
  void arm(timer_node& node, time_point when) override {
    detail::timer_queue::turn mine(queue_);
    queue_.arm_locked(node, when);
    if (when <= due() && !firing()) fire_locked(mine.hold());
  }
  void cancel(timer_node& node) noexcept override { queue_.cancel(node); }

  /// Moves the time on by `step` (not negative) and fires what has come due.
  void advance(std::chrono::nanoseconds step) {
    const detail::call_scope scope;  // what is resumed here is, once all has fired
    detail::timer_queue::turn mine(queue_);
    detail::platform::unique_lock& hold = mine.hold();
    const time_point to =
        detail::deadline_after(time_point(now_.load(detail::memory_order_relaxed)), step);
    now_.store(to.time_since_epoch(), detail::memory_order_release);
    if (!firing()) fire_locked(hold);
    // A thread that fires in its arm goes on to the new time; on this thread it is our caller.
    while (detail::platform::holds(detail::rule::advance_waits_for_fires) &&
           queue_.is_taken_locked() && queue_.wait_for_fire(hold)) {
    }
  }

 private:
  static constexpr time_point last = time_point::max() - time_point::duration(1);

  /// What is to fire: all until now, but what is never due, so that what arms itself again at the
  /// end of the range does not do so without end.
  time_point due() const noexcept { return std::min(now(), last); }
  bool firing() const noexcept {
    return detail::platform::holds(detail::rule::one_thread_fires) && queue_.is_taken_locked();
  }
  void fire_locked(detail::platform::unique_lock& hold) noexcept {
    queue_.take_locked();
    time_point present = due();
    while (queue_.fire_round(hold, present) ||
           (detail::platform::holds(detail::rule::due_meanwhile_fires) && present != due())) {
      present = due();
    }
    queue_.leave_locked();
  }

  detail::timer_queue queue_;
  detail::atomic<time_point::duration> now_;
};

SINGLEFLIGHT_END_NAMESPACE
