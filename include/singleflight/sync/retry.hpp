// SPDX-License-Identifier: Apache-2.0
#pragma once

/// retry: calls a function again while it throws, after growing random delays.
///
/// Use when    a call fails now and then for transient reasons, and calling twice does no harm.
/// Not for     a backend that is down: put a circuit_breaker inside, and do not retry its
///             `rejected`; several layers: retries multiply, so retry in one of them only; a
///             coroutine: start_retry (sync/start_retry.hpp).
/// Example     examples/12_retry_and_breaker.cpp
///
/// Threads     from any thread; only what the policy refers to is shared.
/// Blocking    sleeps on the calling thread between attempts; with a zero delay it does not.
/// Cancel      a stop ends a sleep at once, and no attempt begins after it: flight_error cancelled.
///             A deadline, or the policy's budget, does not interrupt an attempt, but no sleep
///             begins that would not end before it: the last exception is thrown instead. A limit
///             that has already expired: flight_error, cancelled or timed_out, and no attempt.
/// Errors      the last attempt's exception, with its own type, or its outcome without a value;
///             std::invalid_argument for a policy with a value out of range, or one that might
///             never end. An exception of retry_if, on_retry or random ends it. The end of the
///             thread (pthread_exit) is never retried.
/// Lifetime    policy, function and limits are borrowed for the call.
/// Cost        an attempt that succeeds: a few compares; no allocation, and no clock unless there
///             is a deadline or a budget.

#include <cstdint>
#include <exception>
#include <optional>
#include <type_traits>
#include <utility>

#include "singleflight/core/errors.hpp"
#include "singleflight/core/limits.hpp"
#include "singleflight/core/outcome.hpp"
#include "singleflight/core/support/sleeper.hpp"
#include "singleflight/core/support/stop_token.hpp"
#include "singleflight/sync/detail/retry_bounds.hpp"
#include "singleflight/sync/detail/retry_schedule.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

/// Called after an attempt that failed with `error`: sleeps and returns true when the next one is
/// due. Returns false if there is none: `error` is then the result.
SINGLEFLIGHT_COLD inline bool sleep_before_next(const retry_policy& policy,
                                                retry_schedule& schedule,
                                                const std::exception_ptr& error,
                                                const std::stop_token& stop) {
  const outcome<steady_time> next = next_attempt(policy, schedule, error, stop);
  if (const auto code = detail::code_of(next)) throw flight_error(*code);
  if (!next) return false;
  settle_promises();
  if (*next == at_once) return true;
  sleeper sleep(clock_of(policy), *next, stop);
  if (sleep.sleep() == wait_verdict::cancelled) throw flight_error(flight_errc::cancelled);
  return true;
}

/// retry for a function that returns an outcome: one without a value is a failed attempt too.
template <class Fn>
auto retry_outcomes(const retry_policy& policy, Fn& fn, retry_schedule& schedule,
                    const std::stop_token& stop) {
  using result = std::remove_cvref_t<decltype(detail::call_attempt(fn, std::uint32_t{}))>;
  for (;;) {
    std::optional<result> returned;
    std::exception_ptr error;
    try {
      returned.emplace(detail::call_attempt(fn, schedule.attempt()));
      error = returned->exception();
    } catch (...) {
      if (platform::is_thread_exit()) throw;
      error = std::current_exception();
    }
    if (error == nullptr || !sleep_before_next(policy, schedule, error, stop)) {
      if (!returned) std::rethrow_exception(std::move(error));
      return *std::move(returned);
    }
  }
}

}  // namespace detail

/// Calls `fn()` or `fn(attempt)`, with the number of the attempt from 1 on, until it returns, and
/// returns its result as it is. An outcome without a value is a failed attempt: the last one is
/// returned (an outcome always by value).
template <class Fn>
decltype(auto) retry(const retry_policy& policy, Fn&& fn, const limits& bounds = {}) {
  static_assert(std::is_invocable_v<Fn&> || std::is_invocable_v<Fn&, std::uint32_t>,
                "singleflight: retry needs a function that takes nothing, or the attempt's number");
  detail::retry_schedule schedule(policy, detail::end_of(policy, bounds).value());
  if constexpr (detail::is_outcome<decltype(detail::call_attempt(fn, std::uint32_t{}))>) {
    return detail::retry_outcomes(policy, fn, schedule, bounds.stop);
  } else {
    for (;;) {
      try {
        return detail::call_attempt(fn, schedule.attempt());
      } catch (...) {
        if (detail::platform::is_thread_exit()) throw;
        if (!detail::sleep_before_next(policy, schedule, std::current_exception(), bounds.stop)) {
          throw;
        }
      }
    }
  }
}

SINGLEFLIGHT_END_NAMESPACE
