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

/// results: everything that the outputs show.
struct results {
  std::string workload;  // a description
  std::uint64_t requests = 0;
  std::uint64_t distinct_keys = 0;
  std::uint64_t skipped_lines = 0;  // malformed lines of the log
  std::optional<std::uint64_t> seed;
  std::string pacing;
  double log_rate = 0;  // requests a second by the log's own times; 0 if it has none
  std::string backend;
  std::string query;
  std::size_t connections = 0;
  faults injected;
  std::optional<std::chrono::nanoseconds> deadline;
  guard_settings guards;
  std::optional<cache_settings> cache;  // if a run has one
  std::string machine;
  std::string version;
  bool interrupted = false;
  std::vector<run_result> runs;
};

/// The table for a terminal (about 100 columns), tables of what the guards and the cache did, a
/// comparison with the first protection, and notes.
std::string to_table(const results& all);

/// {"workload": {...}, "machine": ..., "runs": [{"protection": ..., "requests": ...,
/// "backend_loads": ..., "saved": ..., "peak_loads": ..., "errors": {"timed_out": 3}, "latency_ms":
/// {"p50", "p99", "p999", "max"}, "requests_per_s": ..., "wall_s": ..., ...}]}
///
/// requests        finished requests, including failed ones; latency_ms covers all of them
/// saved           requests that the load of another request served: requests - backend_loads, less
///                 those that gave up or were refused without a load; with retries a request may
///                 cost several loads, and a refresh is a load that no request waits for
/// peak_loads      the most concurrent loads, including those that wait for a connection but not
///                 those that wait for a turn
/// guards          what the guards did, if there are any: the guard_counts that apply
/// cache           what the cache did, in a run with one: cache_counts
/// requests_per_s  answered requests, without failed ones
/// series          loads in flight: mean and maximum in intervals of interval_ms
/// latencies       of the requests: [from_ms, to_ms, count] of each bucket that is not empty
nlohmann::ordered_json to_json(const results& all);

/// The HTML report.
std::string to_html(const results& all);

}  // namespace singleflight::lab
