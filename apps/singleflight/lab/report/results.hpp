// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "lab/backend/faulty_backend.hpp"
#include "lab/backend/guards.hpp"
#include "lab/replay/experiment.hpp"

namespace singleflight::lab {

/// results: all that the outputs say.
struct results {
  std::string workload;  // in words
  std::uint64_t requests = 0;
  std::uint64_t distinct_keys = 0;
  std::uint64_t skipped_lines = 0;  // malformed ones of the log
  std::optional<std::uint64_t> seed;
  std::string pacing;
  std::string backend;
  std::string query;
  std::size_t connections = 0;
  faults injected;
  std::optional<std::chrono::nanoseconds> deadline;
  guard_settings guards;
  std::optional<cache_settings> cache;  // if there is a run with one
  std::string machine;
  std::string version;
  bool interrupted = false;
  std::vector<run_result> runs;
};

/// The table on a terminal, another one of what the guards did, and what is worth noting beneath.
/// 100 columns or so.
std::string to_table(const results& all);

/// {"workload": {...}, "machine": ..., "runs": [{"protection": ..., "requests": ...,
/// "backend_loads": ..., "saved": ..., "peak_loads": ..., "errors": {"timed_out": 3}, "latency_ms":
/// {"p50", "p99", "p999", "max"}, "requests_per_s": ..., "wall_s": ..., ...}]}
///
/// requests        that finished, failed ones included; latency_ms is of them all
/// saved           requests that another request's load served: requests - backend_loads, less
///                 those that gave up or were refused without a load; with retries, a request
///                 may have cost several loads, and a refresh is a load that no request waits for
/// peak_loads      the most loads at once, waiting for a connection included, for a turn not
/// guards          what the guards did, where there are any: those of guard_counts that apply
/// cache           what the cache did, of a run with one: cache_counts
/// requests_per_s  answered requests, failed ones not included
/// series          loads in flight: mean and most in intervals of interval_ms
/// latencies       of the requests: [from_ms, to_ms, count] of each bucket that holds any
nlohmann::ordered_json to_json(const results& all);

/// The page.
std::string to_html(const results& all);

}  // namespace singleflight::lab
