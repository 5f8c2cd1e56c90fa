// SPDX-License-Identifier: Apache-2.0
#include "lab/simulation/log_profile.hpp"

#include <gtest/gtest.h>

#include <utility>
#include <vector>

#include "cli/interrupt.hpp"
#include "unit/lab/trace_of.hpp"

namespace singleflight::lab {
namespace {

using namespace std::chrono_literals;

log_profile profile(const timed_trace& log) {
  return profile_of(log, load_times::constant(20ms), {});
}

// Goal    "At once" means: while the load that the first request began is in progress. The request
//         that arrives at its end begins another one.
TEST(log_profile, stampedes) {
  const auto made = profile(trace_of(
      {{0ms, 0}, {10ms, 0}, {19ms, 0}, {20ms, 0}, {39ms, 0}, {50ms, 1}, {90ms, 0}, {95ms, 1}}));
  EXPECT_EQ(made.all_stampedes, 2U);
  EXPECT_EQ(made.requests_joined, 3U);
  ASSERT_EQ(made.stampedes.size(), 1U);  // the larger one of key 0
  EXPECT_EQ(made.stampedes[0].key, 0U);
  EXPECT_EQ(made.stampedes[0].requests, 3U);
  EXPECT_EQ(made.stampedes[0].begin, 0ms);
  EXPECT_EQ(made.stampedes[0].end, 20ms);
  EXPECT_TRUE(made.watched[0]);
}

// Goal    The ten largest stampedes are listed, one for a key, the largest first; of equal ones the
//         earlier one comes first.
TEST(log_profile, the_largest_stampedes) {
  std::vector<arrival> all;
  for (std::uint32_t key = 0; key < 15; ++key) {
    for (std::uint32_t i = 0; i < 2 + key / 2; ++i) all.emplace_back(key * 1s, key);
  }
  const auto made = profile(trace_of(all));
  EXPECT_EQ(made.all_stampedes, 15U);
  std::vector<std::pair<std::uint32_t, std::uint64_t>> found;
  for (const auto& each : made.stampedes) found.emplace_back(each.key, each.requests);
  const std::vector<std::pair<std::uint32_t, std::uint64_t>> expected{
      {14, 9}, {12, 8}, {13, 8}, {10, 7}, {11, 7}, {8, 6}, {9, 6}, {6, 5}, {7, 5}, {4, 4}};
  EXPECT_EQ(found, expected);
}

// Goal    The hottest keys, most requests first, and how many keys are requested only once.
TEST(log_profile, hot_keys) {
  std::vector<arrival> all;
  for (std::uint32_t key = 0; key < 12; ++key) {
    for (std::uint32_t i = 0; i <= key; ++i) all.emplace_back(all.size() * 1s, key);
  }
  const auto made = profile(trace_of(all));
  ASSERT_EQ(made.hottest.size(), 10U);
  EXPECT_EQ(made.hottest[0].key, 11U);
  EXPECT_EQ(made.hottest[0].requests, 12U);
  EXPECT_EQ(made.hottest[9].key, 2U);
  EXPECT_EQ(made.requests_once, 1U);
  EXPECT_FALSE(made.watched[0]);
  EXPECT_TRUE(made.watched[11]);
  EXPECT_EQ(made.all_stampedes, 0U);
}

// Goal    Hours begin at the log's own full hours; those without requests are left out.
TEST(log_profile, hours) {
  auto log = trace_of({{0s, 0}, {599s, 0}, {600s, 0}, {5h, 0}});
  log.began = 10h + 50min;
  const auto made = profile(log);
  ASSERT_EQ(made.hours.size(), 3U);
  EXPECT_EQ(made.hours[0].start, 10h);
  EXPECT_EQ(made.hours[0].requests, 2U);
  EXPECT_EQ(made.hours[1].start, 11h);
  EXPECT_EQ(made.hours[1].first, 2U);
  EXPECT_EQ(made.hours[2].start, 15h);
  EXPECT_EQ(made.hours[2].requests, 1U);
}

TEST(log_profile, a_stop_request_ends_it) {
  std::stop_source source;
  source.request_stop();
  EXPECT_THROW(profile_of(trace_of({{0s, 0}}), load_times::constant(1ms), source.get_token()),
               cli::interrupted);
}

}  // namespace
}  // namespace singleflight::lab
