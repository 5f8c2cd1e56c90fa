// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "lab/backend/faulty_backend.hpp"
#include "lab/backend/guards.hpp"
#include "lab/backend/open_backend.hpp"
#include "lab/log_arguments.hpp"
#include "lab/protection/cache_settings.hpp"
#include "lab/replay/pacing.hpp"
#include "lab/simulation/load_times.hpp"
#include "lab/workload/generator.hpp"

namespace CLI {
class App;
}

namespace singleflight::lab {

/// lab_arguments: the command line of `singleflight lab`, as it was typed.
struct lab_arguments : log_arguments {
  std::string generate, seed, requests;
  bool replay = false;
  std::string callers, rate, speed;
  std::string load_time, processes, fleet;
  std::string db, query, connections, backend, fail, slow;
  std::string protect, deadline;
  std::string capacity, ttl, refresh_after, stale_if_error;
  std::string retry, breaker, max_loads;
  std::string json, report;
};

/// Declares the options on `command`; parsing fills `arguments`.
void declare_options(CLI::App& command, lab_arguments& arguments);

/// How a log is simulated.
struct simulation_choice {
  std::optional<load_times> load_time;
  std::size_t processes = 1;
  bool one_fleet = false;
};

/// lab_options: the checked options. Each module receives only its own part.
struct lab_options {
  log_request log;  // an empty path: generate the workload
  generator generate;
  std::uint64_t seed = 1;
  std::uint64_t requests = 0;  // 0: not given
  bool all_requests = false;
  bool simulates_times = false;  // a log with times is simulated
  simulation_choice simulated;
  pacing pace;
  backend_choice backend;
  faults injected;
  std::vector<std::string> protections;  // empty: not given, see settle()
  std::optional<std::chrono::nanoseconds> deadline;
  guard_settings guards;
  std::optional<cache_settings> cache;    // if its options are given, or, after settle(), if a
                                          // protection is a cache
  const char* replay_only = nullptr;      // the first option that only a replay has
  const char* simulation_only = nullptr;  // the first option that only a simulation has
  std::string json;
  std::string report;
};

/// Checks the arguments, each alone and with the others. Throws usage_error.
lab_options check_options(const lab_arguments& arguments);

/// Completes the options once it is known whether the workload is simulated or replayed: the
/// protections, and the cache of those that have one. Throws usage_error for options that belong to
/// the other.
void settle(lab_options& options, bool simulated);

}  // namespace singleflight::lab
