// SPDX-License-Identifier: Apache-2.0
#include "lab/simulation/load_times.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "cli/usage_error.hpp"

namespace singleflight::lab {
namespace {

using namespace std::chrono_literals;
using std::chrono::nanoseconds;

TEST(load_times, constant) {
  const auto times = load_times::parse("20ms", 1);
  EXPECT_EQ(times.of({}, 0), 20ms);
  EXPECT_EQ(times.of({}, 12345), 20ms);
  EXPECT_EQ(times.middle(), 20ms);
  EXPECT_EQ(times.describe(), "20.0 ms");
  EXPECT_EQ(load_times::parse("0ms", 1).of({}, 0), 0ms);
}

// Goal    The median and the 99th percentile are those that were given; the same seed gives the
//         same times, another one others.
TEST(load_times, lognormal) {
  const auto times = load_times::parse("lognormal:20ms,p99=200ms", 1);
  std::vector<nanoseconds> drawn;
  for (std::size_t i = 0; i < 100'000; ++i) drawn.push_back(times.of({}, i));
  EXPECT_EQ(drawn[17], load_times::parse("lognormal:20ms,p99=200ms", 1).of({}, 17));
  EXPECT_NE(drawn[17], load_times::parse("lognormal:20ms,p99=200ms", 2).of({}, 17));
  std::sort(drawn.begin(), drawn.end());
  EXPECT_NEAR(static_cast<double>(drawn[50'000].count()), 20e6, 0.5e6);
  EXPECT_NEAR(static_cast<double>(drawn[99'000].count()), 200e6, 10e6);
  EXPECT_EQ(times.describe(), "log-normal, half of them below 20.0 ms, 99 % below 200 ms");
}

TEST(load_times, measured) {
  const auto times = load_times::measured({3ms, 1ms, 2ms}, 1);
  std::vector<nanoseconds> drawn;
  for (std::size_t i = 0; i < 100; ++i) drawn.push_back(times.of({}, i));
  std::sort(drawn.begin(), drawn.end());
  drawn.erase(std::unique(drawn.begin(), drawn.end()), drawn.end());
  EXPECT_EQ(drawn, (std::vector<nanoseconds>{1ms, 2ms, 3ms}));
  EXPECT_EQ(times.middle(), 2ms);
}

TEST(load_times, of_the_log) { EXPECT_EQ(load_times::of_log().of({1s, 0, 7ms}, 1), 7ms); }

TEST(load_times, refuses_what_is_not_a_time) {
  for (const auto* text :
       {"", "20", "-1ms", "25h", "lognormal:", "lognormal:20ms", "lognormal:20ms,p99=20ms",
        "lognormal:20ms,p99=", "lognormal:0ms,p99=1s", "lognormal:1s,p99=2", "normal:1s"}) {
    EXPECT_THROW(load_times::parse(text, 1), cli::usage_error) << text;
  }
}

}  // namespace
}  // namespace singleflight::lab
