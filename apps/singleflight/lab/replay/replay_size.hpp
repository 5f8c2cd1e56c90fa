// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstddef>

#include "lab/replay/pacing.hpp"
#include "lab/workload/workload.hpp"

namespace singleflight::lab {

// How much of a workload is replayed without --requests. The log of a busy server may contain days
// of work for the backend; a first run should take a minute, not a day.

/// How many requests to generate.
std::size_t default_generated(const pacing& pace);

/// How long the first `count` requests take without protection and with a backend of that speed.
/// The workload may have been cut to fewer requests; in an open loop with the times of the log
/// these must be the first ones.
std::chrono::nanoseconds expected_time(const workload& requests, const pacing& pace,
                                       double loads_per_s, std::size_t count);

/// How many requests, from the first on, take about 30 s without protection (20 s for generated
/// ones). In a closed loop the number is rounded down to 1, 2 or 5 times a power of ten, so that it
/// is the same in each run on one machine.
std::size_t size_for(const workload& requests, const pacing& pace, double loads_per_s,
                     bool generated);

}  // namespace singleflight::lab
