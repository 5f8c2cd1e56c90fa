// SPDX-License-Identifier: Apache-2.0
#pragma once

// retry_schedule: decides after a failed attempt how long to sleep, or to give up. It waits for
// nothing and reads no clock, so blocking and awaited retries share it.

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <exception>
#include <limits>
#include <optional>
#include <stdexcept>
#include <string>

#include "singleflight/core/support/random.hpp"
#include "singleflight/core/timer.hpp"
#include "singleflight/sync/retry_policy.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

SINGLEFLIGHT_COLD inline void refuse_policy(const retry_policy& p) {
  const auto ns = [](std::chrono::nanoseconds d) { return std::to_string(d.count()) + " ns"; };
  std::string why;
  if (p.base.count() < 0) {
    why = "base " + ns(p.base) + " is negative";
  } else if (p.cap < p.base) {
    why = "cap " + ns(p.cap) + " is less than base " + ns(p.base);
  } else if (p.budget.count() < 0) {
    why = "budget " + ns(p.budget) + " is negative; zero means no budget";
  } else {
    why = "multiplier " + std::to_string(p.multiplier) +
          " is not a finite number of at least 1: delays must not shrink";
  }
  throw std::invalid_argument("retry: " + why);
}

/// Throws std::invalid_argument for a value out of range.
inline void check_policy(const retry_policy& p) {
  if (p.base.count() < 0 || p.cap < p.base || p.budget.count() < 0 ||
      !(p.multiplier >= 1 && p.multiplier <= std::numeric_limits<double>::max())) [[unlikely]] {
    refuse_policy(p);
  }
}

class retry_schedule {
 public:
  /// `end` is when the budget or the caller's deadline is over, whichever comes first; max() if
  /// never. Requires a policy that passes check_policy; it is kept by reference.
  retry_schedule(const retry_policy& policy, steady_time end) noexcept
      : policy_(policy), end_(end), ceiling_(static_cast<double>(policy.base.count())) {}

  /// Returns the number of the attempt that is under way, from 1 on.
  std::uint32_t attempt() const noexcept { return attempt_; }
  bool is_last() const noexcept {
    return policy_.max_attempts != 0 && attempt_ >= policy_.max_attempts;
  }
  bool is_over(steady_time now) const noexcept { return end_ != steady_time::max() && now >= end_; }

  /// Called when the attempt has failed with `error` at `now`: returns how long to sleep before the
  /// next one, or nothing to give up. Calls the policy's retry_if, random and on_retry, in this
  /// order.
  std::optional<std::chrono::nanoseconds> after(const std::exception_ptr& error, steady_time now) {
    if (is_last()) return std::nullopt;
    if (policy_.retry_if && !policy_.retry_if(error)) return std::nullopt;
    const std::chrono::nanoseconds delay = next_delay();
    // A sleep that ends at the limit has no time left for an attempt.
    const bool bounded = end_ != steady_time::max();
    if (is_over(now) || (bounded && delay >= time_between(now, end_))) return std::nullopt;
    if (policy_.on_retry) policy_.on_retry(attempt_, error, delay);
    ++attempt_;
    return delay;
  }

 private:
  /// Exponential backoff with full jitter (Marc Brooker, "Exponential Backoff And Jitter", AWS
  /// Architecture Blog, 2015).
  std::chrono::nanoseconds next_delay() {
    const std::int64_t cap = policy_.cap.count();
    // The cast is only made where the value is in range.
    const std::int64_t most =
        ceiling_ < static_cast<double>(cap) ? static_cast<std::int64_t>(ceiling_) : cap;
    ceiling_ = std::min(ceiling_ * policy_.multiplier, static_cast<double>(cap));
    const std::uint64_t bits = policy_.random ? policy_.random() : random_bits();
    return std::chrono::nanoseconds(random_up_to(most, bits));
  }

  const retry_policy& policy_;
  const steady_time end_;
  double ceiling_;  // of the next delay, in ns, before the cap
  std::uint32_t attempt_ = 1;
};

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE
