// SPDX-License-Identifier: Apache-2.0

// Guards within a load: what the caller of the load gets when the guard refuses.

#include <gtest/gtest.h>

#include <chrono>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "support/failure.hpp"
#include <singleflight/core/manual_timer.hpp>
#include <singleflight/sync.hpp>

namespace {

using namespace std::chrono_literals;
using singleflight::as_outcome;
using singleflight::circuit_breaker;
using singleflight::flight_errc;
using singleflight::outcome;

std::unique_ptr<circuit_breaker> open_breaker(singleflight::manual_timer& time) {
  auto made = std::make_unique<circuit_breaker>(
      singleflight::circuit_breaker_options{.error_rate = 0.5, .min_calls = 1, .timer = &time});
  (void)made->call(as_outcome, []() -> int { throw support::failure(); });
  EXPECT_EQ(made->state(), singleflight::breaker_state::open);
  return made;
}

// Goal    When a breaker is open within a load, the group's caller gets `rejected` without
//         inspecting the exception, and the group counts it.
TEST(refusal, of_a_breaker_in_a_load) {
  singleflight::manual_timer time;
  const auto breaker = open_breaker(time);
  singleflight::group<std::string, int> flights;
  const auto guarded = [&] { return breaker->call([] { return 1; }); };
  EXPECT_EQ(flights.run(as_outcome, "k", guarded).errc(), flight_errc::rejected);
  auto started = flights.start("k", guarded);
  EXPECT_EQ(started.as_outcome().get().errc(), flight_errc::rejected);
  EXPECT_EQ(flights.stats().rejected, 2U);
}

// Goal    The same for a semaphore whose permits are not free in time, and for a closed one.
TEST(refusal, of_a_semaphore_in_a_load) {
  singleflight::manual_timer time;
  singleflight::semaphore one(1, {.timer = &time});
  const auto held = one.acquire();
  singleflight::group<std::string, int> flights;
  auto deadline = time.now();
  const auto guarded = [&] {
    const auto permit = one.acquire(1, {.deadline = deadline});
    return 1;
  };
  EXPECT_EQ(flights.run(as_outcome, "k", guarded).errc(), flight_errc::timed_out);
  EXPECT_EQ(flights.stats().timed_out, 1U);
  deadline += 1h;
  one.close();
  EXPECT_EQ(flights.run(as_outcome, "k", guarded).errc(), flight_errc::closed);
  EXPECT_EQ(flights.stats().closed, 1U);
}

// Goal    The same for a batcher's loader, whether it throws or returns the error for one key; its
//         statistics and its metrics contain it.
TEST(refusal, of_a_breaker_in_a_batch) {
  singleflight::manual_timer time;
  const auto breaker = open_breaker(time);
  singleflight::batcher<int, int> batches([&](std::span<const int> keys) {
    if (keys.front() == 1) breaker->call([] {});
    return std::vector<outcome<int>>(keys.size(), breaker->call(as_outcome, [] { return 1; }));
  });
  EXPECT_EQ(batches.load(as_outcome, 1).errc(), flight_errc::rejected);
  EXPECT_EQ(batches.load(as_outcome, 2).errc(), flight_errc::rejected);
  EXPECT_EQ(batches.stats().rejected, 2U);
  struct : singleflight::metric_visitor {
    void visit(std::string_view name, singleflight::metric_kind, double value) override {
      seen[std::string(name)] = value;
    }
    std::map<std::string, double> seen;
  } metrics;
  batches.observe(metrics);
  EXPECT_EQ(metrics.seen["rejected"], 2.0);
}

// Goal    A retry whose last attempt was refused ends with the guard's own error.
TEST(refusal, of_a_breaker_in_a_retry) {
  singleflight::manual_timer time;
  const auto breaker = open_breaker(time);
  const singleflight::retry_policy twice{.max_attempts = 2, .base = 0ns, .timer = &time};
  auto retried = singleflight::start_retry(twice, [&] { return breaker->call([] { return 1; }); });
  EXPECT_EQ(retried.as_outcome().get().errc(), flight_errc::rejected);
}

}  // namespace
