// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <stop_token>
#include <string>
#include <vector>

#include "lab/workload/spool.hpp"
#include "lab/workload/workload.hpp"

namespace singleflight::lab {

/// timed_request: a request of a log, as numbers.
struct timed_request {
  std::chrono::nanoseconds time{0};
  std::uint32_t key = 0;  // an index
  /// How long the request took when the log was written; 0 if the log does not say.
  std::chrono::duration<std::uint32_t, std::micro> duration{0};
};

/// timed_trace: the requests of a log as numbers, in order. Memory is needed by the number of keys;
/// the requests take 16 bytes each in a temporary file.
struct timed_trace {
  static constexpr std::uint64_t most_requests = std::numeric_limits<std::uint32_t>::max() - 1;

  std::vector<std::string> keys;
  spool<timed_request> requests;
  /// If so, the requests are in the order of their times, which are relative to the first one.
  bool has_times = false;
  bool has_durations = false;
  /// When the first request arrived, in the log's own time: since January 1970, or since whatever
  /// moment the log counts from.
  std::chrono::nanoseconds began{0};
  std::chrono::nanoseconds length{0};  // from the first request to the last
  /// A description for people: "web.log (access log, key: path)".
  std::string source;
};

/// Sorts the requests, whose times are relative to `began`, and makes that the earliest one. If all
/// times are whole seconds, spreads the requests of a second evenly over it. Throws `interrupted`
/// soon after a stop request.
void arrange_by_time(timed_trace& trace, const std::stop_token& stop);

/// The first `count` requests in memory.
workload to_workload(timed_trace&& trace, std::size_t count);

}  // namespace singleflight::lab
