// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <stop_token>
#include <vector>

namespace singleflight::lab {

/// One request, as the callers make it: the thread that makes it (a small number), its place in the
/// workload, and since when its caller waits: since it was due in an open loop, since now in a
/// closed one.
using make_request = std::function<void(std::size_t thread, std::size_t request,
                                        std::chrono::steady_clock::time_point waits_since)>;

/// How the calling went.
struct calling {
  std::size_t threads = 0;  // the most that there were
  std::uint64_t started_late =
      0;  // open loop: requests that began more than 10 ms after they were due
  std::chrono::nanoseconds worst_delay{0};
  bool out_of_threads =
      false;  // the system or `most_threads` allowed no more, though one was needed
};

/// Makes requests 0 to `requests` - 1 from `callers` threads, each its next one when it is done
/// with the last. Returns when all are done, or soon after `stop`. Throws usage_error if the system
/// does not give that many threads.
calling call_in_closed_loop(std::size_t requests, std::size_t callers, const make_request& make,
                            const std::stop_token& stop);

/// Makes request i when `due[i]` has passed since the start, on a thread of its own for as long as
/// it takes. Some threads always wait for the requests to come, and one that begins a request sees
/// to that first; so requests never wait for one another, until `most_threads` are all busy. What
/// then begins late still waits since it was due.
calling call_in_open_loop(const std::vector<std::chrono::nanoseconds>& due,
                          std::size_t most_threads, const make_request& make,
                          const std::stop_token& stop);

}  // namespace singleflight::lab
