// SPDX-License-Identifier: Apache-2.0
#pragma once

// retry_bounds: what retry and start_retry share: whether anything may begin, how an attempt is
// called, and what follows a failed attempt.

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <exception>
#include <functional>
#include <optional>
#include <stdexcept>
#include <type_traits>

#include "singleflight/core/default_timer.hpp"
#include "singleflight/core/limits.hpp"
#include "singleflight/core/outcome.hpp"
#include "singleflight/core/support/signature.hpp"
#include "singleflight/core/support/stop_token.hpp"
#include "singleflight/sync/detail/retry_schedule.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

inline timer& clock_of(const retry_policy& policy) noexcept {
  return policy.timer != nullptr ? *policy.timer : default_timer();
}

/// Returns when the retries of a call must be over, or why nothing may begin. Throws for a policy
/// with a value out of range, or one that might never end.
inline outcome<steady_time> end_of(const retry_policy& policy, const limits& bounds) {
  check_policy(policy);
  if (platform::stop_requested(bounds.stop)) return flight_errc::cancelled;
  const bool bounded = bounds.deadline != steady_time::max();
  if (!bounded && policy.budget.count() == 0) {
    if (policy.max_attempts == 0 && !bounds.stop.stop_possible()) [[unlikely]] {
      throw std::invalid_argument(
          "retry: max_attempts 0 has no bound; give a budget, a deadline or a stop token as well");
    }
    return steady_time::max();
  }
  const steady_time now = clock_of(policy).now();
  if (bounded && now >= bounds.deadline) return flight_errc::timed_out;
  if (policy.budget.count() == 0) return bounds.deadline;
  return std::min(bounds.deadline, deadline_after(now, policy.budget));
}

/// Makes one attempt and returns its result as it is. A function whose parameter would truncate the
/// attempt's number does not compile.
template <class Fn>
decltype(auto) call_attempt(Fn& fn, std::uint32_t attempt) {
  if constexpr (std::is_invocable_v<Fn&>) {
    return std::invoke(fn);
  } else if constexpr (std::is_invocable_v<Fn&, std::uint32_t>) {
    return detail::invoke_whole(fn, attempt);
  }
}

inline constexpr steady_time at_once = steady_time::min();

/// Called when an attempt has failed with `error`: returns when the next one is due, or how the
/// call ends. Throws what the policy's functions throw.
inline outcome<steady_time> next_attempt(const retry_policy& policy, retry_schedule& schedule,
                                         const std::exception_ptr& error,
                                         const std::stop_token& stop) {
  if (schedule.is_last()) return error;
  if (platform::stop_requested(stop)) return flight_errc::cancelled;
  timer& clock = clock_of(policy);
  const steady_time now = clock.now();
  const auto delay = schedule.after(error, now);
  if (!delay) return error;
  // The policy's functions have taken time of their own.
  if (platform::stop_requested(stop)) return flight_errc::cancelled;
  if (schedule.is_over(clock.now())) return error;
  if (delay->count() == 0) return at_once;
  // Not max(), which is no deadline: a clock at its end would not end the sleep.
  return std::min(deadline_after(now, *delay), steady_time::max() - std::chrono::nanoseconds(1));
}

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE
