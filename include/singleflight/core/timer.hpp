// SPDX-License-Identifier: Apache-2.0
#pragma once

/// timer: where the library takes the time from, and who calls when it has come.
///
/// Use when    a deadline, a timeout or a delay is needed: default_timer()
///             (core/default_timer.hpp), or manual_timer (core/manual_timer.hpp) in tests.
/// Threads     every member, from any thread.
/// Ordering    nodes fire in the order of their times; arm happens-before fire; fire happens-before
///             the return of a cancel that came too late.
/// Blocking    fire runs on the timer's thread and only claims and hands over; cancel waits for a
///             fire of the same node that is under way on another thread.
/// Errors      arm throws std::system_error when the timer's thread cannot be started.
/// Lifetime    a node lives until it has fired or cancel has returned; a timer outlives its uses.
/// Cost        arm and cancel: one short critical section, no allocation.

#include <chrono>
#include <cstdint>

#include "singleflight/core/detail/thread_state.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE

/// An intrusive alarm. Derive from it, or embed it; `fire` is called once per arm.
class timer_node {
 public:
  using action = void (*)(timer_node&) noexcept;
  explicit timer_node(action on_fire) noexcept : fire(on_fire) {}
  /// One that serves its thread alone: in a child of fork without that thread it is not armed.
  timer_node(action on_fire, const detail::thread_state& of) noexcept
      : fire(on_fire), thread(&of) {}
  timer_node(const timer_node&) = delete;
  timer_node& operator=(const timer_node&) = delete;

  // Kept by the timer that it is armed at, under that timer's lock.
  timer_node* prev = nullptr;
  timer_node* next = nullptr;  ///< null while not armed
  detail::steady_time when{};
  const action fire;
  const detail::thread_state* const thread = nullptr;
};

namespace detail {
/// A word that somebody renews while it is read, so that a look at the time is a load.
struct coarse_clock {
  static constexpr std::int64_t parked = 0;
  alignas(64) atomic<std::int64_t> ticks{parked};  ///< nanoseconds of the steady clock's epoch
  alignas(64) atomic<bool> read{false};            ///< a reader's mark

  static coarse_clock& always_parked() noexcept {
    static constinit coarse_clock none;
    return none;
  }
};
}  // namespace detail

class timer {
 public:
  using time_point = std::chrono::steady_clock::time_point;

  virtual ~timer() = default;
  virtual time_point now() const noexcept = 0;
  /// The time, at most about 1 ms old (older while the timer's thread is not scheduled); one load.
  time_point coarse_now() noexcept {
    const std::int64_t ticks = coarse_->ticks.load(detail::memory_order_relaxed);
    if (ticks == detail::coarse_clock::parked) return read_clock();
    if (!coarse_->read.load(detail::memory_order_relaxed)) {
      coarse_->read.store(true, detail::memory_order_relaxed);
    }
    return time_point(std::chrono::nanoseconds(ticks));
  }
  /// Fires `node` once `when` has come; at once, on the timer's thread, when it has passed already.
  /// Requires that `node` is not armed.
  virtual void arm(timer_node& node, time_point when) = 0;
  /// Afterwards `node` is free: it is not armed and not firing (unless called from within its
  /// fire).
  virtual void cancel(timer_node& node) noexcept = 0;
  /// Whether now() is the steady clock, so that a blocked thread may let the kernel time it.
  virtual bool follows_steady_clock() const noexcept { return false; }

 protected:
  timer() = default;
  timer(const timer&) = default;
  timer& operator=(const timer&) = default;

  /// What coarse_now() asks while its word is parked: always, where a timer has none of its own.
  virtual time_point read_clock() noexcept { return now(); }
  detail::coarse_clock* coarse_ = &detail::coarse_clock::always_parked();
};

namespace detail {
/// `now + duration`, or "never" where that is past the range of the clock.
template <class Rep, class Period>
steady_time deadline_after(steady_time now, std::chrono::duration<Rep, Period> duration) noexcept {
  constexpr std::chrono::duration<double> century = std::chrono::hours(24 * 36525);
  if (std::chrono::duration<double>(duration) >= century) return steady_time::max();
  if (std::chrono::duration<double>(duration) <= -century) return steady_time::min();
  return now + std::chrono::duration_cast<std::chrono::nanoseconds>(duration);
}
}  // namespace detail

SINGLEFLIGHT_END_NAMESPACE
