// SPDX-License-Identifier: Apache-2.0

// Durations and deadlines at the ends of their ranges, in flight and sync.

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <limits>
#include <ratio>
#include <span>
#include <stdexcept>
#include <thread>
#include <vector>

#include "support/gate.hpp"
#include <singleflight/flight.hpp>
#include <singleflight/sync.hpp>

namespace {

using namespace std::chrono_literals;
using singleflight::batcher;
using singleflight::circuit_breaker;
using singleflight::flight_errc;
using singleflight::group;
using singleflight::manual_timer;
using singleflight::outcome;
using singleflight::retry_policy;
using singleflight::semaphore;
using std::chrono::duration;
using std::chrono::hours;
using std::chrono::nanoseconds;
using time_point = std::chrono::steady_clock::time_point;

constexpr double infinity = std::numeric_limits<double>::infinity();

// Goal    A wait without a limit lets a load end; a wait whose limit has passed ends at once.
TEST(extremes, waits_of_a_flight) {
  group<int, int> g;
  const auto later = [] { return 7; };
  const auto waits_for = [&](auto how_long) {
    auto f = g.start(1, later);
    return f.wait_for(how_long);
  };
  EXPECT_TRUE(waits_for(nanoseconds::max()));
  EXPECT_TRUE(waits_for(hours::max()));
  EXPECT_TRUE(waits_for(duration<double>(infinity)));
  EXPECT_TRUE(waits_for(duration<double>::max()));
  EXPECT_TRUE(waits_for(duration<std::uint64_t, std::ratio<86'400>>::max()));
  support::gate open;
  auto held = g.start(2, [&] {
    open.wait();
    return 1;
  });
  EXPECT_FALSE(held.wait_for(nanoseconds::min()));
  EXPECT_FALSE(held.wait_for(hours::min()));
  EXPECT_FALSE(held.wait_for(0ns));
  EXPECT_FALSE(held.wait_for(duration<double>(-infinity)));
  EXPECT_FALSE(held.wait_until(time_point::min()));
  EXPECT_FALSE(held.wait_until(time_point(-1ns)));
  open.open();
  EXPECT_TRUE(held.wait_until(time_point::max()));
  EXPECT_TRUE(held.wait_until(time_point::max() - 1ns));
  auto bounded = g.start(3, later);
  EXPECT_EQ(*bounded.until(time_point::max()).get(), 7);
  auto nearly = g.start(3, later);
  EXPECT_EQ(*nearly.until(time_point::max() - 1ns).get(), 7);
  EXPECT_TRUE(g.close_for(duration<double>(infinity)));
}

// Goal    A group whose window and timeout never end behaves like a group without them.
TEST(extremes, options_of_a_group) {
  manual_timer time;
  group<int, int> g(
      {.timer = &time, .join_window = nanoseconds::max(), .load_timeout = nanoseconds::max()});
  EXPECT_EQ(*g.run(1,
                   [&] {
                     time.advance(hours(24 * 365));
                     return 1;
                   }),
            1);
  EXPECT_TRUE(g.close_for(nanoseconds::max()));
}

// Goal    Retries whose delays and budget are as long as possible wait forever and do not spin.
TEST(extremes, retries) {
  manual_timer time;
  for (const double multiplier : {1.0, 2.0, std::numeric_limits<double>::max()}) {
    int calls = 0;
    retry_policy policy{.max_attempts = 5,
                        .base = nanoseconds::max(),
                        .multiplier = multiplier,
                        .cap = nanoseconds::max(),
                        .budget = 1h,
                        .random = [] { return ~std::uint64_t{0}; },
                        .timer = &time};
    EXPECT_THROW(singleflight::retry(policy,
                                     [&]() -> int {
                                       ++calls;
                                       throw std::runtime_error("down");
                                     }),
                 std::runtime_error);
    EXPECT_EQ(calls, 1) << "a sleep that long cannot end within the budget";
    policy.base = 0ns;
    policy.budget = nanoseconds::max();
    calls = 0;
    EXPECT_THROW(singleflight::retry(policy,
                                     [&]() -> int {
                                       ++calls;
                                       throw std::runtime_error("down");
                                     }),
                 std::runtime_error);
    EXPECT_EQ(calls, 5);
  }
}

// Goal    A retry whose clock is at the end of its range, or reaches it, does not sleep forever.
TEST(extremes, retries_at_the_end_of_time) {
  for (const nanoseconds left : {0ns, 1ns, nanoseconds(1h)}) {
    manual_timer time(time_point::max() - left);
    std::atomic<int> calls = 0;
    const retry_policy policy{
        .max_attempts = 3, .base = 1s, .random = [] { return ~std::uint64_t{0}; }, .timer = &time};
    std::jthread caller([&] {
      EXPECT_THROW(singleflight::retry(policy,
                                       [&]() -> int {
                                         ++calls;
                                         throw std::runtime_error("down");
                                       }),
                   std::runtime_error);
    });
    while (calls < 3) {
      time.advance(1h);
      std::this_thread::yield();
    }
  }
}

// Goal    The time that has passed stays in range for in_flight, joins and statistics, even if the
//         clock moves from one end of time to the other within a load.
TEST(extremes, a_load_from_end_to_end) {
  manual_timer time(time_point::min() + 1h);
  const auto to_the_end = [&] {
    for (int i = 0; i < 7; ++i) time.advance(hours(24 * 365 * 99));
  };
  struct : singleflight::observer {
    void load_ended(std::uint64_t, nanoseconds took, singleflight::load_result) noexcept override {
      longest = took;
    }
    nanoseconds longest{};
  } durations;
  group<int, int> g({.timer = &time, .join_window = 1h, .observer = &durations});
  g.run(1, [&] {
    to_the_end();
    EXPECT_EQ(g.in_flight().at(0).age, nanoseconds::max());
    EXPECT_EQ(*g.run(1, [] { return 2; }), 2) << "too old to join";
    return 1;
  });
  EXPECT_EQ(durations.longest, nanoseconds::max());

  manual_timer again(time_point::min() + 1h);
  circuit_breaker breaker(
      {.slow_call_rate = 1, .slow_call = 1h, .min_calls = 2, .window = 10ns, .timer = &again});
  breaker.call([&] {
    for (int i = 0; i < 7; ++i) again.advance(hours(24 * 365 * 99));
  });
  EXPECT_EQ(breaker.stats().slow, 1U);
}

// Goal    A breaker whose window and open_for never end works.
TEST(extremes, a_breaker) {
  manual_timer time;
  circuit_breaker breaker({.min_calls = 1,
                           .window = nanoseconds::max(),
                           .open_for = nanoseconds::max(),
                           .timer = &time});
  EXPECT_THROW(breaker.call([]() -> int { throw std::runtime_error("down"); }), std::runtime_error);
  for (int i = 0; i < 3; ++i) {
    time.advance(hours(24 * 365));
    EXPECT_THROW((void)breaker.call([] { return 1; }), singleflight::flight_error);
  }
}

// Goal    A batch whose delay never ends is sent when it is full; the limits of a semaphore and of
//         run_all may lie at the ends of time.
TEST(extremes, the_rest) {
  batcher<int, int> batches(
      [](std::span<const int> keys) { return std::vector<outcome<int>>(keys.begin(), keys.end()); },
      {.max_batch = 2, .max_delay = nanoseconds::max()});
  auto a = batches.start(1);
  auto b = batches.start(2);
  EXPECT_EQ(*a.get(), 1);
  EXPECT_EQ(*b.get(), 2);

  semaphore s(1);
  {
    auto permit = s.acquire(1, {.deadline = time_point::max() - 1ns});
    EXPECT_FALSE(s.try_acquire(1));
    EXPECT_THROW((void)s.acquire(1, {.deadline = time_point::min()}), singleflight::flight_error);
  }
  EXPECT_TRUE(s.try_acquire(1));
}

}  // namespace
