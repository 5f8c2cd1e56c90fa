// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stop_token>

#include "lab/options.hpp"
#include "lab/simulation/simulation_results.hpp"
#include "lab/workload/timed_trace.hpp"

namespace singleflight::lab {

/// Simulates the protections on a log with times, and prints the head of the results before that.
/// Throws `interrupted` after a stop request, unless a protection has been simulated in part.
simulation_results simulate_log(const lab_options& options, const timed_trace& trace,
                                const std::stop_token& stop);

}  // namespace singleflight::lab
