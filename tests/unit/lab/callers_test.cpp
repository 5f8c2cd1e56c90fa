// SPDX-License-Identifier: Apache-2.0
#include "lab/replay/callers.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <latch>
#include <memory>

namespace singleflight::lab {
namespace {

using namespace std::chrono_literals;
using clock = std::chrono::steady_clock;

std::vector<std::atomic<int>> counters(std::size_t count) {
  return std::vector<std::atomic<int>>(count);
}

TEST(closed_loop, each_request_is_made_once) {
  auto made = counters(1000);
  const auto account = call_in_closed_loop(
      1000, 8, [&](std::size_t, std::size_t request, clock::time_point) { ++made[request]; }, {});
  for (const auto& count : made) EXPECT_EQ(count, 1);
  EXPECT_EQ(account.threads, 8U);
}

// Goal    All callers make requests concurrently.
// Method  The first requests do not return before every caller has begun one.
TEST(closed_loop, callers_overlap) {
  std::latch all(50);
  call_in_closed_loop(
      50, 50, [&](std::size_t, std::size_t, clock::time_point) { all.arrive_and_wait(); }, {});
}

TEST(closed_loop, ends_when_asked_to_stop) {
  std::stop_source stop;
  std::atomic<int> made = 0;
  call_in_closed_loop(
      1'000'000, 4,
      [&](std::size_t, std::size_t, clock::time_point) {
        if (++made == 10) stop.request_stop();
      },
      stop.get_token());
  EXPECT_GE(made, 10);
  EXPECT_LT(made, 1'000'000);
}

// Goal    In an open loop requests do not wait for each other, however many are in flight.
// Method  300 requests are due at once, and none returns before all have begun.
TEST(open_loop, sending_never_waits_for_answers) {
  const std::vector<std::chrono::nanoseconds> due(300, 0ns);
  std::latch all(300);
  auto made = counters(300);
  const auto account = call_in_open_loop(due, 1000,
                                         [&](std::size_t, std::size_t request, clock::time_point) {
                                           all.arrive_and_wait();
                                           ++made[request];
                                         },
                                         {});
  for (const auto& count : made) EXPECT_EQ(count, 1);
  EXPECT_GE(account.threads, 300U);
  EXPECT_FALSE(account.out_of_threads);
}

// Goal    No coordinated omission: the wait of a late request counts from when it was due, and the
//         request is counted as late.
// Method  There is one thread, and its first request blocks it until long after the second is due.
//         (On a busy machine the first request may be late as well.)
TEST(open_loop, late_requests_wait_since_they_were_due) {
  const std::vector<std::chrono::nanoseconds> due{0ms, 1ms};
  std::vector<clock::time_point> since(2);
  std::vector<clock::time_point> began(2);
  const auto account =
      call_in_open_loop(due, 1,
                        [&](std::size_t, std::size_t request, clock::time_point waits_since) {
                          since[request] = waits_since;
                          began[request] = clock::now();
                          while (request == 0 && clock::now() < waits_since + 25ms) {
                          }
                        },
                        {});
  EXPECT_EQ(since[1] - since[0], 1ms);
  EXPECT_GE(began[1] - since[1], 24ms);
  EXPECT_GE(account.started_late, 1U);
  EXPECT_LE(account.started_late, 2U);
  EXPECT_GE(account.worst_delay, 24ms);
  EXPECT_TRUE(account.out_of_threads);
}

TEST(open_loop, never_early) {
  std::vector<std::chrono::nanoseconds> due;
  for (int i = 0; i < 50; ++i) due.push_back(i * 200us);
  std::atomic<int> early = 0;
  call_in_open_loop(due, 100,
                    [&](std::size_t, std::size_t, clock::time_point since) {
                      if (clock::now() < since) ++early;
                    },
                    {});
  EXPECT_EQ(early, 0);
}

// Goal    A stop ends the wait for requests that are due in an hour.
TEST(open_loop, ends_when_asked_to_stop) {
  const std::vector<std::chrono::nanoseconds> due{0h, 1h, 2h};
  std::stop_source stop;
  int made = 0;
  call_in_open_loop(
      due, 10,
      [&](std::size_t, std::size_t, clock::time_point) {
        ++made;
        stop.request_stop();
      },
      stop.get_token());
  EXPECT_EQ(made, 1);
}

}  // namespace
}  // namespace singleflight::lab
