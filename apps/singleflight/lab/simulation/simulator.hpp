// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "lab/backend/faulty_backend.hpp"
#include "lab/protection/cache_settings.hpp"
#include "lab/simulation/load_times.hpp"
#include "lab/simulation/log_profile.hpp"
#include "lab/workload/timed_trace.hpp"

namespace singleflight::lab {

/// simulation: what is simulated, the same for each protection.
struct simulation {
  const timed_trace& trace;  // with times
  const log_profile& profile;
  load_times times;
  faults injected = {};
  std::uint64_t seed = 1;
  /// Each process has a group and a cache of its own; the requests are dealt to them in turn.
  std::size_t processes = 1;
  cache_settings cache = {};
};

/// What one protection did with the requests. Each request leads a load, joins one, or gets an
/// answer of the cache.
struct simulated_run {
  std::string protection;
  std::uint64_t requests = 0;  // fewer than the log has if it was stopped
  std::uint64_t loads = 0;     // that began, including those behind a hit
  std::uint64_t joins = 0;     // requests that joined a load
  std::uint64_t failed = 0;    // requests that got the error of a load
  std::uint64_t failed_loads = 0;
  std::uint64_t peak_loads = 0;  // the most at once
  std::optional<cache_counts> cached;
  // By hour, by hot key and by stampede, in the order of the log_profile.
  std::vector<std::uint64_t> loads_by_hour;
  std::vector<std::uint64_t> loads_of_hottest;
  std::vector<std::uint64_t> loads_let_through;
  bool complete = true;  // if not, the counts by hour, key and stampede mean nothing

  /// How many fewer loads there were than requests; negative if there were more, which refreshes
  /// can cause.
  std::int64_t saved() const {
    return static_cast<std::int64_t>(requests) - static_cast<std::int64_t>(loads);
  }
};

/// Simulates a protection (protection_names()) on the log's own clock. At each moment the loads
/// that are over end before the requests that arrive then. The library's group and loading_cache
/// decide what a request does. `done` counts the requests, in large steps; after a stop request the
/// run is not complete.
simulated_run simulate(const simulation& what, std::string_view protection,
                       const std::stop_token& stop, std::atomic<std::uint64_t>& done);

}  // namespace singleflight::lab
