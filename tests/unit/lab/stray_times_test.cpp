// SPDX-License-Identifier: Apache-2.0
#include "lab/log/stray_times.hpp"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <vector>

#include "unit/lab/trace_of.hpp"

namespace singleflight::lab {
namespace {

using namespace std::chrono_literals;

std::vector<stamp> minutes_of(int year_offset, int count) {
  std::vector<stamp> times;
  for (int i = 0; i < count; ++i) {
    times.push_back(std::chrono::hours(24 * 365) * (50 + year_offset) + i * 1min);
  }
  return times;
}

std::uint64_t replace(std::vector<stamp>& times) {
  timed_trace trace;
  for (const auto time : times) trace.requests.append({time});
  const auto stray = replace_stray_times(trace.requests, {});
  times.clear();
  for (const auto& each : requests_of(trace)) times.push_back(each.time);
  return stray;
}

TEST(stray_times, single_times_far_before_and_after) {
  auto times = minutes_of(0, 100);
  times[40] = stamp(0);
  EXPECT_EQ(replace(times), 1U);
  EXPECT_EQ(times[40], times[39]);
  times[70] = std::chrono::hours(24 * 365 * 90);
  times[50] = -std::chrono::hours(24 * 365);
  EXPECT_EQ(replace(times), 2U);
  EXPECT_EQ(times[50], times[49]);
  EXPECT_EQ(times[70], times[69]);
  EXPECT_EQ(times[99], minutes_of(0, 100)[99]);
}

// Goal    Up to a hundredth of the times are stray on each side, though they are far from each
//         other as well. If there is one more, no time is.
TEST(stray_times, a_hundredth_on_each_side) {
  auto times = minutes_of(0, 400);
  const auto year = std::chrono::hours(24 * 365);
  for (std::size_t i = 0; i < 4; ++i) {
    times[20 + i] = year * static_cast<int>(i);
    times[300 + i] = year * (90 + static_cast<int>(i));
  }
  auto one_more = times;
  EXPECT_EQ(replace(times), 8U);
  EXPECT_EQ(times[23], times[19]);
  one_more[200] = year * 5;
  EXPECT_EQ(replace(one_more), 0U);
}

TEST(stray_times, the_first_one) {
  auto times = minutes_of(0, 20);
  times[0] = stamp(0);
  EXPECT_EQ(replace(times), 1U);
  EXPECT_EQ(times[0], times[1]);
}

// Goal    A time that is not known is that of the request before, or of the first one whose time is
//         known; it does not count as stray.
TEST(stray_times, times_that_are_not_known) {
  auto times = minutes_of(0, 20);
  times[0] = times[1] = times[7] = no_time;
  EXPECT_EQ(replace(times), 0U);
  EXPECT_EQ(times[0], times[2]);
  EXPECT_EQ(times[1], times[2]);
  EXPECT_EQ(times[7], times[6]);
  times[5] = stamp(0);
  EXPECT_EQ(replace(times), 1U);
  std::vector<stamp> few{no_time, 5s};
  EXPECT_EQ(replace(few), 0U);
  EXPECT_EQ(few[0], 5s);
}

// Goal    A log with a long gap is not stray: neither its halves nor many years of it.
TEST(stray_times, logs_with_gaps) {
  auto halves = minutes_of(0, 50);
  const auto later = minutes_of(5, 50);
  halves.insert(halves.end(), later.begin(), later.end());
  EXPECT_EQ(replace(halves), 0U);
  std::vector<stamp> monthly;
  for (int i = 0; i < 50; ++i) monthly.push_back(std::chrono::hours(24 * 31) * (600 + i));
  EXPECT_EQ(replace(monthly), 0U);
  std::vector<stamp> few{stamp(0), std::chrono::hours(24 * 365)};
  EXPECT_EQ(replace(few), 0U);
  std::vector<stamp> hardly_known(1000, no_time);
  hardly_known[500] = stamp(0);
  hardly_known[600] = std::chrono::hours(24 * 365);
  EXPECT_EQ(replace(hardly_known), 0U);
  std::vector<stamp> none;
  EXPECT_EQ(replace(none), 0U);
}

}  // namespace
}  // namespace singleflight::lab
