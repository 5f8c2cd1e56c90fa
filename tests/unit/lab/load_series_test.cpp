// SPDX-License-Identifier: Apache-2.0
#include "lab/replay/load_series.hpp"

#include <gtest/gtest.h>

#include <algorithm>

namespace singleflight::lab {
namespace {

using namespace std::chrono_literals;

TEST(load_series, mean_and_most_of_each_interval) {
  load_series series;
  series.change(0ms, +1);
  series.change(500us, +1);  // two for half of the first millisecond
  series.change(2ms, -1);
  series.change(2500us, -1);  // none from here on
  series.finish(4ms);
  const auto seen = series.intervals();
  ASSERT_EQ(seen.size(), 4U);
  EXPECT_DOUBLE_EQ(seen[0].mean, 1.5);
  EXPECT_EQ(seen[0].most, 2U);
  EXPECT_DOUBLE_EQ(seen[1].mean, 2);
  EXPECT_DOUBLE_EQ(seen[2].mean, 0.5);
  EXPECT_DOUBLE_EQ(seen[3].mean, 0);
  EXPECT_EQ(seen[3].most, 0U);
  EXPECT_EQ(series.most(), 2U);
}

// Goal    A load that begins and ends within one interval is counted.
TEST(load_series, short_peaks_are_kept) {
  load_series series;
  series.change(10ms, +5);
  series.change(10ms, -5);
  series.finish(11ms);
  EXPECT_EQ(series.most(), 5U);
  EXPECT_EQ(series.intervals()[10].most, 5U);
}

// Goal    However long the time, the number of intervals is bounded and the total load is
//         preserved.
TEST(load_series, long_times_stay_bounded) {
  load_series series;
  for (int second = 0; second < 3600; ++second) {
    series.change(std::chrono::seconds(second), +2);
    series.change(std::chrono::seconds(second) + 500ms, -2);
  }
  series.finish(3600s);
  const auto seen = series.intervals();
  EXPECT_LE(seen.size(), load_series::most_intervals);
  EXPECT_GE(seen.size(), load_series::most_intervals / 2);
  double load_seconds = 0;
  auto left = std::chrono::duration<double>(3600s).count();
  const auto width = std::chrono::duration<double>(series.interval_width()).count();
  for (const auto& interval : seen) {
    load_seconds += interval.mean * std::min(width, left);
    left -= width;
  }
  EXPECT_NEAR(load_seconds, 3600, 0.01);
}

TEST(load_series, a_time_that_runs_backwards_counts_as_now) {
  load_series series;
  series.change(5ms, +1);
  series.change(4ms, +1);
  series.finish(6ms);
  EXPECT_EQ(series.most(), 2U);
  EXPECT_DOUBLE_EQ(series.intervals()[5].mean, 2);
}

}  // namespace
}  // namespace singleflight::lab
