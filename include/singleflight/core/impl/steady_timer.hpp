// SPDX-License-Identifier: Apache-2.0
#pragma once

// steady_timer: its thread, and the coarse clock that it updates.

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <exception>
#include <limits>
#include <memory>

#include "singleflight/core/detail/steady_timer.hpp"
#include "singleflight/core/support/rules.hpp"
#include "singleflight/core/support/thread_state.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

SINGLEFLIGHT_BODY steady_timer::steady_timer() : fork_member(rank::timer), queue_(platform::now()) {
  coarse_ = &clock_;
  enter_forks();
}

SINGLEFLIGHT_BODY steady_timer::~steady_timer() { leave_forks(); }

SINGLEFLIGHT_BODY void steady_timer::arm(timer_node& node, time_point when) {
  bool earlier = false;
  {
    timer_queue::turn hold(queue_);
    start_thread_locked();
    queue_.arm_locked(node, when);
    if (when < sleeping_until_) {
      sleeping_until_ = when;
      earlier = true;
    }
  }
  if (earlier && platform::holds(rule::earlier_alarm_wakes_timer)) changed_.notify_one();
}

SINGLEFLIGHT_BODY void steady_timer::cancel(timer_node& node) noexcept { queue_.cancel(node); }

SINGLEFLIGHT_BODY void steady_timer::arm_patiently(timer_node& node, time_point when) noexcept {
  {
    timer_queue::turn hold(queue_);
    (void)try_start_thread_locked();
    queue_.arm_locked(node, when);
    sleeping_until_ = std::min(sleeping_until_, when);
  }
  changed_.notify_one();
}

SINGLEFLIGHT_COLD SINGLEFLIGHT_BODY void steady_timer::start_thread_locked() {
  if (started_) return;
  try {
    platform::start_thread("sf-timer", [this] { work(); }).detach();
  } catch (...) {
    no_thread_until_.store((now() + between_attempts).time_since_epoch().count(),
                           memory_order_relaxed);
    throw;
  }
  started_ = true;
}

SINGLEFLIGHT_BODY bool steady_timer::try_start_thread_locked() noexcept {
  try {
    start_thread_locked();
  } catch (const std::exception&) {
    return false;
  }
  return true;
}

SINGLEFLIGHT_BODY timer::time_point steady_timer::read_clock() noexcept {
  time_point present = now();
  // If no thread can be started, not every reader tries: that takes 10 us under a lock.
  if (present.time_since_epoch().count() < no_thread_until_.load(memory_order_relaxed)) {
    return present;
  }
  {
    timer_queue::turn hold(queue_);
    present = now();  // again: read under the lock, it is no older than what a tick has written
    if (present.time_since_epoch().count() < no_thread_until_.load(memory_order_relaxed) ||
        !try_start_thread_locked()) {
      return present;  // no thread to tick: every read remains a clock call
    }
    clock_.ticks.store(present.time_since_epoch().count(), memory_order_relaxed);
    clock_.read.store(1, memory_order_relaxed);
    sleeping_until_ = time_point::min();
  }
  if (platform::holds(rule::ticking_wakes_timer)) changed_.notify_one();
  return present;
}

SINGLEFLIGHT_BODY void steady_timer::tick_locked(time_point present) noexcept {
  if (clock_.ticks.load(memory_order_relaxed) == parked || present < next_tick_) return;
  next_tick_ = present + tick;
  const bool parking = clock_.read.exchange(0, memory_order_relaxed) == 0;
  clock_.ticks.store(parking ? parked : present.time_since_epoch().count(), memory_order_relaxed);
}

SINGLEFLIGHT_COLD SINGLEFLIGHT_BODY void steady_timer::work() noexcept {
  this_thread().inside_run = 1;  // no user code on this thread: inline_executor means the pool
  platform::unique_lock hold(queue_.lock());
  for (;;) {
    const time_point present = now();
    // Before the fires: while those have released the lock, a reader may store a later time.
    bool more = false;
    platform::in_order(
        rule::clock_ticks_before_fires, [&] { tick_locked(present); },
        [&] { more = queue_.fire_round(hold, present); });
    if (more) continue;  // a round is short, so the coarse clock stays current
    time_point wake = queue_.next_locked();
    if (clock_.ticks.load(memory_order_relaxed) != parked) wake = std::min(wake, next_tick_);
    sleeping_until_ = wake;
    while (sleeping_until_ == wake && wake > now()) {
      if (wake == time_point::max()) {
        changed_.wait(hold);
      } else {
        changed_.wait_until(hold, std::min(wake, now() + longest_wait));
      }
    }
    sleeping_until_ = time_point::min();  // awake: arm need not notify
  }
}

SINGLEFLIGHT_BODY void steady_timer::repair() noexcept {
  platform::renew(changed_);
  started_ = false;
  sleeping_until_ = time_point::min();
  next_tick_ = {};
  clock_.ticks.store(parked, memory_order_relaxed);
  clock_.read.store(0, memory_order_relaxed);
}

SINGLEFLIGHT_BODY void steady_timer::go_on() noexcept {
  const platform::unique_lock hold(queue_.lock());
  no_thread_until_.store(std::numeric_limits<std::int64_t>::min(), memory_order_relaxed);
  if (queue_.next_locked() != time_point::max()) (void)try_start_thread_locked();
}

SINGLEFLIGHT_BODY steady_timer& the_steady_timer() {
  return shared_timer::one.get([] { return std::make_unique<steady_timer>(); });
}

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE
