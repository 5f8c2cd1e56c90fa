// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "lab/log_arguments.hpp"

namespace singleflight::lab {

/// read_arguments: the command line of `singleflight lab read FILE`, as it was typed.
struct read_arguments : log_arguments {
  bool quiet = false;
};

void declare_options(CLI::App& command, read_arguments& arguments);

/// The checked options.
struct read_options {
  log_request log;
  bool quiet = false;  // only the counts
};

/// Throws usage_error.
read_options check_options(const read_arguments& arguments);

/// Reads the log and prints how: the counts, then a line for each request, the seconds since the
/// first one and the key. Returns the exit code of the program. Throws usage_error.
int run_read(const read_options& options);

}  // namespace singleflight::lab
