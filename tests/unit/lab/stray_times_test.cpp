// SPDX-License-Identifier: Apache-2.0
#include "lab/log/stray_times.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

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

TEST(stray_times, single_times_far_before_and_after) {
  auto times = minutes_of(0, 100);
  times[40] = stamp(0);
  times[70] = std::chrono::hours(24 * 365 * 90);
  EXPECT_EQ(replace_stray_times(times), 2U);
  EXPECT_EQ(times[40], times[39]);
  EXPECT_EQ(times[70], times[69]);
  EXPECT_EQ(times[99], minutes_of(0, 100)[99]);
}

TEST(stray_times, the_first_one) {
  auto times = minutes_of(0, 20);
  times[0] = stamp(0);
  EXPECT_EQ(replace_stray_times(times), 1U);
  EXPECT_EQ(times[0], times[1]);
}

// Goal    A log with a long gap is not stray: neither its halves nor many years of it.
TEST(stray_times, logs_with_gaps) {
  auto halves = minutes_of(0, 50);
  const auto later = minutes_of(5, 50);
  halves.insert(halves.end(), later.begin(), later.end());
  EXPECT_EQ(replace_stray_times(halves), 0U);
  std::vector<stamp> monthly;
  for (int i = 0; i < 50; ++i) monthly.push_back(std::chrono::hours(24 * 31) * (600 + i));
  EXPECT_EQ(replace_stray_times(monthly), 0U);
  std::vector<stamp> few{stamp(0), std::chrono::hours(24 * 365)};
  EXPECT_EQ(replace_stray_times(few), 0U);
}

}  // namespace
}  // namespace singleflight::lab
