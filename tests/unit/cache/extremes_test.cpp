// SPDX-License-Identifier: Apache-2.0

// Numbers at the ends of their ranges: durations, deadlines and weights are added without overflow.

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <optional>
#include <stdexcept>
#include <utility>

#include "support/cache.hpp"
#include "support/executors.hpp"
#include <singleflight/cache.hpp>

namespace {

using namespace std::chrono_literals;
using singleflight::cache_options;
using singleflight::flight_errc;
using singleflight::flight_error;
using singleflight::inline_executor;
using singleflight::live_options;
using singleflight::live_value;
using singleflight::loading_cache;
using singleflight::manual_timer;
using singleflight::with_ttl;
using std::chrono::nanoseconds;
using time_point = std::chrono::steady_clock::time_point;

constexpr auto forever = nanoseconds::max();
constexpr std::size_t most = std::numeric_limits<std::size_t>::max();

struct duration_option {
  const char* name;
  nanoseconds cache_options<int, int>::*member;
};
const duration_option durations[] = {
    {"ttl", &cache_options<int, int>::ttl},
    {"refresh_after", &cache_options<int, int>::refresh_after},
    {"stale_if_error", &cache_options<int, int>::stale_if_error},
    {"retry_after", &cache_options<int, int>::retry_after},
    {"max_retry_after", &cache_options<int, int>::max_retry_after},
    {"negative_ttl", &cache_options<int, int>::negative_ttl},
    {"error_ttl", &cache_options<int, int>::error_ttl},
};

// Goal    However far a clock leaps, an entry older than its ttl has expired, even where half of
//         all time has passed.
TEST(extremes, leaps_of_a_clock) {
  constexpr auto year = nanoseconds(24h) * 365;
  for (const nanoseconds leap :
       {nanoseconds(2h), year * 60, year * 74, year * 100, year * 150, year * 290, forever}) {
    SCOPED_TRACE(leap.count());
    manual_timer time;
    loading_cache<int, int> cache([](int k) { return k; },
                                  {.ttl = 1h, .jitter = 0, .group = {.timer = &time}});
    (void)cache.get(1);
    time.advance(leap);
    EXPECT_FALSE(cache.find(1).has_value());
    EXPECT_FALSE(cache.get(1).age() > 1h);
  }
}

// Goal    Each duration of a cache may have the largest value, alone and with all others: with any
//         jitter nothing is loaded again within years. A negative duration is refused.
TEST(extremes, durations_of_a_cache) {
  for (const double jitter : {0.0, 0.1, 1.0}) {
    for (std::size_t i = 0; i <= std::size(durations); ++i) {
      SCOPED_TRACE(i < std::size(durations) ? durations[i].name : "all");
      manual_timer time;
      cache_options<int, int> how{.jitter = jitter, .group = {.timer = &time}};
      how.random = [] { return std::uint64_t{1}; };
      if (i < std::size(durations)) {
        how.*durations[i].member = forever;
      } else {
        for (const auto& one : durations) how.*one.member = forever;
        how.soft_timeout = forever;
        how.group.join_window = forever;
        how.group.load_timeout = forever;
      }
      int loads = 0;
      loading_cache<int, int> cache(
          [&](int key) -> std::optional<int> {
            ++loads;
            if (key == 2) return std::nullopt;
            if (key == 3) throw std::runtime_error("the backend is down");
            return key;
          },
          how);
      EXPECT_EQ(*cache.get(1), 1);
      EXPECT_FALSE(cache.get(2).has_value());
      EXPECT_THROW((void)cache.get(3), std::runtime_error);
      time.advance(std::chrono::hours(24 * 365));
      EXPECT_EQ(*cache.get(1), 1);
      EXPECT_EQ(loads, 3);
      EXPECT_GE(cache.policy().explain(1).age, std::chrono::hours(24 * 364));
      (void)cache.policy().explain(1).expires_in;
    }
  }
  for (const auto& one : durations) {
    for (const nanoseconds negative : {nanoseconds(-1), nanoseconds::min()}) {
      cache_options<int, int> how;
      how.*one.member = negative;
      EXPECT_THROW((loading_cache<int, int>([](int k) { return k; }, how)), std::invalid_argument)
          << one.name;
    }
  }
}

// Goal    A value's own ttl may be as long or as short as possible.
TEST(extremes, a_values_own_time) {
  manual_timer time;
  nanoseconds own{};
  int loads = 0;
  loading_cache<int, int> cache(
      [&](int) {
        return with_ttl<int>{++loads, own};
      },
      {.ttl = 1s, .group = {.timer = &time}});
  own = forever;
  (void)cache.get(1);
  time.advance(std::chrono::hours(24 * 365));
  EXPECT_EQ(*cache.get(1), 1);
  for (const nanoseconds none : {nanoseconds::min(), nanoseconds(-1), nanoseconds(0)}) {
    own = none;
    (void)cache.get(2);
    EXPECT_FALSE(cache.find(2));
  }
}

// Goal    A stale value whose load fails is not tried again before retry_after, however long that
//         is.
TEST(extremes, a_failure_is_not_retried_before_retry_after) {
  manual_timer time;
  int loads = 0;
  loading_cache<int, int> cache(
      [&](int) {
        if (++loads > 1) throw std::runtime_error("the backend is down");
        return 1;
      },
      {.ttl = 1s,
       .stale_if_error = forever,
       .retry_after = forever,
       .max_retry_after = forever,
       .group = {.timer = &time}});
  (void)cache.get(1);
  for (int i = 0; i < 5; ++i) {
    time.advance(std::chrono::hours(24 * 365));
    EXPECT_TRUE(cache.get(1).stale());
  }
  EXPECT_EQ(loads, 2);
}

// Goal    Limits of a call may lie at the ends of time: one that has passed ends the call, one that
//         is never reached does not.
TEST(extremes, limits_of_a_call) {
  loading_cache<int, int> cache([](int k) { return k; });
  for (const time_point past : {time_point::min(), time_point{}, time_point(-1ns)}) {
    EXPECT_THROW((void)cache.get(1, {.deadline = past}), flight_error);
  }
  EXPECT_EQ(*cache.get(1, {.deadline = time_point::max() - 1ns}), 1);
  EXPECT_EQ(*cache.get(2, {.deadline = time_point::max()}), 2);
}

// Goal    A live_value with the longest reload interval is not loaded continuously, with any
//         jitter, after a success and after failures.
TEST(extremes, a_schedule_without_end) {
  for (const double jitter : {0.0, 0.1, 1.0}) {
    for (const std::uint64_t bits : {std::uint64_t{0}, std::uint64_t{1} << 62}) {
      manual_timer time;
      int loads = 0;
      const live_options<int> how{.reload_every = forever,
                                  .jitter = jitter,
                                  .retry_after = forever,
                                  .group = {.executor = inline_executor, .timer = &time},
                                  .random = [bits] { return bits; }};
      live_value<int> value([&] { return ++loads; }, how);
      time.advance(std::chrono::hours(24 * 365));
      EXPECT_EQ(loads, 1) << jitter;
    }
  }
  const live_options<int> negative{.reload_every = nanoseconds::min()};
  EXPECT_THROW((live_value<int>([] { return 1; }, negative)), std::invalid_argument);
}

// Goal    An age stays in range, even if the clock moves from one end of time to the other.
TEST(extremes, ages) {
  manual_timer time(time_point::min() + 1h);
  const live_value<int> value([] { return 1; },
                              {.group = {.executor = inline_executor, .timer = &time}});
  loading_cache<int, int> cache([](int k) { return k; }, {.group = {.timer = &time}});
  const auto seen = value.get();
  const auto kept = cache.get(1);
  EXPECT_EQ(seen.age(), 0ns);
  for (int i = 0; i < 4; ++i) time.advance(std::chrono::hours(24 * 365 * 99));
  EXPECT_EQ(seen.age(), nanoseconds::max());
  EXPECT_EQ(value.stats().since_success, nanoseconds::max());
  EXPECT_GE(kept.age(), 0ns);
  for (int i = 0; i < 4; ++i) time.advance(std::chrono::hours(24 * 365 * 99));
  EXPECT_EQ(seen.age(), nanoseconds::max());
  EXPECT_GE(kept.age(), 0ns);
}

// Goal    A live_value whose clock has reached its end is not loaded continuously.
TEST(extremes, a_schedule_at_the_end_of_time) {
  for (const nanoseconds every : {nanoseconds(1h), nanoseconds(std::chrono::hours(24 * 36500))}) {
    manual_timer time(time_point::max() - 90min);
    int loads = 0;
    live_value<int> value([&] { return ++loads; },
                          {.reload_every = every,
                           .jitter = 0,
                           .group = {.executor = inline_executor, .timer = &time}});
    for (int i = 0; i < 3; ++i) time.advance(forever);
    EXPECT_LE(loads, 2);
  }
}

// ---- weights ------------------------------------------------------------------------------------

// Goal    Weights whose sum exceeds the largest number evict one another like any others, for a new
//         key and for a replaced value.
TEST(extremes, weights) {
  const std::pair<std::size_t, std::size_t> cases[] = {
      {most, most}, {most, most / 2 + 1}, {most, most - 1}, {most - 1, most / 2 + 1}};
  for (const auto& [capacity, weight] : cases) {
    std::size_t weighs = weight;
    loading_cache<int, int> cache(
        [](int k) { return k; },
        {.capacity = capacity, .weigher = [&](int, int) { return weighs; }});
    for (int k = 1; k < 20; ++k) {
      (void)cache.get(k);
      const auto s = cache.stats();
      const bool fits = weight <= capacity;
      ASSERT_EQ(s.entries, fits ? 1U : 0U);
      ASSERT_EQ(s.weight, fits ? weight : 0U);
      ASSERT_EQ(cache.find(k).has_value(), fits);
      cache.put(k, 2 * k);
      ASSERT_EQ(cache.stats().weight, fits ? weight : 0U);
    }
    weighs = 1;
    for (int k = 100; k < 120; ++k) {
      (void)cache.get(k);
      ASSERT_TRUE(cache.find(k));
      ASSERT_LE(cache.stats().weight, capacity);
    }
    weighs = capacity;
    cache.put(110, 1);
    EXPECT_EQ(cache.stats().entries, 1U);
    EXPECT_EQ(cache.stats().weight, capacity);
    cache.clear();
    EXPECT_EQ(cache.stats().weight, 0U);
  }
}

// Goal    A weight that std::size_t cannot hold, and a time that nanoseconds cannot hold, are
//         refused as if the weigher or ttl_of had thrown; results of other types are converted.
TEST(extremes, results_of_another_type) {
  int weight = 3;
  std::chrono::hours own{1};
  const cache_options<int, int> how{.capacity = 4,
                                    .weigher = [&](int, int) { return weight; },
                                    .ttl_of = [&](const auto&...) { return own; }};
  loading_cache<int, int> cache([](int k) { return k; }, how);
  EXPECT_EQ(*cache.get(1), 1);
  EXPECT_EQ(cache.stats().weight, 3U);
  weight = -1;
  EXPECT_THROW((void)cache.get(2), std::invalid_argument);
  EXPECT_THROW(cache.put(3, 3), std::invalid_argument);
  EXPECT_EQ(cache.stats().entries, 1U);
  weight = 1;
  EXPECT_EQ(*cache.get(2), 2);
  for (const auto too_long : {std::chrono::hours::max(), std::chrono::hours::min()}) {
    own = too_long;
    EXPECT_THROW((void)cache.get(3), std::invalid_argument);
  }
  EXPECT_EQ(cache.stats().entries, 2U);
}

// Goal    The initial value of a live_value keeps its sign; it may be empty, or be given as an
//         optional.
TEST(extremes, a_first_version) {
  using value = live_value<std::uint64_t>;
  const auto load = [] { return std::uint64_t{1}; };
  EXPECT_EQ(*value(load, {.initial = 5}).get(), 5U);
  EXPECT_EQ(*value(load, {.initial = {}}).get(), 1U);
  EXPECT_EQ(*value(load, {.initial = std::nullopt}).get(), 1U);
  EXPECT_EQ(*value(load, {.initial = std::optional<std::uint64_t>(5)}).get(), 5U);
  EXPECT_EQ(*value(load, {.initial = std::optional<unsigned>(5)}).get(), 5U);
  EXPECT_THROW(value(load, {.initial = -5}), std::invalid_argument);
  live_options<std::pair<int, int>> pair{.initial = {{1, 2}}};
  pair.initial = {3, 4};
  EXPECT_EQ(live_value<decltype(pair.initial)::value_type>([] { return std::pair(1, 2); }, pair)
                .get()
                ->second,
            4);
  pair.initial = {};
  EXPECT_FALSE(pair.initial.has_value());
}

// Goal    A cache of the largest capacity keeps all values, and frees all of them.
TEST(extremes, a_capacity_without_bound) {
  {
    loading_cache<int, support::living> cache([](int k) { return support::living(k); },
                                              {.capacity = most});
    for (int k = 0; k < 20'000; ++k) (void)cache.get(k);
    EXPECT_EQ(cache.stats().entries, 20'000U);
    cache.clear();
    EXPECT_EQ(support::living::alive, 0);
  }
}

}  // namespace
