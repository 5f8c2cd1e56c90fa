// SPDX-License-Identifier: Apache-2.0
#pragma once

// lifetimes: how the durations of the options are checked and converted.

#include <algorithm>
#include <stdexcept>
#include <string>

#include "singleflight/cache/detail/lifetimes.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

SINGLEFLIGHT_COLD SINGLEFLIGHT_BODY cache_ticks lifetimes::checked(const char* name,
                                                                   std::chrono::nanoseconds given) {
  if (given.count() < 0) {
    throw std::invalid_argument(std::string("loading_cache: ") + name + " is negative (" +
                                std::to_string(given.count()) + " ns)");
  }
  return to_ticks(given);
}

SINGLEFLIGHT_COLD SINGLEFLIGHT_BODY lifetimes::lifetimes(const given& options)
    : ttl_(checked("ttl", options.ttl)),
      refresh_after_(checked("refresh_after", options.refresh_after)),
      stale_for_(checked("stale_if_error", options.stale_if_error)),
      negative_ttl_(checked("negative_ttl", options.negative_ttl)),
      error_ttl_(checked("error_ttl", options.error_ttl)),
      retry_after_(checked("retry_after", options.retry_after)),
      max_retry_after_(checked("max_retry_after", options.max_retry_after)),
      jitter_(options.jitter),
      plain_ttl_(ttl_ == 0 ? never : ttl_),
      seed_(static_cast<std::uint32_t>(options.seed) | 1),
      per_value_(options.per_value) {
  checked("soft_timeout", options.soft_timeout);
  if (!(options.jitter >= 0 && options.jitter <= 1)) {
    throw std::invalid_argument("loading_cache: jitter " + std::to_string(options.jitter) +
                                " is not in [0, 1]");
  }
  shortest_ = part_of(ttl_, jitter_);
  if (options.soft_timeout.count() > 0 && stale_for_ == 0) {
    throw std::invalid_argument(
        "loading_cache: soft_timeout serves stale values, and stale_if_error, for how long they "
        "are kept, is zero");
  }
  if (max_retry_after_ < retry_after_) max_retry_after_ = retry_after_;
  young_for_ = per_value_ ? 0 : plain_ttl_ - shortest_;
  if (refresh_after_ > 0 && refresh_after_ < young_for_) young_for_ = refresh_after_;
}

SINGLEFLIGHT_BODY std::chrono::nanoseconds lifetimes::sweep_interval() const noexcept {
  cache_ticks shortest = never;
  for (const cache_ticks time : {ttl_ > 0 ? ttl_ + stale_for_ : 0, negative_ttl_, error_ttl_}) {
    if (time > 0) shortest = std::min(shortest, time);
  }
  const cache_ticks second = to_ticks(std::chrono::nanoseconds(std::chrono::seconds(1)));
  if (shortest == never || shortest / 4 < second) return from_ticks(second);
  return from_ticks(shortest / 4 < 60 * second ? shortest / 4 : 60 * second);
}

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE
