// SPDX-License-Identifier: Apache-2.0

// At most one load per throttle period, even for callers that were already on their way to a load;
// and one load of many keys when many come due together.

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <exception>
#include <functional>
#include <future>
#include <numeric>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "support/cache.hpp"
#include "support/executors.hpp"
#include "support/gate.hpp"
#include <singleflight/cache.hpp>

namespace {

using namespace std::chrono_literals;
using singleflight::cache_options;
using singleflight::flight_error;
using singleflight::freshness;
using singleflight::inline_executor;
using singleflight::limits;
using singleflight::loading_cache;
using singleflight::manual_timer;
using singleflight::outcome;
using support::gate;
using support::in_thread;

/// Stops a thread that has set `at` in its at-th hash: between its lookup and its load.
struct stop_at_hash {
  static inline thread_local int at = 0;
  static inline gate* arrived = nullptr;
  std::size_t operator()(int key) const {
    if (at > 0 && --at == 0) arrived->wait();
    return std::hash<int>{}(key);
  }
};

/// The result of a call: f fresh, s stale, e an exception.
template <class Call>
char kind(Call&& call) {
  try {
    return call().freshness() == freshness::stale ? 's' : 'f';
  } catch (const std::runtime_error&) {
    return 'e';
  }
}

struct late_comer {
  const char* name;
  bool stale;   // there is a stale value; otherwise errors are kept
  int held_at;  // the hash in which the late comer is held
  std::function<char(loading_cache<int, int, stop_at_hash>&)> call;
};

// Goal    A caller whose lookup came before another call's load failed does not load again, in any
//         form of call (scenarios 34, 59).
// Method  The late comer is held between its lookup and its load, while another call fails.
TEST(throttle, late_comers_see_the_failure) {  // Scenario 59
  const auto get = [](auto& c) { return kind([&] { return c.get(1); }); };
  const auto bounded = [](auto& c) { return kind([&] { return c.get(1, limits{}); }); };
  const auto start = [](auto& c) { return kind([&] { return c.start_get(1).get(); }); };
  const auto all = [](auto& c) {
    return kind([&] { return c.get_all(std::vector<int>{1}).front().value(); });
  };
  const late_comer cases[] = {
      {"get, stale", true, 2, get},         {"get, an error", false, 2, get},
      {"bounded, stale", true, 2, bounded}, {"bounded, an error", false, 2, bounded},
      {"start_get, stale", true, 2, start}, {"start_get, an error", false, 2, start},
      {"get_all, stale", true, 2, all},     {"get_all, an error", false, 2, all},
  };
  for (const bool bulk : {false, true}) {
    for (const late_comer& one : cases) {
      manual_timer time;
      gate held;
      stop_at_hash::arrived = &held;
      std::atomic<int> loads{0};
      std::atomic<bool> fails{false};
      const auto load = [&](int) -> int {
        ++loads;
        if (fails) throw std::runtime_error("the backend is down");
        return 1;
      };
      const auto load_many = [&](std::span<const int> keys) {
        std::vector<outcome<int>> each;
        for (const int key : keys) each.emplace_back(load(key));
        return each;
      };
      cache_options<int, int> how{.jitter = 0, .group = {.timer = &time}};
      if (one.stale) {
        how.ttl = 10s;
        how.stale_if_error = 100s;
        how.retry_after = 5s;
      } else {
        how.error_ttl = 100s;
      }
      using cache_type = loading_cache<int, int, stop_at_hash>;
      std::optional<cache_type> cache;
      if (bulk) {
        cache.emplace(load, load_many, how);
      } else {
        cache.emplace(load, how);
      }
      if (one.stale) (void)cache->get(1);
      fails = true;
      loads = 0;
      time.advance(11s);
      auto late = in_thread([&] {
        stop_at_hash::at = one.held_at;
        return one.call(*cache);
      });
      held.await_arrivals();
      const char wanted = one.stale ? 's' : 'e';
      EXPECT_EQ(kind([&] { return cache->get(1); }), wanted) << one.name;
      EXPECT_EQ(loads, 1) << one.name;
      held.open();
      EXPECT_EQ(late.get(), wanted) << one.name;
      EXPECT_EQ(loads, 1) << one.name << ", bulk " << bulk;
      // Once the period is over, there is one more load.
      time.advance(one.stale ? 6s : 101s);
      fails = false;
      EXPECT_EQ(kind([&] { return cache->get(1); }), 'f') << one.name;
      EXPECT_EQ(loads, 2) << one.name;
    }
  }
}

// Goal    After a failure no hit starts a refresh within the period; refresh() does, since it is an
//         explicit request.
TEST(throttle, a_background_refresh_sees_a_failure) {
  manual_timer time;
  support::manual_executor queue;
  int loads = 0;
  bool fails = false;
  loading_cache<int, int> cache(
      [&](int) {
        ++loads;
        if (fails) throw std::runtime_error("the backend is down");
        return loads;
      },
      {.ttl = 100s,
       .jitter = 0,
       .refresh_after = 10s,
       .retry_after = 50s,
       .group = {.executor = queue, .timer = &time}});
  (void)cache.get(1);
  time.advance(20s);
  fails = true;
  cache.refresh(1);
  queue.run_all();
  EXPECT_EQ(loads, 2);
  (void)cache.get(1);
  EXPECT_EQ(queue.run_all(), 0U) << "a refresh within the period";
  cache.refresh(1);
  queue.run_all();
  EXPECT_EQ(loads, 3);
}

// Goal    A load that soft_timeout abandoned before it began is not skipped, because it did not
//         fail.
TEST(throttle, a_late_load_still_runs) {
  manual_timer time;
  support::manual_executor queue;
  int loads = 0;
  loading_cache<int, int> cache([&](int) { return ++loads; },
                                {.ttl = 10s,
                                 .jitter = 0,
                                 .stale_if_error = 10'000h,
                                 .soft_timeout = 1s,
                                 .group = {.executor = queue, .timer = &time}});
  cache.put(1, 0);
  time.advance(11s);
  auto soon = in_thread([&] { return cache.get(1).stale(); });
  while (soon.wait_for(1ms) != std::future_status::ready) time.advance(1s);
  EXPECT_TRUE(soon.get());
  queue.run_all();
  EXPECT_EQ(loads, 1);
  EXPECT_EQ(*cache.get(1), 1);
}

// Goal    After its ttl a value is not served as stale because a refresh is slow: nothing has
//         failed.
TEST(throttle, a_slow_refresh_is_joined) {
  manual_timer time;
  gate slow;
  std::atomic<int> loads{0};
  support::joined_counter joined;
  loading_cache<int, int> cache(
      [&](int) {
        const int n = ++loads;
        if (n == 2) slow.wait();
        return n;
      },
      {.ttl = 60s,
       .jitter = 0,
       .refresh_after = 45s,
       .stale_if_error = 10min,
       .retry_after = 30s,
       .group = {.timer = &time, .observer = &joined}});
  (void)cache.get(1);
  time.advance(50s);
  EXPECT_EQ(*cache.get(1), 1);  // starts the refresh
  slow.await_arrivals();
  time.advance(20s);
  auto past = in_thread([&] { return cache.get(1); });
  joined.await(1);
  slow.open();
  const auto got = past.get();
  EXPECT_EQ(*got, 2);
  EXPECT_FALSE(got.stale());
  EXPECT_EQ(loads, 2);
}

// Goal    A caller's own limit implies nothing about the load: that caller gets the stale value,
//         others keep waiting.
TEST(throttle, a_callers_limit_delays_no_other_caller) {
  manual_timer time;
  gate slow;
  std::atomic<int> loads{0};
  support::joined_counter joined;
  loading_cache<int, int> cache(
      [&](int) {
        const int n = ++loads;
        if (n == 2) slow.wait();
        return n;
      },
      {.ttl = 10s,
       .jitter = 0,
       .stale_if_error = 10min,
       .retry_after = 1h,
       .group = {.timer = &time, .observer = &joined}});
  (void)cache.get(1);
  time.advance(11s);
  cache.refresh(1);
  slow.await_arrivals();
  EXPECT_TRUE(in_thread([&] { return cache.get(1, {.deadline = time.now()}).stale(); }).get());
  auto other = in_thread([&] { return cache.get(1); });
  joined.await(1);
  slow.open();
  EXPECT_EQ(*other.get(), 2);
}

// ---- many keys ----------------------------------------------------------------------------------

struct bulk_backend {
  std::atomic<int> single{0};
  std::atomic<int> bulk{0};
  std::atomic<int> bulk_keys{0};
  std::atomic<bool> works{true};

  auto one() {
    return [this](int key) {
      ++single;
      return key;
    };
  }
  auto many() {
    return [this](std::span<const int> keys) {
      ++bulk;
      bulk_keys += static_cast<int>(keys.size());
      if (!works) throw std::runtime_error("the backend is down");
      return std::vector<outcome<int>>(keys.begin(), keys.end());
    };
  }
};

std::vector<int> hundred_keys() {
  std::vector<int> keys(100);
  std::iota(keys.begin(), keys.end(), 0);
  return keys;
}

// Goal    Keys that one get_all finds due are refreshed by one bulk load; a failure delays the next
//         refresh of all of them; a value that is put while the refresh runs is not overwritten
//         (scenarios 31, 59).
TEST(throttle, keys_that_come_due_together_are_one_load) {  // Scenario 59
  manual_timer time;
  bulk_backend db;
  support::manual_executor queue;
  loading_cache<int, int> cache(db.one(), db.many(),
                                {.ttl = 1h,
                                 .refresh_after = 1min,
                                 .retry_after = 10s,
                                 .max_retry_after = 10s,
                                 .group = {.executor = queue, .timer = &time}});
  const auto keys = hundred_keys();
  (void)cache.get_all(keys);
  EXPECT_EQ(db.bulk, 1);
  time.advance(2min);
  db.works = false;
  for (int i = 0; i < 3; ++i) {
    for (const auto& one : cache.get_all(keys)) EXPECT_TRUE(one.has_value());
    queue.run_all();
    EXPECT_EQ(db.bulk, 2) << "no load within the period";
  }
  db.works = true;
  time.advance(11s);
  for (const auto& one : cache.get_all(keys)) EXPECT_TRUE(one.has_value());
  cache.put(7, 777);
  queue.run_all();
  EXPECT_EQ(db.bulk, 3);
  EXPECT_EQ(db.single, 0);
  EXPECT_EQ(*cache.get(7), 777);
  (void)cache.get_all(keys);
  EXPECT_EQ(queue.run_all(), 0U);
  EXPECT_EQ(cache.stats().refreshes, 199U) << "all but the one that was put";
}

// Goal    Stale values in one get_all that may be loaded again are loaded by one bulk load.
TEST(throttle, keys_that_are_stale_together_are_one_load) {
  manual_timer time;
  bulk_backend db;
  loading_cache<int, int> cache(
      db.one(), db.many(),
      {.ttl = 1min, .stale_if_error = 1h, .retry_after = 10s, .group = {.timer = &time}});
  const auto keys = hundred_keys();
  (void)cache.get_all(keys);
  time.advance(2min);
  db.works = false;
  for (int i = 0; i < 3; ++i) {
    for (const auto& one : cache.get_all(keys)) EXPECT_TRUE(one.value().stale());
  }
  EXPECT_EQ(db.bulk, 2);
  time.advance(11s);
  db.works = true;
  for (const auto& one : cache.get_all(keys)) EXPECT_FALSE(one.value().stale());
  EXPECT_EQ(db.bulk, 3);
  EXPECT_EQ(db.single, 0);
}

}  // namespace
