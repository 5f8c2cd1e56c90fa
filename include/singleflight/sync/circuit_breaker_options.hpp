// SPDX-License-Identifier: Apache-2.0
#pragma once

/// breaker_state, circuit_breaker_options, circuit_breaker_stats: states, options and statistics of
/// a circuit breaker.

#include <chrono>
#include <cstdint>
#include <exception>
#include <functional>

#include "singleflight/core/timer.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE

enum class breaker_state : std::uint8_t {
  closed,     ///< calls are admitted and counted
  open,       ///< calls are rejected
  half_open,  ///< a few calls, the probes, are admitted; their results decide the next state
};

/// The defaults are those of Hystrix (window, min_calls, error_rate, open_for) and resilience4j
/// (probes).
struct circuit_breaker_options {
  /// Opens when failures / calls in the window reach this; in (0, 1]. Checked when a call has
  /// failed or was slow.
  double error_rate = 0.5;
  /// Opens when slow calls / calls reach this; in (0, 1]. If zero, no call is too slow.
  double slow_call_rate = 0;
  /// A call that takes this long is slow, whether it fails or not; measured by the coarse clock, to
  /// about a millisecond. Set together with slow_call_rate.
  std::chrono::nanoseconds slow_call{0};
  /// With fewer calls in the window the breaker does not open.
  std::uint32_t min_calls = 20;
  /// How far back calls count. It advances in tenths.
  std::chrono::nanoseconds window = std::chrono::seconds(10);
  /// How long calls are rejected before probes are admitted; not zero.
  std::chrono::nanoseconds open_for = std::chrono::seconds(5);
  /// How many results decide whether the breaker closes again, and how many such calls may run at a
  /// time. If none of them ends within open_for, one more call is admitted, and then one after each
  /// further open_for.
  std::uint32_t probes = 10;
  /// Whether this exception, thrown or in an outcome, is a failure of the backend; if empty, every
  /// one is. One that is not (a key not found) counts as a success. It is not called for
  /// flight_error(cancelled), which counts neither way.
  std::function<bool(const std::exception_ptr& error)> is_failure{};
  /// Called for each change, one at a time, in order, on the thread of a call, with no lock held;
  /// must not throw. It may use the breaker. Changes made while it runs are reported afterwards;
  /// beyond 32 the oldest are lost, and `from` is still the state that was reported last.
  std::function<void(breaker_state from, breaker_state to)> on_change{};
  /// The clock of the breaker; if null, default_timer(). Outlives the breaker.
  singleflight::timer* timer = nullptr;
};

/// Totals since the breaker was made; exact when no call is under way.
struct circuit_breaker_stats {
  std::uint64_t calls = 0;     ///< calls that were admitted and counted
  std::uint64_t failures = 0;  ///< of these
  std::uint64_t slow = 0;      ///< of these, failed or not
  std::uint64_t rejected = 0;
  std::uint64_t opened = 0;  ///< how often the breaker opened

  /// Calls visit(name, value) for each counter.
  template <class Visit>
  void each(const Visit& visit) const {
    visit("calls", calls);
    visit("failures", failures);
    visit("slow", slow);
    visit("rejected", rejected);
    visit("opened", opened);
  }
};

SINGLEFLIGHT_END_NAMESPACE
