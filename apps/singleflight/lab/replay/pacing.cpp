// SPDX-License-Identifier: Apache-2.0
#include "lab/replay/pacing.hpp"

#include <fmt/format.h>

#include <cmath>

#include "cli/units.hpp"

namespace singleflight::lab {

std::string pacing::describe() const {
  switch (form) {
    case loop::rate:
      return fmt::format("open loop, {} requests per second", cli::show_number(rate));
    case loop::log_times: return fmt::format("open loop, {:g} times the pace of the log", speed);
    case loop::closed: break;
  }
  return fmt::format("closed loop, {} callers", cli::show_count(callers));
}

std::vector<std::chrono::nanoseconds> pacing::due_times(const workload& requests) const {
  std::vector<std::chrono::nanoseconds> due;
  if (!open()) return due;
  due.reserve(requests.requests.size());
  for (std::size_t i = 0; i < requests.requests.size(); ++i) {
    // Computed from the index, not by adding intervals, so that rounding errors do not accumulate.
    const double ns = form == loop::rate ? static_cast<double>(i) * 1e9 / rate
                                         : static_cast<double>(requests.stamps[i].count()) / speed;
    due.emplace_back(std::llround(std::min(ns, 9e18)));
  }
  return due;
}

}  // namespace singleflight::lab
