// SPDX-License-Identifier: Apache-2.0
#pragma once

/// retry_policy: how often, how fast and for how long a call is tried again.

#include <chrono>
#include <cstdint>
#include <exception>
#include <functional>

#include "singleflight/core/support/random.hpp"
#include "singleflight/core/support/signature.hpp"
#include "singleflight/core/timer.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE

/// The delay after attempt n is random in [0, min(cap, base * multiplier^(n-1))]. Attempts, cap and
/// multiplier are by default those of the AWS SDKs' standard mode.
struct retry_policy {
  /// Calls in all, the first one included. Zero: no bound; then a budget, a deadline or a stop
  /// token must end it.
  std::uint32_t max_attempts = 3;
  std::chrono::nanoseconds base = std::chrono::milliseconds(100);
  double multiplier = 2;
  std::chrono::nanoseconds cap = std::chrono::seconds(20);
  /// Time for all of it, attempts and the functions below included; zero: no bound. No sleep begins
  /// that would not end before, and no attempt begins after it; none is interrupted. Costs a clock
  /// call.
  std::chrono::nanoseconds budget{0};
  /// Whether this exception, or error of an outcome that was returned, is worth another attempt;
  /// empty: every one is. Asked after each attempt but the last, unless a stop has come.
  std::function<bool(const std::exception_ptr& error)> retry_if{};
  /// Hears before each sleep which attempt (from 1 on) failed, with what, and how long the sleep
  /// will be.
  detail::whole_function<void(std::uint32_t attempt, const std::exception_ptr& error,
                              std::chrono::nanoseconds delay)>
      on_retry{};
  /// 64 random bits; empty: a generator of the calling thread.
  detail::random_source random{};
  /// Time for sleeps and bounds; null: default_timer().
  singleflight::timer* timer = nullptr;
};

SINGLEFLIGHT_END_NAMESPACE
