// SPDX-License-Identifier: Apache-2.0
#pragma once

/// breaker_state, circuit_breaker_options, circuit_breaker_stats: what a circuit breaker is told,
/// and what it tells.

#include <chrono>
#include <cstdint>
#include <exception>
#include <functional>

#include "singleflight/core/timer.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE

enum class breaker_state : std::uint8_t {
  closed,     ///< calls are let through and counted
  open,       ///< calls are rejected
  half_open,  ///< a few calls, the probes, are let through; they decide what comes next
};

/// By default as Hystrix (window, min_calls, error_rate, open_for) and resilience4j (probes).
struct circuit_breaker_options {
  /// Opens when failures / calls in the window reach this; in (0, 1]. Looked at when a call has
  /// failed or was slow.
  double error_rate = 0.5;
  /// Opens when slow calls / calls reach this; in (0, 1]. Zero: calls are never too slow.
  double slow_call_rate = 0;
  /// A call that takes this long is slow, whether it fails or not; by the coarse clock, so to about
  /// a millisecond. Set with slow_call_rate.
  std::chrono::nanoseconds slow_call{0};
  /// Fewer calls in the window open nothing.
  std::uint32_t min_calls = 20;
  /// How far back calls count. It moves on in tenths.
  std::chrono::nanoseconds window = std::chrono::seconds(10);
  /// How long calls are rejected before probes are let through; not zero.
  std::chrono::nanoseconds open_for = std::chrono::seconds(5);
  /// How many results decide whether the breaker closes again, and how many calls may be out for
  /// them at a time. When all have been out for open_for, one call more is let through, and again
  /// after each open_for.
  std::uint32_t probes = 10;
  /// Whether this exception, thrown or in an outcome, speaks against the backend; empty: every one
  /// does. One that does not (a key not found) counts as a success. flight_error(cancelled) is
  /// never asked about: it counts neither way.
  std::function<bool(const std::exception_ptr& error)> is_failure{};
  /// Hears of each change, one at a time, in order, on the thread of a call, with no lock held; it
  /// must not throw. It may use the breaker. What changes while it runs it hears of afterwards;
  /// past 32 the oldest are lost.
  std::function<void(breaker_state from, breaker_state to)> on_change{};
  /// Time for everything; null: default_timer(). Outlives the breaker.
  singleflight::timer* timer = nullptr;
};

/// Totals since the breaker was made; exact when no call is under way.
struct circuit_breaker_stats {
  std::uint64_t calls = 0;     ///< that were let through and counted
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
