// SPDX-License-Identifier: Apache-2.0
#pragma once

/// manual_timer: a timer whose time changes only when a test calls advance.
///
/// Use when    a test must pass a deadline without waiting for it.
/// Threads     every member, from any thread; one advance at a time.
/// Ordering    advance(d) fires all nodes that are due by the new time, in order of time, before it
///             returns. When called within a fire it only moves the time; the thread that is firing
///             then continues up to the new time.
/// Blocking    nodes fire on the thread that calls advance, or arm if they are due; advance waits
///             for those that fire on another thread. What inline_executor resumes on that thread
///             runs after all nodes have fired; if a program arms a node of its own that is due, it
///             runs on default_pool(). Waits of blocked threads end as well.
///             The time stops at the end of the clock's range. time_point::max() means never: a
///             node armed for it does not fire, nor does one that would be due after the end.
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

  /// Moves the time forward by `step` (not negative) and fires the nodes that are due.
  void advance(std::chrono::nanoseconds step);

 private:
  static constexpr time_point last = time_point::max() - time_point::duration(1);

  /// Returns the time up to which nodes fire: now, but before "never", so that a node that arms
  /// itself again at the end of the range does not do so forever.
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
