// SPDX-License-Identifier: Apache-2.0
#include "lab/replay/histogram.hpp"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

namespace singleflight::lab {
namespace {

using std::chrono::nanoseconds;

TEST(histogram, empty_has_no_latency) {
  const histogram empty;
  EXPECT_EQ(empty.count(), 0U);
  EXPECT_EQ(empty.quantile(0.99), nanoseconds(0));
  EXPECT_TRUE(empty.buckets().empty());
}

TEST(histogram, extremes_are_kept) {
  histogram h;
  h.record(nanoseconds(-5));
  h.record(nanoseconds::max());
  EXPECT_EQ(h.count(), 2U);
  EXPECT_EQ(h.quantile(0.5), nanoseconds(0));
  EXPECT_EQ(h.max(), nanoseconds::max());
  EXPECT_EQ(h.quantile(1), nanoseconds::max());
}

// Goal    A percentile is exact or at most 1/128 too large.
// Method  Compare with a sorted vector of the same values.
RC_GTEST_PROP(histogram, percentiles_are_close, (const std::vector<std::uint64_t>& drawn)) {
  RC_PRE(!drawn.empty());
  histogram h;
  std::vector<std::int64_t> values;
  for (const auto value : drawn) {
    // From nanoseconds to hours, uniform on a logarithmic scale.
    values.push_back(static_cast<std::int64_t>(value >> (20 + value % 44)));
    h.record(nanoseconds(values.back()));
  }
  std::sort(values.begin(), values.end());
  for (const double fraction : {0.01, 0.5, 0.9, 0.99, 0.999, 1.0}) {
    const auto place =
        static_cast<std::size_t>(std::ceil(fraction * static_cast<double>(values.size()))) - 1;
    const auto truth = values[place];
    const auto seen = h.quantile(fraction).count();
    RC_ASSERT(seen >= truth);
    RC_ASSERT(static_cast<double>(seen) <= static_cast<double>(truth) * (1 + 1.0 / 128));
  }
  RC_ASSERT(h.max().count() == values.back());
}

// Goal    The buckets contain each value once, and adding a histogram equals recording its values.
RC_GTEST_PROP(histogram, adds_up,
              (const std::vector<std::uint32_t>& first, const std::vector<std::uint32_t>& second)) {
  histogram a;
  histogram b;
  histogram both;
  for (const auto value : first) {
    a.record(nanoseconds(value));
    both.record(nanoseconds(value));
  }
  for (const auto value : second) {
    b.record(nanoseconds(value));
    both.record(nanoseconds(value));
  }
  a.add(b);
  std::uint64_t held = 0;
  for (const auto& bucket : a.buckets()) {
    RC_ASSERT(bucket.low < bucket.high);
    held += bucket.count;
  }
  RC_ASSERT(held == both.count());
  RC_ASSERT(a.quantile(0.5) == both.quantile(0.5));
  RC_ASSERT(a.max() == both.max());
}

}  // namespace
}  // namespace singleflight::lab
