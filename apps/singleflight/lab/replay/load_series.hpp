// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace singleflight::lab {

/// load_series: how many loads were in flight over a period whose length is not known in advance.
/// The time is divided into equal intervals. When there would be too many, each pair is merged into
/// one, which doubles the interval and bounds the memory.
///
/// Threads     one thread at a time.
class load_series {
 public:
  using duration = std::chrono::nanoseconds;

  static constexpr std::size_t most_intervals = 400;

  struct interval {
    double mean = 0;
    std::uint32_t most = 0;
  };

  /// From `when` on (since the start) `delta` more loads are in flight. A time before the previous
  /// one counts as the previous one.
  void change(duration when, int delta);
  /// Ends the series at `when`, without another change.
  void finish(duration when);

  duration interval_width() const { return width_; }
  /// The intervals up to the end; the last one may be shorter.
  std::vector<interval> intervals() const;
  std::uint32_t most() const { return most_; }

 private:
  struct slot {
    std::int64_t load_ns = 0;  // loads in flight, multiplied by their duration
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
