// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "lab/workload/timed_trace.hpp"

namespace singleflight::lab {

using arrival = std::pair<std::chrono::nanoseconds, std::uint32_t>;  // when, and for which key

/// A trace with at least so many keys, "0", "1", and so on. The arrivals are in order.
inline timed_trace trace_of(const std::vector<arrival>& arrivals, std::size_t keys = 0) {
  timed_trace made;
  made.has_times = true;
  for (const auto& [when, key] : arrivals) {
    made.requests.append({when, key});
    made.length = when;
    keys = std::max<std::size_t>(keys, key + 1);
  }
  for (std::size_t key = 0; key < keys; ++key) made.keys.push_back(std::to_string(key));
  return made;
}

inline std::vector<timed_request> requests_of(const timed_trace& trace) {
  std::vector<timed_request> all;
  visit_all(trace.requests, {}, [&](const timed_request& each) { all.push_back(each); });
  return all;
}

}  // namespace singleflight::lab
