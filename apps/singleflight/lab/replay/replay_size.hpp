// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstddef>

#include "lab/replay/pacing.hpp"
#include "lab/workload/workload.hpp"

namespace singleflight::lab {

/// How much of a workload is replayed when nobody says so. A busy server's log may hold days of
/// work for the backend; a first look should take a minute, not a day.

/// How many requests to make up.
std::size_t default_generated(const pacing& pace);

/// How long the first `count` requests take with nothing between the callers and a backend of that
/// speed. The workload need not hold them any more, but in an open loop that follows the log's
/// times those that it holds must be the first.
std::chrono::nanoseconds expected_time(const workload& requests, const pacing& pace,
                                       double loads_per_s, std::size_t count);

/// How many requests, from the first on, take about 30 s without protection (20 s for made-up
/// ones); in a closed loop rounded down to 1, 2 or 5 times a power of ten, so that the same machine
/// chooses the same each time.
std::size_t size_for(const workload& requests, const pacing& pace, double loads_per_s,
                     bool made_up);

}  // namespace singleflight::lab
