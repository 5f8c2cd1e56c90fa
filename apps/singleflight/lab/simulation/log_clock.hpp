// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>

#include <singleflight/core/timer.hpp>

namespace singleflight::lab {

/// log_clock: the time of a simulated process, which changes only when the simulation sets it.
///
/// Nothing fires. What a group or a cache arms here is only the sweep that removes expired entries,
/// which would run on another thread and make the results of two simulations differ. An expired
/// entry is never served; without the sweep it is removed when it is replaced or evicted.
///
/// Threads     one thread at a time.
class log_clock final : public timer {
 public:
  time_point now() const noexcept override { return now_; }
  void arm(timer_node& /*node*/, time_point /*when*/) override {}
  void cancel(timer_node& /*node*/) noexcept override {}

  /// Sets the time since the first request of the log.
  void set(std::chrono::nanoseconds since_start) noexcept { now_ = start + since_start; }

 private:
  static constexpr time_point start{std::chrono::hours(1)};
  time_point now_ = start;
};

}  // namespace singleflight::lab
