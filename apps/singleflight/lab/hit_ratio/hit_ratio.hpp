// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <stop_token>
#include <vector>

#include "lab/workload/workload.hpp"

namespace singleflight::lab {

/// How many of a workload's requests a cache of `capacity` entries, empty at first, answers itself.
/// The request that finds nothing loads, so it is no hit. All of these throw `interrupted` soon
/// after `stop`.

/// The library's own loading_cache, as its users have it.
std::uint64_t hits_of_loading_cache(const workload& requests, std::size_t capacity,
                                    const std::stop_token& stop);

/// Which entry goes: the least recently used.
std::uint64_t hits_of_lru(const workload& requests, std::size_t capacity,
                          const std::stop_token& stop);

/// Which one goes: the one that is asked for again last, or never, be it the newcomer (Belady, "A
/// study of replacement algorithms for a virtual-storage computer", 1966). No cache has more hits.
std::uint64_t hits_of_optimum(const workload& requests, std::size_t capacity,
                              const std::stop_token& stop);

}  // namespace singleflight::lab
