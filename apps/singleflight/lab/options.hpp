// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "lab/cache_settings.hpp"
#include "lab/faulty_backend.hpp"
#include "lab/generator.hpp"
#include "lab/guards.hpp"
#include "lab/line_format.hpp"
#include "lab/pacing.hpp"

namespace CLI {
class App;
}

namespace singleflight::lab {

/// lab_arguments: the command line of `singleflight lab`, as it was typed.
struct lab_arguments {
  std::string log, key_from, generate, seed, requests;
  std::string callers, rate, speed;
  std::string db, query, connections, backend, fail, slow;
  std::string protect, deadline;
  std::string capacity, ttl, refresh_after, stale_if_error;
  std::string retry, breaker, max_loads;
  std::string json, report;
};

/// Declares the options on `command`; parsing fills `arguments`.
void declare_options(CLI::App& command, lab_arguments& arguments);

/// lab_options: what they mean, checked.
struct lab_options {
  std::string log;  // empty: generate
  key_choice key;
  generator generate;
  std::uint64_t seed = 1;
  std::uint64_t requests = 0;  // 0: not said
  bool all_requests = false;
  pacing pace;
  std::string database;  // a path; empty: the embedded one, or a delay
  std::string query;
  std::size_t connections = 4;
  std::optional<std::chrono::nanoseconds> delay;
  faults injected;
  std::vector<std::string> protections;
  std::optional<std::chrono::nanoseconds> deadline;
  guard_settings guards;
  std::optional<cache_settings> cache;  // if it is among the protections
  std::string json;
  std::string report;
};

/// Throws usage_error.
lab_options check_options(const lab_arguments& arguments);

}  // namespace singleflight::lab
