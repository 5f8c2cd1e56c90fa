// SPDX-License-Identifier: Apache-2.0
#pragma once

/// limits: the bounds of one wait: a deadline, a stop token, and the load that the wait belongs to.
///
/// Threads     a value; any thread may request a stop.
/// Cancel      if a limit has expired already, the call ends at once, before it begins anything.
/// Errors      the wait ends as timed_out or as cancelled; if both apply, as cancelled.

#include <chrono>
#include <optional>

#include "singleflight/core/errors.hpp"
#include "singleflight/core/support/stop_token.hpp"
#include "singleflight/core/support/thread_state.hpp"
#include "singleflight/core/timer.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE

class flight_context;

/// Names the load that a call belongs to; constructed from the load's flight_context.
class within_ref {
 public:
  constexpr within_ref() noexcept = default;
  within_ref(const flight_context& context) noexcept;
  const detail::led_frame* frame = nullptr;
};

/// Bounds one wait. They do not interrupt a caller that leads: its load may read the deadline, and
/// a stop ends only the caller's interest in the answer.
struct limits {
  std::chrono::steady_clock::time_point deadline = std::chrono::steady_clock::time_point::max();
  std::stop_token stop{};
  within_ref within{};  ///< the load that this call belongs to, for the detection of cycles
};

namespace detail {
/// Returns the error of a call whose limits have expired before it begins, if they have. Reads the
/// clock only if there is a deadline.
inline std::optional<flight_errc> expired(const limits& bounds, const timer& clock) noexcept {
  if (platform::stop_requested(bounds.stop)) return flight_errc::cancelled;
  if (bounds.deadline != steady_time::max() && clock.now() >= bounds.deadline) {
    return flight_errc::timed_out;
  }
  return std::nullopt;
}
}  // namespace detail

SINGLEFLIGHT_END_NAMESPACE
