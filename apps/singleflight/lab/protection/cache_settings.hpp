// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>

namespace singleflight::lab {

/// cache_settings: the settings of the protection `cache`; a duration of zero turns its feature
/// off.
struct cache_settings {
  std::size_t capacity = 10'000;  // entries
  std::chrono::nanoseconds ttl{0};
  std::chrono::nanoseconds refresh_after{0};
  std::chrono::nanoseconds stale_if_error{0};

  /// A description for people: "at most 10,000 entries; ...".
  std::string describe() const;
};

/// cache_counts: what a cache did. Each request is a hit, a stale answer or a miss.
struct cache_counts {
  std::uint64_t hits = 0;
  std::uint64_t stale = 0;      // returned because the load of the expired entry failed
  std::uint64_t misses = 0;     // ran a load or waited for one
  std::uint64_t refreshes = 0;  // loads in the background of a hit
  std::uint64_t failed = 0;     // failed loads
  std::uint64_t expired = 0;    // entries that expired
  std::uint64_t evicted = 0;    // entries removed to stay within the capacity
};

}  // namespace singleflight::lab
