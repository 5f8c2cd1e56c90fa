// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <stop_token>

#include "lab/hit_ratio/request_trace.hpp"

namespace singleflight::lab {

/// The requests that a cache answered, and the sizes of these answers together.
struct cache_hits {
  std::uint64_t requests = 0;
  std::uint64_t bytes = 0;

  bool operator==(const cache_hits&) const = default;
};

// Each function returns the hits of a trace in a cache of `capacity` entries that is empty at
// first. It throws `interrupted` soon after a stop request, and as temporary_file does. Its memory
// depends on the number of distinct keys, not of requests.

/// The library's own loading_cache.
cache_hits hits_of_loading_cache(const request_trace& trace, std::size_t capacity,
                                 const std::stop_token& stop);

/// A cache that evicts the least recently used entry.
cache_hits hits_of_lru(const request_trace& trace, std::size_t capacity,
                       const std::stop_token& stop);

/// next_requests: for each request of a trace, the index of the next request for its key; `never`
/// if there is none.
class next_requests {
 public:
  static constexpr auto never = std::numeric_limits<std::uint32_t>::max();

  next_requests(const request_trace& trace, const std::stop_token& stop);

  /// Reads them from the first one on.
  class cursor {
   public:
    explicit cursor(const next_requests& of)
        : values_(of.from_last_, spool<std::uint32_t>::cursor::direction::backwards) {}
    std::uint32_t next() { return values_.next(); }

   private:
    spool<std::uint32_t>::cursor values_;
  };

 private:
  spool<std::uint32_t> from_last_;  // those of the last request first, as they are found
};

/// A cache that evicts the entry whose next request is the latest, or that is never requested
/// again, which may be the new entry (Belady, "A study of replacement algorithms for a
/// virtual-storage computer", 1966). No cache has more hits; if sizes differ, another one may have
/// hits of more bytes.
cache_hits hits_of_optimum(const request_trace& trace, const next_requests& next,
                           std::size_t capacity, const std::stop_token& stop);

}  // namespace singleflight::lab
