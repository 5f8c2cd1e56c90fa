// SPDX-License-Identifier: Apache-2.0
#pragma once

/// timer: the library's source of time, which fires nodes when their times have come.
///
/// Use when    a deadline, a timeout or a delay is needed: default_timer()
///             (core/default_timer.hpp), or manual_timer (core/manual_timer.hpp) in tests.
/// Threads     every member, from any thread.
/// Ordering    nodes fire in the order of their times; one that is armed after later ones have
///             fired is next. arm happens-before fire; fire happens-before the return of a cancel
///             that came too late.
/// Blocking    fire runs on the timer's thread; it must only claim the work and hand it over. A
///             cancel waits for a fire of the same node that is running on another thread.
/// Errors      arm throws std::system_error if the timer's thread cannot be started.
/// Lifetime    a node lives until it has fired or cancel has returned; a timer outlives its uses.
/// Cost        arm and cancel: one short critical section, no allocation; while many nodes fire
///             they wait for a round of at most 32 nodes.

#include <chrono>
#include <cstdint>

#include "singleflight/core/support/thread_state.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE

/// An intrusive alarm. Derive from it or embed it; `fire` is called once per arm.
class timer_node {
 public:
  using action = void (*)(timer_node&) noexcept;
  explicit timer_node(action on_fire) noexcept : fire(on_fire) {}
  timer_node(const timer_node&) = delete;
  timer_node& operator=(const timer_node&) = delete;

  // Maintained by the timer that the node is armed at, under that timer's lock.
  timer_node* prev = nullptr;
  timer_node* next = nullptr;  ///< null if and only if it is not armed; read after a fork
  detail::steady_time when{};
  const action fire;
};

namespace detail {
/// A node that serves one thread alone and may be on its stack: in a child of fork without that
/// thread it is disarmed. It is recognised by its `fire`, so that other nodes need no extra member.
class SINGLEFLIGHT_SHARED_STATE thread_timer_node : public timer_node {
 public:
  thread_timer_node(action on_fire, const thread_state& thread) noexcept
      : timer_node(&fire_own), own_(on_fire), thread_(&thread) {}
  /// Returns whether `node` belongs to a thread other than `here`.
  static bool is_of_another(const timer_node& node, const thread_state& here) noexcept {
    return node.fire == &fire_own && static_cast<const thread_timer_node&>(node).thread_ != &here;
  }

 private:
  static void fire_own(timer_node& node) noexcept {
    static_cast<thread_timer_node&>(node).own_(node);
  }
  const action own_;
  const thread_state* const thread_;
};

/// The time as a word that a timer's thread updates while it is read, so that reading it is one
/// load.
struct coarse_clock {
  static constexpr std::int64_t parked = 0;
  alignas(64) atomic<std::int64_t> ticks{parked};  ///< nanoseconds of the steady clock's epoch
  alignas(64) atomic<std::uint32_t> read{0};       ///< 1 if read since the last tick

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
  /// Returns the time, at most about 1 ms old (older if the timer's thread is not scheduled); one
  /// load.
  time_point coarse_now() noexcept {
    const std::int64_t ticks = coarse_->ticks.load(detail::memory_order_relaxed);
    if (ticks == detail::coarse_clock::parked) return read_clock();
    if (coarse_->read.load(detail::memory_order_relaxed) == 0) {
      coarse_->read.store(1, detail::memory_order_relaxed);
    }
    return time_point(std::chrono::nanoseconds(ticks));
  }
  /// Fires `node` at `when`; at once, on the timer's thread, if that has passed. Requires that
  /// `node` is not armed.
  virtual void arm(timer_node& node, time_point when) = 0;
  /// Disarms `node`. On return it is not armed and not firing (unless called from within its fire).
  virtual void cancel(timer_node& node) noexcept = 0;
  /// Returns whether now() is the steady clock, so that a blocked thread may pass its deadline to
  /// the kernel.
  virtual bool follows_steady_clock() const noexcept { return false; }

 protected:
  timer() = default;
  timer(const timer&) = default;
  timer& operator=(const timer&) = default;

  /// Called by coarse_now() while its word is parked: always, if a timer has no word of its own.
  virtual time_point read_clock() noexcept { return now(); }
  detail::coarse_clock* coarse_ = &detail::coarse_clock::always_parked();
};

namespace detail {
/// Returns `now + duration`, clamped to the clock's range: a century ahead, or not a number, is
/// "never"; a century back is time_point::min(). Every deadline is computed here.
template <class Rep, class Period>
constexpr steady_time deadline_after(steady_time now,
                                     std::chrono::duration<Rep, Period> duration) noexcept {
  using std::chrono::nanoseconds;
  constexpr std::chrono::duration<double> century = std::chrono::hours(24 * 36525);
  if (!(std::chrono::duration<double>(duration) < century)) return steady_time::max();
  if (std::chrono::duration<double>(duration) <= -century) return steady_time::min();
  const auto step = std::chrono::duration_cast<nanoseconds>(duration);
  const nanoseconds at = now.time_since_epoch();
  if (step.count() > 0 && at > nanoseconds::max() - step) return steady_time::max();
  if (step.count() < 0 && at < nanoseconds::min() - step) return steady_time::min();
  return now + step;
}
/// Returns `now - then`, clamped to the range of nanoseconds: a clock may go from one end of its
/// range to the other. Every elapsed time that is reported or compared is computed here.
constexpr std::chrono::nanoseconds time_between(steady_time then, steady_time now) noexcept {
  using std::chrono::nanoseconds;
  const std::int64_t from = nanoseconds(then.time_since_epoch()).count();
  const std::int64_t to = nanoseconds(now.time_since_epoch()).count();
  const auto passed =
      static_cast<std::int64_t>(static_cast<std::uint64_t>(to) - static_cast<std::uint64_t>(from));
  const bool overflows = ((to ^ from) & (to ^ passed)) < 0;  // signs differ, and `to`'s is not kept
  if (overflows) [[unlikely]] {
    return to < from ? nanoseconds::min() : nanoseconds::max();
  }
  return nanoseconds(passed);
}
}  // namespace detail

SINGLEFLIGHT_END_NAMESPACE
