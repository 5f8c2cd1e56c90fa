// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "lab/workload/timed_trace.hpp"

namespace singleflight::lab {

/// load_times: how long the simulated loads take. The time depends on the request that begins the
/// load and on the seed, so it is the same under each protection.
class load_times {
 public:
  using duration = std::chrono::nanoseconds;

  enum class form {
    constant,
    lognormal,
    measured,  // drawn from the times of a trial
    of_log,    // the log says how long the request took
  };

  static load_times constant(duration each);
  /// Parses "20ms" or "lognormal:20ms,p99=200ms", whose first time is the median. Throws
  /// usage_error.
  static load_times parse(std::string_view text, std::uint64_t seed);
  /// Requires at least one time.
  static load_times measured(std::vector<duration> times, std::uint64_t seed);
  /// Requires that the trace has durations.
  static load_times of_log();

  /// The time of a load that a request begins, which is number `number` of the trace.
  duration of(const timed_request& request, std::uint64_t number) const {
    if (form_ == form::constant) return middle_;
    return draw(request, number);
  }

  form how() const { return form_; }
  /// The constant time, or the median; zero if the log says it.
  duration middle() const { return middle_; }
  /// "20.0 ms", "log-normal, half of them below 20.0 ms, 99 % below 200 ms".
  std::string describe() const;

 private:
  duration draw(const timed_request& request, std::uint64_t number) const;

  form form_ = form::constant;
  duration middle_{0};
  duration p99_{0};
  double sigma_ = 0;
  std::uint64_t seed_ = 0;
  std::vector<duration> times_;
};

}  // namespace singleflight::lab
