// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <stop_token>
#include <vector>

#include "lab/simulation/simulator.hpp"

namespace singleflight::lab {

/// cache_sweep: what a cache saves at each of several ttls and capacities.
struct cache_sweep {
  std::vector<std::chrono::nanoseconds> ttls;  // ascending; the last one is 0: forever
  std::vector<std::size_t> capacities;         // ascending; the last one holds every key
  std::vector<std::vector<double>> saved;      // [capacity][ttl]: the share of the loads of `none`
  double sampled = 1;                          // the share of the keys that was simulated

  std::size_t points() const { return ttls.size() * capacities.size(); }
};

/// The ttls and capacities of a sweep over a log with so many keys.
cache_sweep sweep_for(std::size_t distinct_keys);

/// Simulates a cache without refreshes and stale answers at each point. If there are more than
/// `request_limit` besides those for the hottest keys, they are represented by those of a sample of
/// the other keys, by hash, and the capacities are scaled accordingly. `done` counts the points.
/// Throws `interrupted` soon after a stop request.
cache_sweep sweep_cache(const simulation& what, std::size_t request_limit,
                        const std::stop_token& stop, std::atomic<std::uint64_t>& done);

}  // namespace singleflight::lab
