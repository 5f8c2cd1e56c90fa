// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace singleflight::lab {

/// load_series: how many loads were in flight, over a time whose length is not known beforehand.
/// Time is cut into equal intervals; when they no longer suffice each two become one, so memory is
/// bounded and the interval doubles.
///
/// Threads     none: one thread at a time.
class load_series {
 public:
  using duration = std::chrono::nanoseconds;

  static constexpr std::size_t most_intervals = 400;

  struct interval {
    double mean = 0;
    std::uint32_t most = 0;
  };

  /// At `when` (since the start) `delta` loads more are in flight. A time before the last one
  /// counts as the last one.
  void change(duration when, int delta);
  /// Nothing changes any more, until `when`.
  void finish(duration when);

  duration interval_width() const { return width_; }
  /// As many intervals as the time fills, the last one perhaps in part.
  std::vector<interval> intervals() const;
  std::uint32_t most() const { return most_; }

 private:
  struct slot {
    std::int64_t load_ns = 0;  // loads in flight, times how long they were
    std::uint32_t most = 0;
  };

  void advance(duration when);
  void halve();

  std::vector<slot> slots_;
  duration width_ = std::chrono::milliseconds(1);
  duration now_{0};
  std::uint32_t level_ = 0;
  std::uint32_t most_ = 0;
};

}  // namespace singleflight::lab
