// SPDX-License-Identifier: Apache-2.0
#pragma once

/// limits: what bounds one wait: a deadline, a stop token, and the load that it belongs to.
///
/// Threads     a value; the token may be asked to stop from any thread.
/// Cancel      limits that have expired already end the call at once, before anything is begun.
/// Errors      the wait ends as timed_out, or as cancelled; when both hold, as cancelled.

#include <chrono>
#include <optional>

#include "singleflight/core/errors.hpp"
#include "singleflight/core/support/stop_token.hpp"
#include "singleflight/core/support/thread_state.hpp"
#include "singleflight/core/timer.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE

class flight_context;

/// Names the load that a call belongs to; made from its flight_context.
class within_ref {
 public:
  constexpr within_ref() noexcept = default;
  within_ref(const flight_context& context) noexcept;
  const detail::led_frame* frame = nullptr;
};

/// Bounds one wait. A leader is not interrupted: its deadline is advice to its load, its stop token
/// withdraws its interest.
struct limits {
  std::chrono::steady_clock::time_point deadline = std::chrono::steady_clock::time_point::max();
  std::stop_token stop{};
  within_ref within{};  ///< the load that this call belongs to, for the detection of cycles
};

namespace detail {
/// Why a call with these limits is over before it has begun. The clock is read for a deadline only.
inline std::optional<flight_errc> expired(const limits& bounds, const timer& clock) noexcept {
  if (platform::stop_requested(bounds.stop)) return flight_errc::cancelled;
  if (bounds.deadline != steady_time::max() && clock.now() >= bounds.deadline) {
    return flight_errc::timed_out;
  }
  return std::nullopt;
}
}  // namespace detail

SINGLEFLIGHT_END_NAMESPACE
