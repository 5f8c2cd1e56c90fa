// SPDX-License-Identifier: Apache-2.0
#pragma once

// steady_timer: the timer behind default_timer(): a wheel, a thread, and a coarse clock.
//
// The coarse clock is a word that the timer's thread updates every millisecond as long as it is
// read: a reader sets a mark; a tick that finds no mark parks the word (0), and the next reader
// reads the clock itself and starts the ticks again.

#include <chrono>
#include <cstdint>
#include <limits>

#include "singleflight/core/detail/timer_wheel.hpp"
#include "singleflight/core/support/fork.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

class SINGLEFLIGHT_SHARED_STATE steady_timer final : public timer, fork_member {
 public:
  steady_timer();
  SINGLEFLIGHT_BODY ~steady_timer() override;

  time_point now() const noexcept override { return platform::now(); }
  bool follows_steady_clock() const noexcept override { return true; }

  SINGLEFLIGHT_BODY void arm(timer_node& node, time_point when) override;
  SINGLEFLIGHT_BODY void cancel(timer_node& node) noexcept override;

  /// Like arm, but if no thread can be started, `node` fires once one can.
  void arm_patiently(timer_node& node, time_point when) noexcept;

 private:
  static constexpr std::int64_t parked = coarse_clock::parked;
  static constexpr std::chrono::milliseconds tick{1};
  /// With a 32-bit time_t, a wait until after its range would not wait at all.
  static constexpr std::chrono::hours longest_wait{24};
  static constexpr std::chrono::milliseconds between_attempts{100};

  void start_thread_locked();
  bool try_start_thread_locked() noexcept;

  /// Reads the clock and starts the ticks.
  SINGLEFLIGHT_BODY time_point read_clock() noexcept override;

  /// Updates the coarse clock if a tick is due. `present` was read under the lock, which has been
  /// held since.
  void tick_locked(time_point present) noexcept;

  [[noreturn]] void work() noexcept;

  // ---- fork: a child does not have its thread ---------------------------------------------------
  SINGLEFLIGHT_COLD void hold() noexcept override {}  // holding the queue suffices
  SINGLEFLIGHT_COLD void release() noexcept override {}
  SINGLEFLIGHT_BODY void repair() noexcept override;
  SINGLEFLIGHT_BODY void go_on() noexcept override;

  timer_queue queue_;  // its lock guards the members below, except no_thread_until_ and clock_
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
/// Returns the process-wide timer.
steady_timer& the_steady_timer();

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE

#if !defined(SINGLEFLIGHT_COMPILED)
#include "singleflight/core/impl/steady_timer.hpp"
#endif
