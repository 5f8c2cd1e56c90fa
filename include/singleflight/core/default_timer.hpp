// SPDX-License-Identifier: Apache-2.0
#pragma once

/// default_timer: the process-wide timer on the steady clock; its thread starts with the first
/// need.
///
/// Threads     from any thread.
/// Errors      arm throws std::system_error when the thread cannot be started.
/// Lifetime    never destroyed.
/// Cost        now(): a clock call; coarse_now(): one load while it ticks.

// The coarse clock is a word that the timer's thread renews every millisecond as long as somebody
// reads it: a reader leaves a mark; a tick that finds no mark parks the word (0), and the next
// reader reads the clock itself and starts the ticking again.

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <exception>
#include <limits>

#include "singleflight/core/detail/timer_wheel.hpp"
#include "singleflight/core/support/thread_state.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

class SINGLEFLIGHT_SHARED_STATE steady_timer final : public timer, fork_member {
 public:
  steady_timer() : fork_member(rank::timer), queue_(platform::now()) {
    coarse_ = &clock_;
    enter_forks();
  }
  ~steady_timer() override { leave_forks(); }

  time_point now() const noexcept override { return platform::now(); }
  bool follows_steady_clock() const noexcept override { return true; }

  void arm(timer_node& node, time_point when) override {
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
  void cancel(timer_node& node) noexcept override { queue_.cancel(node); }

  /// The same as arm; where no thread can be started, `node` fires once one can.
  void arm_patiently(timer_node& node, time_point when) noexcept {
    {
      timer_queue::turn hold(queue_);
      (void)try_start_thread_locked();
      queue_.arm_locked(node, when);
      sleeping_until_ = std::min(sleeping_until_, when);
    }
    changed_.notify_one();
  }

 private:
  static constexpr std::int64_t parked = coarse_clock::parked;
  static constexpr std::chrono::milliseconds tick{1};
  /// Where time_t has 32 bits, a wait until after its range would not wait at all.
  static constexpr std::chrono::hours longest_wait{24};
  static constexpr std::chrono::milliseconds between_attempts{100};

  SINGLEFLIGHT_COLD void start_thread_locked() {
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
  bool try_start_thread_locked() noexcept {
    try {
      start_thread_locked();
    } catch (const std::exception&) {
      return false;
    }
    return true;
  }

  /// Parked: starts the ticking.
  SINGLEFLIGHT_COLD time_point read_clock() noexcept override {
    time_point present = now();
    // Where there is no thread to be had, readers do not ask for one each time: 10 us under a lock.
    if (present.time_since_epoch().count() < no_thread_until_.load(memory_order_relaxed)) {
      return present;
    }
    {
      timer_queue::turn hold(queue_);
      present = now();  // once more: with the lock, it is no older than what a tick has written
      if (present.time_since_epoch().count() < no_thread_until_.load(memory_order_relaxed) ||
          !try_start_thread_locked()) {
        return present;  // no thread to tick: every read stays a clock call
      }
      clock_.ticks.store(present.time_since_epoch().count(), memory_order_relaxed);
      clock_.read.store(1, memory_order_relaxed);
      sleeping_until_ = time_point::min();
    }
    if (platform::holds(rule::ticking_wakes_timer)) changed_.notify_one();
    return present;
  }

  /// Renews the coarse clock when its tick has come. `present` was read with the lock, and that has
  /// been held since.
  void tick_locked(time_point present) noexcept {
    if (clock_.ticks.load(memory_order_relaxed) == parked || present < next_tick_) return;
    next_tick_ = present + tick;
    const bool parking = clock_.read.exchange(0, memory_order_relaxed) == 0;
    clock_.ticks.store(parking ? parked : present.time_since_epoch().count(), memory_order_relaxed);
  }

  [[noreturn]] SINGLEFLIGHT_COLD void work() noexcept {
    this_thread().inside_run = 1;  // no user code on this thread: inline_executor means the pool
    platform::unique_lock hold(queue_.lock());
    for (;;) {
      const time_point present = now();
      // Before the fires: while they let the lock go a reader may store a later time.
      bool more = false;
      platform::in_order(
          rule::clock_ticks_before_fires, [&] { tick_locked(present); },
          [&] { more = queue_.fire_round(hold, present); });
      if (more) continue;  // a round is short, so the coarse clock keeps up
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

  // ---- fork: a child has no thread for it -------------------------------------------------------
  SINGLEFLIGHT_COLD void hold() noexcept override {}  // the queue is held
  SINGLEFLIGHT_COLD void release() noexcept override {}
  SINGLEFLIGHT_COLD void mend() noexcept override {
    platform::renew(changed_);
    started_ = false;
    sleeping_until_ = time_point::min();
    next_tick_ = {};
    clock_.ticks.store(parked, memory_order_relaxed);
    clock_.read.store(0, memory_order_relaxed);
  }
  SINGLEFLIGHT_COLD void go_on() noexcept override {
    const platform::unique_lock hold(queue_.lock());
    no_thread_until_.store(std::numeric_limits<std::int64_t>::min(), memory_order_relaxed);
    if (queue_.next_locked() != time_point::max()) (void)try_start_thread_locked();
  }

  timer_queue queue_;  // its lock guards what follows, but for the two atomics
  platform::condition_variable changed_;
  bool started_ = false;
  time_point sleeping_until_ = time_point::min();
  time_point next_tick_{};
  atomic<std::int64_t> no_thread_until_{std::numeric_limits<std::int64_t>::min()};
  coarse_clock clock_;
};

struct SINGLEFLIGHT_SHARED_STATE shared_timer {
  static inline constinit platform::one_per_process<steady_timer> one;
};
inline steady_timer& the_steady_timer() {
  return shared_timer::one.get([] { return std::make_unique<steady_timer>(); });
}

/// Arms what nobody would arm again: where the process-wide timer has no thread, `node` fires once
/// one can be started. False: a timer of the program's own could not.
inline bool arm_patiently(timer& clock, timer_node& node, steady_time when) noexcept {
  // Not made here where it is another: this may be within the list of a fork, which it enters.
  if (steady_timer* const steady = shared_timer::one.peek(); steady == &clock) {
    steady->arm_patiently(node, when);
    return true;
  }
  try {
    clock.arm(node, when);
  } catch (const std::exception&) {
    return false;
  }
  return true;
}
}  // namespace detail

/// The process-wide timer.
inline timer& default_timer() { return detail::the_steady_timer(); }

SINGLEFLIGHT_END_NAMESPACE
