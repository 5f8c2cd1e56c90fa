// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "lab/workload/workload.hpp"

namespace singleflight::lab {

/// pacing: when requests are made. In a closed loop each caller makes its next request when it has
/// the answer to the previous one; in an open loop a request is made when it is due, independently
/// of earlier requests.
struct pacing {
  enum class loop { closed, rate, log_times };
  loop form = loop::closed;
  std::size_t callers = 50;  // closed
  double rate = 0;           // requests per second, at equal intervals
  double speed = 0;          // relative to the times of the log

  bool open() const { return form != loop::closed; }
  std::string describe() const;

  /// When each request is due, since the start; empty for a closed loop. log_times requires a
  /// workload with stamps.
  std::vector<std::chrono::nanoseconds> due_times(const workload& requests) const;
};

}  // namespace singleflight::lab
