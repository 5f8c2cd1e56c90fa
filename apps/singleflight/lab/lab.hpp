// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "lab/options.hpp"

namespace singleflight::lab {

/// Runs the lab: reads or generates the workload, replays it through each protection, and writes
/// the outputs. Returns the exit code of the program: 0, or 130 after Ctrl-C. Throws usage_error
/// before anything is written.
int run_lab(const lab_options& options);

}  // namespace singleflight::lab
