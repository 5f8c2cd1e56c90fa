// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <stop_token>
#include <vector>

namespace singleflight::lab {

/// Makes one request. Its arguments: the number of the calling thread, counted from 0; the index of
/// the request in the workload; and the time since which its caller waits, which is when the
/// request was due in an open loop and the current time in a closed loop.
using make_request = std::function<void(std::size_t thread, std::size_t request,
                                        std::chrono::steady_clock::time_point waits_since)>;

/// What happened while the requests were made.
struct calling {
  std::size_t threads = 0;  // the largest number of threads
  // Open loop: requests that began more than 10 ms after they were due.
  std::uint64_t started_late = 0;
  std::chrono::nanoseconds worst_delay{0};
  // Another thread was needed, but the system or `most_threads` did not allow it.
  bool out_of_threads = false;
};

/// Makes requests 0 to `requests` - 1 from `callers` threads; a thread makes its next request when
/// the previous one has returned. Returns when all requests are done, or soon after `stop`. Throws
/// usage_error if the system does not allow that many threads.
calling call_in_closed_loop(std::size_t requests, std::size_t callers, const make_request& make,
                            const std::stop_token& stop);

/// Makes request i when `due[i]` has passed since the start; the request has a thread to itself
/// until it returns. Spare threads wait for the next requests, and a thread that begins a request
/// first ensures that enough of them are left; so requests do not wait for each other until all
/// `most_threads` are busy. The latency of a request that begins late still counts from when it was
/// due.
calling call_in_open_loop(const std::vector<std::chrono::nanoseconds>& due,
                          std::size_t most_threads, const make_request& make,
                          const std::stop_token& stop);

}  // namespace singleflight::lab
