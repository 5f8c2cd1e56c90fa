// SPDX-License-Identifier: Apache-2.0
#include "lab/workload/timed_trace.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "cli/interrupt.hpp"
#include "lab/workload/mix.hpp"
#include "unit/lab/trace_of.hpp"

namespace singleflight::lab {
namespace {

using namespace std::chrono_literals;
using std::chrono::nanoseconds;

std::vector<arrival> arrivals_of(const timed_trace& trace) {
  std::vector<arrival> all;
  for (const auto& each : requests_of(trace)) all.emplace_back(each.time, each.key);
  return all;
}

// Goal    Times that go backwards are put in order, with what belongs to their requests, and become
//         relative to the earliest one, which is kept.
TEST(timed_trace, arranged_by_time) {
  timed_trace log;
  log.requests.append({5500ms, 0, 50us});
  log.requests.append({3000ms, 1, 30us});
  log.requests.append({3000ms, 2, 31us});
  arrange_by_time(log, {});
  EXPECT_EQ(arrivals_of(log), (std::vector<arrival>{{0ms, 1}, {0ms, 2}, {2500ms, 0}}));
  EXPECT_EQ(requests_of(log)[0].duration, 30us);
  EXPECT_EQ(requests_of(log)[2].duration, 50us);
  EXPECT_EQ(log.began, 3s);
  EXPECT_EQ(log.length, 2500ms);
}

// Goal    Requests with whole seconds are spread over them, each second by its own number of
//         requests; if one time is none, all stay as they are.
TEST(timed_trace, whole_seconds_are_spread) {
  auto log = trace_of({{7s, 0}, {10s, 0}, {7s, 1}, {10s, 1}, {8s, 0}, {10s, 2}, {10s, 3}});
  arrange_by_time(log, {});
  EXPECT_EQ(arrivals_of(log),
            (std::vector<arrival>{
                {0s, 0}, {500ms, 1}, {1s, 0}, {3s, 0}, {3250ms, 1}, {3500ms, 2}, {3750ms, 3}}));
  EXPECT_EQ(log.length, 3750ms);
  auto finer = trace_of({{7s, 0}, {7s, 1}, {8s + 1us, 0}});
  arrange_by_time(finer, {});
  EXPECT_EQ(arrivals_of(finer), (std::vector<arrival>{{0s, 0}, {0s, 1}, {1s + 1us, 0}}));
}

// Goal    More requests than are sorted in memory at once: all of them come back in order, and
//         those of the same time in the order in which they came.
TEST(timed_trace, more_than_is_sorted_at_once) {
  constexpr std::uint32_t count = (1U << 22U) + 12'345;
  timed_trace log;
  for (std::uint32_t i = 0; i < count; ++i)
    log.requests.append({nanoseconds(1 + mix(i) % 1'000'000), i});
  arrange_by_time(log, {});
  ASSERT_EQ(log.requests.size(), count);
  std::uint64_t wrong = 0;
  std::uint64_t sum = 0;
  timed_request before;
  visit_all(log.requests, {}, [&](const timed_request& each) {
    if (each.time < before.time || (each.time == before.time && each.key < before.key)) ++wrong;
    if (each.time + log.began != nanoseconds(1 + mix(each.key) % 1'000'000)) ++wrong;
    sum += each.key;
    before = each;
  });
  EXPECT_EQ(wrong, 0U);
  EXPECT_EQ(sum, std::uint64_t{count} * (count - 1) / 2);
}

TEST(timed_trace, without_requests) {
  timed_trace log;
  arrange_by_time(log, {});
  EXPECT_EQ(log.length, 0ns);
  EXPECT_TRUE(to_workload(std::move(log), 10).requests.empty());
}

TEST(timed_trace, a_stop_request_ends_the_sorting) {
  auto log = trace_of({{2s, 0}, {1s, 0}});
  std::stop_source source;
  source.request_stop();
  EXPECT_THROW(arrange_by_time(log, source.get_token()), cli::interrupted);
}

// Goal    A workload has the first requests, their keys, and the times if there are any.
TEST(timed_trace, to_workload) {
  const auto log = [] { return trace_of({{0s, 0}, {1s, 2}, {2s, 0}, {3s, 1}}); };
  const auto whole = to_workload(log(), 10);
  EXPECT_EQ(whole.keys, (std::vector<std::string>{"0", "1", "2"}));
  EXPECT_EQ(whole.requests, (std::vector<std::uint32_t>{0, 2, 0, 1}));
  EXPECT_EQ(whole.stamps, (std::vector<nanoseconds>{0s, 1s, 2s, 3s}));
  const auto part = to_workload(log(), 2);
  EXPECT_EQ(part.keys, (std::vector<std::string>{"0", "2"}));
  EXPECT_EQ(part.stamps.size(), 2U);
  auto timeless = log();
  timeless.has_times = false;
  EXPECT_TRUE(to_workload(std::move(timeless), 10).stamps.empty());
}

}  // namespace
}  // namespace singleflight::lab
