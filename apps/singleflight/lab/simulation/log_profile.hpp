// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <stop_token>
#include <vector>

#include "lab/simulation/load_times.hpp"
#include "lab/workload/timed_trace.hpp"

namespace singleflight::lab {

/// log_profile: what a log shows before it is simulated: its hours, its hottest keys, and its
/// stampedes.
struct log_profile {
  static constexpr std::size_t most_hot_keys = 10;
  static constexpr std::size_t most_stampedes = 10;

  /// An hour in which there are requests.
  struct hour {
    std::chrono::hours start{};  // since the epoch of the log's times: January 1970, or 0 s
    std::uint64_t first = 0;     // its first request
    std::uint64_t requests = 0;
  };
  struct hot_key {
    std::uint32_t key = 0;
    std::uint64_t requests = 0;
  };
  /// Requests for one key, of which each but the first arrives while the load that the first one
  /// begins is in progress.
  struct stampede {
    std::uint32_t key = 0;
    std::chrono::nanoseconds begin{0};  // since the first request of the log
    std::chrono::nanoseconds end{0};    // of that load
    std::uint64_t requests = 0;
  };

  std::vector<hour> hours;
  std::vector<hot_key> hottest;       // most requests first
  std::vector<stampede> stampedes;    // the largest one of a key; most requests first
  std::uint64_t all_stampedes = 0;    // of at least two requests
  std::uint64_t requests_once = 0;    // requests whose key is requested only once
  std::uint64_t requests_joined = 0;  // requests in stampedes, without the first of each
  std::vector<bool> watched;          // by key: it is among the hottest, or has a stampede above
};

/// Requires a trace with times. Throws `interrupted` soon after a stop request.
log_profile profile_of(const timed_trace& trace, const load_times& times,
                       const std::stop_token& stop);

}  // namespace singleflight::lab
