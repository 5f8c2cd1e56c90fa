// SPDX-License-Identifier: Apache-2.0
#pragma once

/// retry: calls a function again while it throws, after random delays that grow.
///
/// Use when    a call fails now and then for reasons that pass, and calling twice does no harm.
/// Not for     a backend that is down: put a circuit_breaker inside, and do not retry its
///             `rejected`; several layers: retries multiply, so retry in one of them.
/// Example     examples/12_retry_and_breaker.cpp
///
/// Threads     any; nothing is shared but what the policy refers to.
/// Blocking    sleeps on the calling thread between attempts; with a zero delay it does not.
/// Cancel      a stop ends a sleep at once, and no attempt begins after it:
///             flight_error(cancelled). A deadline, or the policy's budget, ends no attempt: but no
///             sleep begins that would not end before it, and the last exception is thrown instead.
///             A limit that is over beforehand: flight_error, cancelled or timed_out, and no
///             attempt.
/// Errors      the last attempt's exception, with its own type; std::invalid_argument for a policy
///             with a value out of range, or one that might never end. What retry_if, on_retry or
///             random throw ends it. The end of the thread (pthread_exit) is never retried.
/// Lifetime    policy, function and limits are borrowed for the call.
/// Cost        an attempt that succeeds: a few compares; no allocation, and no clock unless there
///             is a deadline or a budget.

#include <algorithm>
#include <cstdint>
#include <exception>
#include <functional>
#include <stdexcept>
#include <type_traits>
#include <utility>

#include "singleflight/core/default_timer.hpp"
#include "singleflight/core/detail/sleeper.hpp"
#include "singleflight/core/errors.hpp"
#include "singleflight/core/limits.hpp"
#include "singleflight/sync/detail/retry_schedule.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

inline timer& clock_of(const retry_policy& policy) noexcept {
  return policy.timer != nullptr ? *policy.timer : default_timer();
}

/// When the retries of a call must be over; throws when they are so beforehand, or might never be.
inline steady_time end_of(const retry_policy& policy, const limits& bounds) {
  check_policy(policy);
  if (platform::stop_requested(bounds.stop)) throw flight_error(flight_errc::cancelled);
  const bool bounded = bounds.deadline != steady_time::max();
  if (!bounded && policy.budget.count() == 0) {
    if (policy.max_attempts == 0 && !bounds.stop.stop_possible()) [[unlikely]] {
      throw std::invalid_argument(
          "retry: max_attempts 0 has no bound; give a budget, a deadline or a stop token as well");
    }
    return steady_time::max();
  }
  const steady_time now = clock_of(policy).now();
  if (bounded && now >= bounds.deadline) throw flight_error(flight_errc::timed_out);
  if (policy.budget.count() == 0) return bounds.deadline;
  return std::min(bounds.deadline, deadline_after(now, policy.budget));
}

/// After a failed attempt: false, give up; else the next one's time has come. Throws when stopped.
SINGLEFLIGHT_COLD inline bool try_again(const retry_policy& policy, retry_schedule& schedule,
                                        const std::exception_ptr& error,
                                        const std::stop_token& stop) {
  timer& clock = clock_of(policy);
  const steady_time now = clock.now();
  const auto delay = schedule.after(error, now);
  if (!delay) return false;
  if (platform::stop_requested(stop)) throw flight_error(flight_errc::cancelled);
  if (delay->count() == 0) return true;
  sleeper here(clock, deadline_after(now, *delay), stop);
  if (here.sleep() == wait_verdict::cancelled) throw flight_error(flight_errc::cancelled);
  return true;
}

}  // namespace detail

/// Calls `fn()` or `fn(attempt)`, with the number of the attempt from 1 on, until it returns; its
/// result is returned as it is.
template <class Fn>
decltype(auto) retry(const retry_policy& policy, Fn&& fn, const limits& bounds = {}) {
  static_assert(std::is_invocable_v<Fn&> || std::is_invocable_v<Fn&, std::uint32_t>,
                "singleflight: retry needs a function that takes nothing, or the attempt's number");
  detail::retry_schedule schedule(policy, detail::end_of(policy, bounds));
  for (;;) {
    try {
      if constexpr (std::is_invocable_v<Fn&>) {
        return std::invoke(fn);
      } else {
        return std::invoke(fn, schedule.attempt());
      }
    } catch (...) {
      if (detail::platform::is_thread_exit() ||
          !detail::try_again(policy, schedule, std::current_exception(), bounds.stop)) {
        throw;
      }
    }
  }
}

SINGLEFLIGHT_END_NAMESPACE
