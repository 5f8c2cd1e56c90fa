// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdint>

#include "singleflight/core/support/config.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

/// Returns how long to wait after a number of consecutive failures: `first` after one failure,
/// twice as long after each further one, at most `most`. Requires failures > 0 and 0 <= first <=
/// most.
template <class Duration>
constexpr Duration backoff(Duration first, std::uint32_t failures, Duration most) noexcept {
  Duration wait = first;
  for (std::uint32_t i = 1; i < failures && wait < most && wait != Duration{}; ++i) {
    wait += std::min(wait, most - wait);
  }
  return wait;
}

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE
