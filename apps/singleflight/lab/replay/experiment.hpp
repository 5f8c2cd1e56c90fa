// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "lab/backend/backend.hpp"
#include "lab/backend/guards.hpp"
#include "lab/protection/cache_settings.hpp"
#include "lab/replay/callers.hpp"
#include "lab/replay/load_series.hpp"
#include "lab/replay/pacing.hpp"
#include "lab/replay/recorder.hpp"
#include "lab/workload/workload.hpp"

namespace singleflight::lab {

/// The parameters that all protections of an experiment share.
struct experiment {
  const workload& requests;
  const pacing& pace;
  std::optional<std::chrono::nanoseconds> deadline =
      {};  // of each caller, from when it begins to wait
  guard_settings guards = {};
  cache_settings cache = {};  // of the protection `cache`
};

/// The results of one protection.
struct run_result {
  std::string protection;
  tally seen;
  std::uint64_t backend_loads = 0;
  guard_counts guards;
  std::optional<cache_counts> cached;  // if it is a cache
  load_series loads_in_flight;
  calling calls;
  std::chrono::nanoseconds wall{0};
  bool complete = true;  // false: stopped early; these are the results up to that point

  /// Answered requests per second.
  double answers_per_s() const;
};

/// Replays the workload through one protection with new guards. An answer that arrives after the
/// caller's deadline counts as timed out under every protection, because the caller would have
/// left. After `stop` the backend must not be used again. `done` counts the finished requests.
run_result measure(const experiment& what, const std::string& protection, backend& measured,
                   const std::stop_token& stop, std::atomic<std::uint64_t>& done);

/// Measures how many loads per second the backend answers for `callers` concurrent callers, with
/// loads from all over the workload, for about a third of a second. This also fills the caches of
/// the backend, so that the first protection has no disadvantage.
double probe(backend& measured, const workload& requests, std::size_t callers,
             const std::stop_token& stop);

/// Measures how long single loads take, one after the other, with keys from all over the workload,
/// for about a third of a second. Failed loads count as well; empty if none has ended.
std::vector<std::chrono::nanoseconds> time_loads(backend& measured, const workload& requests,
                                                 const std::stop_token& stop);

}  // namespace singleflight::lab
