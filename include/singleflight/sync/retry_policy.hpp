// SPDX-License-Identifier: Apache-2.0
#pragma once

/// retry_policy: how often, how fast and for how long a call is retried.

#include <chrono>
#include <cstdint>
#include <exception>
#include <functional>

#include "singleflight/core/support/random.hpp"
#include "singleflight/core/support/signature.hpp"
#include "singleflight/core/timer.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE

/// The delay after attempt n is random in [0, min(cap, base * multiplier^(n-1))]. The defaults of
/// attempts, cap and multiplier are those of the AWS SDKs' standard mode.
struct retry_policy {
  /// The most calls, including the first. If zero, there is no bound; then a budget, a deadline or
  /// a stop token is required.
  std::uint32_t max_attempts = 3;
  std::chrono::nanoseconds base = std::chrono::milliseconds(100);
  double multiplier = 2;
  std::chrono::nanoseconds cap = std::chrono::seconds(20);
  /// The total time, including attempts and the functions below; if zero, there is no bound. No
  /// sleep begins that would not end before it, and no attempt begins after it; none is
  /// interrupted. Costs a clock read.
  std::chrono::nanoseconds budget{0};
  /// Whether this exception, or error of an outcome that was returned, is worth another attempt; if
  /// empty, every one is. Called after each attempt but the last, unless a stop was requested.
  std::function<bool(const std::exception_ptr& error)> retry_if{};
  /// Called before each sleep with the attempt (from 1 on) that failed, its error, and how long the
  /// sleep will be.
  detail::whole_function<void(std::uint32_t attempt, const std::exception_ptr& error,
                              std::chrono::nanoseconds delay)>
      on_retry{};
  /// Returns 64 random bits; if empty, they come from a generator of the calling thread.
  detail::random_source random{};
  /// The timer of sleeps and bounds; if null, default_timer().
  singleflight::timer* timer = nullptr;
};

SINGLEFLIGHT_END_NAMESPACE
