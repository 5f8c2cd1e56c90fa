// SPDX-License-Identifier: Apache-2.0
#pragma once

// manual_timer: moving the time, and firing the nodes that are due.

#include <algorithm>
#include <chrono>

#include "singleflight/core/manual_timer.hpp"
#include "singleflight/core/support/trampoline.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE

SINGLEFLIGHT_BODY manual_timer::manual_timer(time_point start)
    : queue_(std::min(start, last)), now_(start.time_since_epoch()) {}

SINGLEFLIGHT_BODY void manual_timer::arm(timer_node& node, time_point when) {
  detail::timer_queue::turn mine(queue_);
  queue_.arm_locked(node, when);
  if (when <= due() && !firing()) fire_locked(mine.hold());
}

SINGLEFLIGHT_BODY void manual_timer::advance(std::chrono::nanoseconds step) {
  const detail::call_scope scope;  // resumes on this thread after all nodes have fired
  detail::timer_queue::turn mine(queue_);
  detail::platform::unique_lock& hold = mine.hold();
  const time_point to =
      detail::deadline_after(time_point(now_.load(detail::memory_order_relaxed)), step);
  now_.store(to.time_since_epoch(), detail::memory_order_release);
  if (!firing()) fire_locked(hold);
  // A thread that fires within its arm continues up to the new time; if that is this thread, it is
  // our caller.
  while (detail::platform::holds(detail::rule::advance_waits_for_fires) &&
         queue_.is_taken_locked() && queue_.wait_for_fire(hold)) {
  }
}

SINGLEFLIGHT_BODY timer::time_point manual_timer::due() const noexcept {
  return std::min(now(), last);
}

SINGLEFLIGHT_BODY bool manual_timer::firing() const noexcept {
  return detail::platform::holds(detail::rule::one_thread_fires) && queue_.is_taken_locked();
}

SINGLEFLIGHT_BODY void manual_timer::fire_locked(detail::platform::unique_lock& hold) noexcept {
  queue_.take_locked();
  time_point present = due();
  while (queue_.fire_round(hold, present) ||
         (detail::platform::holds(detail::rule::due_meanwhile_fires) && present != due())) {
    present = due();
  }
  queue_.leave_locked();
}

SINGLEFLIGHT_END_NAMESPACE
