// SPDX-License-Identifier: Apache-2.0
#pragma once

// flight_stats: the counters of a group.

#include <cstddef>
#include <cstdint>

#include "singleflight/core/support/striped_counters.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

enum class counter : std::uint8_t {
  led,      // a run() that led: one call and one load
  started,  // a start that began a flight: one call
  joined,   // a call that joined
  refused,  // a call that was not admitted
  begun,    // a load that began, other than by `led`
  handed_over,
  abandoned,
  errors,  // + flight_errc: one per kind, 1..7
};

class flight_stats : public striped_counters {
 public:
  /// A code that is not one of the library's, which a load may throw, is not counted.
  template <class Errc>
  void add_error(Errc code, std::uint64_t n = 1) noexcept {
    const std::size_t kind = static_cast<std::size_t>(code);
    if (kind < 8) add(static_cast<std::size_t>(counter::errors) + kind, n);
  }
};

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE
