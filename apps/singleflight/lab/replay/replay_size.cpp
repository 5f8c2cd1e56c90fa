// SPDX-License-Identifier: Apache-2.0
#include "lab/replay/replay_size.hpp"

#include <algorithm>
#include <cmath>

namespace singleflight::lab {

namespace {

using std::chrono::nanoseconds;

nanoseconds from_seconds(double seconds) {
  return nanoseconds(std::llround(std::min(seconds, 9e9) * 1e9));
}

std::size_t round_down(double count) {
  const double power = std::pow(10.0, std::floor(std::log10(count)));
  const double step = count / power >= 5 ? 5 : count / power >= 2 ? 2 : 1;
  return static_cast<std::size_t>(std::llround(step * power));
}

}  // namespace

std::size_t default_generated(const pacing& pace) {
  if (pace.form == pacing::loop::rate) {
    return static_cast<std::size_t>(std::clamp(pace.rate * 10, 100.0, 1e6));
  }
  return 2000;
}

nanoseconds expected_time(const workload& requests, const pacing& pace, double loads_per_s,
                          std::size_t count) {
  switch (pace.form) {
    case pacing::loop::rate: return from_seconds(static_cast<double>(count) / pace.rate);
    case pacing::loop::log_times:
      if (count == 0 || requests.stamps.empty()) return nanoseconds(0);
      return from_seconds(
          static_cast<double>(
              requests.stamps[std::min(count, requests.stamps.size()) - 1].count()) /
          1e9 / pace.speed);
    case pacing::loop::closed: break;
  }
  return loads_per_s > 0 ? from_seconds(static_cast<double>(count) / loads_per_s) : nanoseconds(0);
}

std::size_t size_for(const workload& requests, const pacing& pace, double loads_per_s,
                     bool generated) {
  const auto all = requests.requests.size();
  const double budget_s = generated ? 20 : 30;
  // Up to half as much again is not cut.
  if (expected_time(requests, pace, loads_per_s, all) <= from_seconds(budget_s * 1.5)) return all;
  double fitting = 1;
  switch (pace.form) {
    case pacing::loop::rate: fitting = budget_s * pace.rate; break;
    case pacing::loop::log_times: {
      const auto end = from_seconds(budget_s * pace.speed);
      fitting = static_cast<double>(
          std::upper_bound(requests.stamps.begin(), requests.stamps.end(), end) -
          requests.stamps.begin());
      break;
    }
    case pacing::loop::closed:
      return std::min(all, round_down(std::max(budget_s * loads_per_s, 1.0)));
  }
  return std::clamp<std::size_t>(static_cast<std::size_t>(fitting), 1, all);
}

}  // namespace singleflight::lab
