// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "lab/backend/faulty_backend.hpp"
#include "lab/protection/cache_settings.hpp"
#include "lab/simulation/advice.hpp"
#include "lab/simulation/log_profile.hpp"
#include "lab/simulation/simulator.hpp"
#include "lab/simulation/sweep.hpp"

namespace singleflight::lab {

/// simulation_results: everything that the outputs of a simulation show.
struct simulation_results {
  std::string workload;  // a description
  std::uint64_t requests = 0;
  std::uint64_t distinct_keys = 0;
  std::uint64_t skipped_lines = 0;       // malformed lines of the log
  std::uint64_t other_methods = 0;       // requests of the log that were left out
  std::uint64_t failed_answers = 0;      // requests that the log says were answered with a 5xx
  std::uint64_t not_modified = 0;        // and with a 304
  std::chrono::nanoseconds began{0};     // workload::began
  std::chrono::nanoseconds duration{0};  // from the first request to the last
  std::optional<std::uint64_t> seed;
  std::string load_time;  // a description
  faults injected;
  std::size_t processes = 1;
  bool one_fleet = false;               // they share one group and one cache
  std::optional<cache_settings> cache;  // if a run has one
  bool cache_is_advised = false;        // its settings are those of the advice
  std::string version;
  bool interrupted = false;

  log_profile profile;
  std::vector<std::string> hot_names;       // as log_profile::hottest
  std::vector<std::string> stampede_names;  // as log_profile::stampedes
  std::vector<simulated_run> runs;
  std::optional<cache_sweep> sweep;  // if the simulation was not stopped
  chosen_point point;
  advice recommended;

  double requests_per_s() const;
  /// The runs that were not stopped, whose loads by hour, key and stampede can be shown.
  std::vector<const simulated_run*> complete_runs() const;
};

/// The share of the requests that needed no load; negative if there were more loads.
std::string show_saved(std::uint64_t requests, std::uint64_t loads);

/// "2024-03-01 14:00:05.120" in UTC, or, if the log counts from another moment, "+3661.5 s".
std::string show_moment(std::chrono::nanoseconds since_epoch, bool with_seconds);

/// The tables for a terminal (about 100 columns): the protections, what the caches did, hours, hot
/// keys, stampedes, the sweep, and the recommendation.
std::string to_table(const simulation_results& all);

/// {"workload": {...}, "version": ..., "interrupted": ..., "simulated": true, "runs":
/// [{"protection", "requests", "backend_loads", "saved", "joined", "peak_loads", "errors",
/// "complete", "cache"}], "hours": [...], "hot_keys": [...], "stampedes": [...], "sweep": {...},
/// "recommendation": {...}}
nlohmann::ordered_json to_json(const simulation_results& all);

/// The HTML report.
std::string to_html(const simulation_results& all);

}  // namespace singleflight::lab
