// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <stop_token>
#include <vector>

#include "lab/workload/workload.hpp"

namespace singleflight::lab {

// Each function returns how many requests of a workload are hits in a cache of `capacity` entries
// that is empty at first. It throws `interrupted` soon after a stop request.

/// The library's own loading_cache.
std::uint64_t hits_of_loading_cache(const workload& requests, std::size_t capacity,
                                    const std::stop_token& stop);

/// A cache that evicts the least recently used entry.
std::uint64_t hits_of_lru(const workload& requests, std::size_t capacity,
                          const std::stop_token& stop);

/// A cache that evicts the entry whose next request is the latest, or that is never requested
/// again, which may be the new entry (Belady, "A study of replacement algorithms for a
/// virtual-storage computer", 1966). No cache has more hits.
std::uint64_t hits_of_optimum(const workload& requests, std::size_t capacity,
                              const std::stop_token& stop);

}  // namespace singleflight::lab
