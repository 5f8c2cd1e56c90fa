// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>

namespace singleflight::lab {

/// cache_settings: what the protection `cache` is to be; zero: not so.
struct cache_settings {
  std::size_t capacity = 10'000;  // entries
  std::chrono::nanoseconds ttl{0};
  std::chrono::nanoseconds refresh_after{0};
  std::chrono::nanoseconds stale_if_error{0};

  /// "at most 10,000 entries; ...", for people.
  std::string describe() const;
};

/// cache_counts: what a cache did. A request that asks it ends in one of three:
/// a hit, a stale answer, a miss.
struct cache_counts {
  std::uint64_t hits = 0;
  std::uint64_t stale = 0;      // no longer fresh, but its load has failed
  std::uint64_t misses = 0;     // led a load, or waited for one
  std::uint64_t refreshes = 0;  // loads behind a hit
  std::uint64_t failed = 0;     // loads
  std::uint64_t expired = 0;    // entries
  std::uint64_t evicted = 0;    // entries, to keep to the capacity
};

}  // namespace singleflight::lab
