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

#include <chrono>

#include "singleflight/core/detail/timer_wheel.hpp"
#include "singleflight/core/timer.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE

class manual_timer final : public timer {
 public:
  explicit manual_timer(time_point start = time_point(std::chrono::hours(1)));

  time_point now() const noexcept override {
    return time_point(now_.load(detail::memory_order_acquire));
  }
  SINGLEFLIGHT_BODY void arm(timer_node& node, time_point when) override;
  void cancel(timer_node& node) noexcept override { queue_.cancel(node); }

  /// Moves the time on by `step` (not negative) and fires what has come due.
  void advance(std::chrono::nanoseconds step);

 private:
  static constexpr time_point last = time_point::max() - time_point::duration(1);

  /// What is to fire: all until now, but what is never due, so that what arms itself again at the
  /// end of the range does not do so without end.
  time_point due() const noexcept;
  bool firing() const noexcept;
  void fire_locked(detail::platform::unique_lock& hold) noexcept;

  detail::timer_queue queue_;
  detail::atomic<time_point::duration> now_;
};

SINGLEFLIGHT_END_NAMESPACE

#if !defined(SINGLEFLIGHT_COMPILED)
#include "singleflight/core/impl/manual_timer.hpp"
#endif
