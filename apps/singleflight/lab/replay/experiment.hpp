// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <optional>
#include <stop_token>
#include <string>

#include "lab/backend/backend.hpp"
#include "lab/backend/guards.hpp"
#include "lab/protection/cache_settings.hpp"
#include "lab/replay/callers.hpp"
#include "lab/replay/load_series.hpp"
#include "lab/replay/pacing.hpp"
#include "lab/replay/recorder.hpp"
#include "lab/workload/workload.hpp"

namespace singleflight::lab {

/// What is the same for every protection.
struct experiment {
  const workload& requests;
  const pacing& pace;
  std::optional<std::chrono::nanoseconds> deadline = {};  // of each caller, since it waits
  guard_settings guards = {};
  cache_settings cache = {};  // of the protection `cache`
};

/// What one protection did with it.
struct run_result {
  std::string protection;
  tally seen;
  std::uint64_t backend_loads = 0;
  guard_counts guards;
  std::optional<cache_counts> cached;  // of a cache
  load_series loads_in_flight;
  calling calls;
  std::chrono::nanoseconds wall{0};
  bool complete = true;  // false: broken off, these are the results until then

  /// Requests that were answered, per second.
  double answers_per_s() const;
};

/// Replays the workload through one protection, and guards of its own. An answer that comes after
/// its caller's deadline counts as timed out, under every protection: the caller has gone by then.
/// After `stop` the backend can be used no more. `done` counts along.
run_result measure(const experiment& what, const std::string& protection, backend& measured,
                   const std::stop_token& stop, std::atomic<std::uint64_t>& done);

/// Loads per second that the backend gives `callers` at a time; for about a third of a second it
/// runs loads spread over the workload. Also warms what there is to warm, so that the first
/// protection does not pay for the second.
double probe(backend& measured, const workload& requests, std::size_t callers,
             const std::stop_token& stop);

}  // namespace singleflight::lab
