// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace singleflight::lab {

/// histogram: counts durations in log-linear buckets, as HdrHistogram does: each power of two is
/// divided into 128 equal parts, so a percentile is at most 0.8 % above the exact one. The largest
/// value is stored exactly.
///
/// Threads     one thread at a time.
/// Cost        58 KiB; no allocation after construction.
class histogram {
 public:
  using duration = std::chrono::nanoseconds;

  histogram();

  void record(duration value);
  void add(const histogram& other);

  std::uint64_t count() const { return count_; }
  duration max() const { return duration(max_ns_); }

  /// Returns the smallest bucket bound that at least `fraction` of the values do not exceed, with
  /// 0 < fraction <= 1; zero if nothing was recorded.
  duration quantile(double fraction) const;

  struct bucket {
    duration low;   // inclusive
    duration high;  // exclusive
    std::uint64_t count;
  };

  /// The buckets that are not empty, in order.
  std::vector<bucket> buckets() const;

 private:
  static std::size_t index_of(std::uint64_t ns);
  static std::uint64_t low_of(std::size_t index);

  std::vector<std::uint64_t> counts_;
  std::uint64_t count_ = 0;
  std::int64_t max_ns_ = 0;
};

}  // namespace singleflight::lab
