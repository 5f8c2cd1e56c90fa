// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "lab/hit_ratio/capacity.hpp"
#include "lab/log_arguments.hpp"

namespace CLI {
class App;
}

namespace singleflight::lab {

/// The command line of `singleflight lab hit-ratio`, as it was typed.
struct hit_ratio_arguments : log_arguments {
  std::string requests, capacity;
  std::string json, report;
};

void declare_options(CLI::App& command, hit_ratio_arguments& arguments);

/// The checked options.
struct hit_ratio_options {
  log_request log;
  std::vector<capacity> capacities;
  std::string json;
  std::string report;
};

/// Throws usage_error.
hit_ratio_options check_options(const hit_ratio_arguments& arguments);

/// Reads the log, replays its keys through each cache at each capacity, and writes the outputs.
/// Returns the exit code of the program: 0, or 130 after Ctrl-C. Throws usage_error before anything
/// is written.
int run_hit_ratio(const hit_ratio_options& options);

}  // namespace singleflight::lab
