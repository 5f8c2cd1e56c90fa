// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdint>
#include <stop_token>

#include "cli/interrupt.hpp"
#include "lab/hit_ratio/hit_ratio.hpp"

namespace singleflight::lab {

/// Calls `is_hit(key)` for each request in order, and returns the hits. Throws `interrupted` soon
/// after a stop request.
template <class IsHit>
cache_hits count_hits(const request_trace& trace, const std::stop_token& stop, IsHit is_hit) {
  cache_hits hits;
  spool<std::uint32_t>::cursor keys(trace.keys());
  spool<std::uint64_t>::cursor sizes(trace.sizes());
  const bool sized = trace.has_sizes();
  for (std::uint64_t i = 0; i < trace.requests(); ++i) {
    if (i % 65536 == 0 && stop.stop_requested()) throw cli::interrupted{};
    const auto bytes = sized ? sizes.next() : 0;
    if (!is_hit(keys.next())) continue;
    ++hits.requests;
    hits.bytes = std::min(hits.bytes + bytes, trace.all_bytes());  // which may be cut off
  }
  return hits;
}

}  // namespace singleflight::lab
