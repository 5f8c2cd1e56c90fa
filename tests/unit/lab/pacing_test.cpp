// SPDX-License-Identifier: Apache-2.0
#include "lab/replay/pacing.hpp"

#include <gtest/gtest.h>

#include "lab/replay/replay_size.hpp"

namespace singleflight::lab {
namespace {

using namespace std::chrono_literals;

workload requests_at(std::vector<std::chrono::nanoseconds> stamps) {
  workload made;
  made.keys = {"k"};
  made.requests.assign(stamps.size(), 0);
  made.stamps = std::move(stamps);
  return made;
}

TEST(pacing, a_closed_loop_has_no_due_times) {
  EXPECT_TRUE(pacing{}.due_times(requests_at({0s, 1s})).empty());
}

// Goal    The millionth request is due exactly on time: rounding errors do not accumulate.
TEST(pacing, a_rate_is_kept) {
  pacing pace;
  pace.form = pacing::loop::rate;
  pace.rate = 3;
  const auto due = pace.due_times(requests_at(std::vector<std::chrono::nanoseconds>(1'000'000)));
  EXPECT_EQ(due[0], 0ns);
  EXPECT_EQ(due[3], 1s);
  EXPECT_EQ(due[999'999], 333'333s);
}

TEST(pacing, a_logs_times_at_another_speed) {
  pacing pace;
  pace.form = pacing::loop::log_times;
  pace.speed = 4;
  const auto due = pace.due_times(requests_at({0s, 2s, 10s}));
  EXPECT_EQ(due[1], 500ms);
  EXPECT_EQ(due[2], 2500ms);
}

TEST(replay_size, a_first_run_takes_half_a_minute) {
  const auto many = requests_at(std::vector<std::chrono::nanoseconds>(100'000));
  pacing closed;
  EXPECT_EQ(size_for(many, closed, 200, false), 5000U);  // 6,000 would take 30 s
  EXPECT_EQ(size_for(many, closed, 10'000, false), 100'000U);
  EXPECT_EQ(size_for(many, closed, 0.01, false), 1U);
  EXPECT_EQ(size_for(requests_at({0s, 0s}), closed, 200, false), 2U);
  pacing rate;
  rate.form = pacing::loop::rate;
  rate.rate = 100;
  EXPECT_EQ(size_for(many, rate, 1, false), 3000U);
  pacing timed;
  timed.form = pacing::loop::log_times;
  timed.speed = 2;
  EXPECT_EQ(size_for(requests_at({0s, 30s, 60s, 61s, 500s}), timed, 1, false), 3U);
  EXPECT_EQ(expected_time(many, rate, 1, 500), 5s);
}

TEST(workload, its_first_requests_keep_their_keys) {
  workload made;
  made.keys = {"a", "b", "c"};
  made.requests = {2, 0, 2, 1};
  made.keep_first(3);
  EXPECT_EQ(made.requests.size(), 3U);
  EXPECT_EQ(made.keys, (std::vector<std::string>{"c", "a"}));
  EXPECT_EQ(made.key_of(2), "c");
}

}  // namespace
}  // namespace singleflight::lab
