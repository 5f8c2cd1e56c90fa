// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "lab/protection/cache_settings.hpp"
#include "lab/simulation/log_profile.hpp"
#include "lab/simulation/sweep.hpp"

namespace singleflight::lab {

/// The point of a sweep that is worth its memory and its age: the shortest ttl to which longer ones
/// add at most five percent of all loads, and there the smallest capacity to which larger ones add
/// at most two. Keeping answers forever is not a ttl to recommend.
struct chosen_point {
  std::size_t capacity_at = 0;  // in cache_sweep::capacities
  std::size_t ttl_at = 0;       // in cache_sweep::ttls

  cache_settings settings(const cache_sweep& of) const;
};
chosen_point choose(const cache_sweep& of);

/// advice: what to do, and why.
struct advice {
  std::string protection;            // "none", "flight" or "cache"
  std::vector<std::string> reasons;  // sentences; the first one is the recommendation
};

/// What the advice is derived from.
struct findings {
  const log_profile& profile;
  const cache_sweep& sweep;
  chosen_point point;
  std::uint64_t requests = 0;
  std::uint64_t joins = 0;  // requests that join a load under `flight`
  double flight_saves = 0;  // shares of the loads of `none`
  double cache_saves = 0;   // with the settings of the point, simulated with all keys
};
advice advise(const findings& from);

/// 0.1234 is "12.3 %".
std::string show_share(double share);

/// "10 s", "5 min", "1 h"; zero is "forever".
std::string show_ttl(std::chrono::nanoseconds ttl);

}  // namespace singleflight::lab
