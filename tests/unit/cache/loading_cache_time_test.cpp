// SPDX-License-Identifier: Apache-2.0

// A cache whose entries age: ttl, jitter, refresh, stale values, absences and errors, the sweep.
//
// A test moves the clock. A tick of the cache is 66 microseconds: no test depends on less.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <future>
#include <memory>
#include <optional>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "support/cache.hpp"
#include "support/executors.hpp"
#include "support/gate.hpp"
#include "support/gated_timer.hpp"
#include "support/task.hpp"
#include <singleflight/cache.hpp>

namespace {

using namespace std::chrono_literals;
using singleflight::flight_errc;
using singleflight::flight_error;
using singleflight::freshness;
using singleflight::inline_executor;
using singleflight::loading_cache;
using singleflight::manual_timer;
using singleflight::with_ttl;
using support::gate;
using support::in_thread;

constexpr auto bit = 1ms;  // more than a tick

struct backend {
  int loads = 0;
  bool works = true;
  int operator()(int) {
    ++loads;
    if (!works) throw std::runtime_error("the backend is down");
    return loads;
  }
};

// ---- ttl ----------------------------------------------------------------------------------------

// Goal    A value is fresh for its ttl, and is loaded again after that.
TEST(cache_time, ttl) {
  manual_timer time;
  backend db;
  loading_cache<int, int> cache(std::ref(db), {.ttl = 10s, .jitter = 0, .group = {.timer = &time}});
  EXPECT_EQ(*cache.get(1), 1);
  time.advance(10s - bit);
  EXPECT_EQ(*cache.get(1), 1);
  EXPECT_TRUE(cache.find(1));
  time.advance(bit);
  EXPECT_FALSE(cache.find(1));
  const auto again = cache.get(1);
  EXPECT_EQ(*again, 2);
  EXPECT_EQ(again.freshness(), freshness::fresh);
  EXPECT_LT(again.age(), bit);
  time.advance(3s);
  EXPECT_NEAR(std::chrono::duration<double>(again.age()).count(), 3, 0.001);
}

// Goal    The ttl counts from the end of the load, or from put.
TEST(cache_time, ttl_counts_from_the_end_of_the_load) {
  manual_timer time;
  loading_cache<int, int> cache(
      [&](int k) {
        time.advance(1h);
        return k;
      },
      {.ttl = 10s, .jitter = 0, .group = {.timer = &time}});
  EXPECT_EQ(*cache.get(1), 1);
  EXPECT_TRUE(cache.find(1));
  time.advance(5s);
  cache.put(1, 2);
  time.advance(9s);
  EXPECT_EQ(**cache.find(1), 2);
  time.advance(1s);
  EXPECT_FALSE(cache.find(1));
}

// Goal    ttl_of gives each value its own time; if that is zero or less, the value is not stored,
//         and the previous entry for its key is removed.
TEST(cache_time, ttl_of) {
  manual_timer time;
  int seconds = 0;
  loading_cache<int, int> cache([&](int) { return seconds; },
                                {.ttl = 1h,
                                 .ttl_of = [](int, int v) { return std::chrono::seconds(v); },
                                 .jitter = 0,
                                 .group = {.timer = &time}});
  seconds = 5;
  cache.get(5);
  seconds = 50;
  cache.get(50);
  time.advance(5s);
  EXPECT_FALSE(cache.find(5));
  EXPECT_TRUE(cache.find(50));
  time.advance(45s);
  EXPECT_FALSE(cache.find(50));
  seconds = 0;
  EXPECT_EQ(*cache.get(1), 0);
  EXPECT_FALSE(cache.find(1));
  cache.put(2, 100);
  EXPECT_TRUE(cache.find(2));
  cache.put(2, -1);
  EXPECT_FALSE(cache.find(2));
}

// Goal    The time in a loader's with_ttl takes precedence over ttl_of, and so does that in put.
TEST(cache_time, with_ttl) {
  manual_timer time;
  loading_cache<int, int> cache(
      [](int k) {
        return with_ttl<int>{k, std::chrono::seconds(k)};
      },
      {.ttl = 1h, .jitter = 0, .group = {.timer = &time}});
  cache.get(5);
  cache.put(6, with_ttl<int>{60, 8s});
  cache.put(7, 70);  // the ttl of the options
  EXPECT_EQ(*cache.get(0), 0);
  EXPECT_FALSE(cache.find(0)) << "zero: not stored";
  time.advance(6s);
  EXPECT_FALSE(cache.find(5));
  EXPECT_TRUE(cache.find(6));
  time.advance(2s);
  EXPECT_FALSE(cache.find(6));
  EXPECT_TRUE(cache.find(7));
  time.advance(1h);
  EXPECT_FALSE(cache.find(7));
}

// ---- jitter -------------------------------------------------------------------------------------

/// The times at which many entries stored together expire, in hundredths of `ttl`.
template <class Cache>
std::vector<int> ends_of(Cache& cache, manual_timer& time, int keys, std::chrono::seconds ttl) {
  std::vector<int> ends(static_cast<std::size_t>(keys), -1);
  for (int hundredth = 0; hundredth <= 101; ++hundredth) {
    for (int k = 0; k < keys; ++k) {
      auto& end = ends[static_cast<std::size_t>(k)];
      if (end < 0 && !cache.policy().explain(k).fresh) end = hundredth;
    }
    time.advance(ttl / 100);
  }
  return ends;
}

void expect_spread(const std::vector<int>& ends, int from) {
  const std::set<int> different(ends.begin(), ends.end());
  EXPECT_GE(*different.begin(), from);
  EXPECT_LE(*different.rbegin(), 100) << "jitter only shortens";
  // Evenly: no hundredth of the time has more than twice its share.
  for (const int end : different) {
    const auto count = std::count(ends.begin(), ends.end(), end);
    EXPECT_LT(count, 2 * static_cast<long>(ends.size()) / (100 - from)) << end;
  }
  EXPECT_GE(different.size(), static_cast<std::size_t>(100 - from));
}

// Goal    Entries stored together do not expire together, whatever defines their time: jitter
//         subtracts up to its share of each time, and never adds.
TEST(cache_time, jitter_spreads_and_only_shortens) {  // Scenario 33
  constexpr int keys = 2000;
  {
    manual_timer time;
    loading_cache<int, int> cache([](int k) { return k; },
                                  {.ttl = 100s, .jitter = 0.2, .group = {.timer = &time}});
    for (int k = 0; k < keys; ++k) cache.get(k);
    expect_spread(ends_of(cache, time, keys, 100s), 80);
  }
  {
    manual_timer time;
    loading_cache<int, int> cache(
        [](int k) {
          return with_ttl<int>{k, 100s};
        },
        {.jitter = 0.2, .group = {.timer = &time}});
    for (int k = 0; k < keys; ++k) cache.get(k);
    expect_spread(ends_of(cache, time, keys, 100s), 80);
  }
  {
    manual_timer time;
    loading_cache<int, int> cache([](int) { return std::optional<int>(); },
                                  {.jitter = 0.2, .negative_ttl = 100s, .group = {.timer = &time}});
    for (int k = 0; k < keys; ++k) cache.get(k);
    expect_spread(ends_of(cache, time, keys, 100s), 80);
  }
  {
    manual_timer time;
    loading_cache<int, int> cache([](int) -> int { throw std::runtime_error("down"); },
                                  {.jitter = 0.2, .error_ttl = 100s, .group = {.timer = &time}});
    for (int k = 0; k < keys; ++k) EXPECT_THROW(cache.get(k), std::runtime_error);
    expect_spread(ends_of(cache, time, keys, 100s), 80);
  }
}

// Goal    Jitter belongs to each cache: two caches with different random bits differ.
TEST(cache_time, jitter_by_the_given_bits) {
  const auto ends_with = [](std::uint64_t bits) {
    manual_timer time;
    loading_cache<int, int> cache(
        [](int k) { return k; },
        {.ttl = 100s, .jitter = 1, .group = {.timer = &time}, .random = [bits] { return bits; }});
    for (int k = 0; k < 50; ++k) cache.get(k);
    return ends_of(cache, time, 50, 100s);
  };
  EXPECT_EQ(ends_with(0x12345677), ends_with(0x12345677));
  EXPECT_NE(ends_with(0x12345677), ends_with(0x9876543f));
}

// ---- refresh ------------------------------------------------------------------------------------

// Goal    A hit on an old value starts one load in the background, and later hits see its value.
TEST(cache_time, refresh_after) {
  manual_timer time;
  backend db;
  support::manual_executor later;
  loading_cache<int, int> cache(std::ref(db), {.ttl = 60s,
                                               .jitter = 0,
                                               .refresh_after = 10s,
                                               .group = {.executor = later, .timer = &time}});
  EXPECT_EQ(*cache.get(1), 1);
  time.advance(10s - bit);
  EXPECT_EQ(*cache.get(1), 1);
  EXPECT_EQ(later.size(), 0U);
  time.advance(bit);
  for (int i = 0; i < 5; ++i) EXPECT_EQ(*cache.get(1), 1);
  EXPECT_EQ(cache.get(1).freshness(), freshness::fresh);
  EXPECT_EQ(*cache.start_get(1).get(), 1);
  EXPECT_EQ(**cache.get_all(std::vector{1}).front(), 1);
  EXPECT_EQ(later.size(), 1U);
  EXPECT_EQ(db.loads, 1);
  later.run_all();
  EXPECT_EQ(*cache.get(1), 2);
  EXPECT_EQ(later.size(), 0U);
  EXPECT_EQ(cache.stats().refreshes, 1U);
  EXPECT_EQ(cache.stats().misses, 1U);
}

// Goal    refresh_after has no effect if it is not shorter than the ttl.
TEST(cache_time, refresh_after_the_ttl) {
  manual_timer time;
  support::manual_executor later;
  loading_cache<int, int> cache([](int k) { return k; },
                                {.ttl = 10s,
                                 .jitter = 0,
                                 .refresh_after = 10s,
                                 .group = {.executor = later, .timer = &time}});
  cache.get(1);
  time.advance(10s - bit);
  cache.get(1);
  time.advance(10s);
  cache.get(1);
  EXPECT_EQ(later.size(), 0U);
  EXPECT_EQ(cache.stats().loads, 2U);
}

// Goal    A refresh that fails keeps the value, and the next ones are made after longer and longer
//         waits, up to the maximum; one that succeeds resets the wait.
TEST(cache_time, a_failed_refresh_keeps_the_value_and_backs_off) {  // Scenario 32
  manual_timer time;
  backend db;
  loading_cache<int, int> cache(std::ref(db),
                                {.ttl = 1h,
                                 .jitter = 0,
                                 .refresh_after = 10s,
                                 .retry_after = 1s,
                                 .max_retry_after = 6s,
                                 .group = {.executor = inline_executor, .timer = &time}});
  cache.get(1);
  db.works = false;
  time.advance(10s);
  std::vector<int> waits;
  int seconds = 0;
  for (int loads = db.loads; seconds < 40; ++seconds) {
    const auto hit = cache.get(1);
    ASSERT_EQ(*hit, 1);
    ASSERT_EQ(hit.freshness(), freshness::fresh);
    if (db.loads != loads) waits.push_back(seconds);
    loads = db.loads;
    time.advance(1s + bit);
  }
  EXPECT_THAT(waits, testing::ElementsAre(0, 1, 3, 7, 13, 19, 25, 31, 37));
  db.works = true;
  time.advance(6s);
  cache.get(1);
  EXPECT_GT(*cache.get(1), 1);
  db.works = false;
  time.advance(10s);
  const int before = db.loads;
  cache.get(1);
  time.advance(1s + bit);
  cache.get(1);
  EXPECT_EQ(db.loads, before + 2) << "the wait must have been reset";
}

// Goal    A refresh slower than the refresh interval is still stored.
TEST(cache_time, a_slow_refresh_is_stored) {  // Scenario 32
  manual_timer time;
  support::thread_per_task threads;
  gate loading;
  std::atomic<int> loads{0};
  loading_cache<int, int> cache(
      [&](int) {
        const int n = ++loads;
        if (n == 2) loading.wait();
        return n;
      },
      {.refresh_after = 1s, .group = {.executor = threads, .timer = &time}});
  cache.get(1);
  time.advance(2s);
  cache.get(1);
  loading.await_arrivals();
  for (int i = 0; i < 20; ++i) {
    time.advance(2s);
    EXPECT_EQ(*cache.get(1), 1) << "while its refresh runs";
  }
  EXPECT_EQ(loads, 2) << "one at a time";
  loading.open();
  support::eventually([&] { return *cache.get(1) == 2; }, "the refreshed value");
  threads.join();
}

// Goal    A refresh that is lost, because its executor drops it, is tried again after retry_after.
TEST(cache_time, a_lost_refresh_is_tried_again) {
  manual_timer time;
  backend db;
  support::manual_executor later;
  loading_cache<int, int> cache(
      std::ref(db),
      {.refresh_after = 10s, .retry_after = 5s, .group = {.executor = later, .timer = &time}});
  cache.get(1);
  time.advance(10s);
  cache.get(1);
  EXPECT_TRUE(later.drop_one());
  time.advance(4s);
  cache.get(1);
  EXPECT_EQ(later.size(), 0U);
  time.advance(1s + bit);
  cache.get(1);
  EXPECT_EQ(later.run_all(), 1U);
  EXPECT_EQ(*cache.get(1), 2);
}

// Goal    refresh(key) loads at once, whatever is stored; a failure keeps the stored value.
TEST(cache_time, refresh_by_hand) {
  manual_timer time;
  backend db;
  loading_cache<int, int> cache(
      std::ref(db),
      {.ttl = 10s, .jitter = 0, .group = {.executor = inline_executor, .timer = &time}});
  cache.refresh(1);
  EXPECT_EQ(**cache.find(1), 1) << "a missing key is loaded as well";
  time.advance(9s);
  cache.refresh(1);
  time.advance(9s);
  EXPECT_EQ(**cache.find(1), 2);
  db.works = false;
  cache.refresh(1);
  EXPECT_EQ(**cache.find(1), 2);
  EXPECT_EQ(cache.stats().refreshes, 3U);
}

// ---- stale --------------------------------------------------------------------------------------

// Goal    While loads fail the stale value is served, marked as stale, and the load is tried at
//         most once per period, which doubles up to its maximum.
TEST(cache_time, stale_if_error) {  // Scenario 34
  manual_timer time;
  backend db;
  loading_cache<int, int> cache(std::ref(db), {.ttl = 10s,
                                               .jitter = 0,
                                               .stale_if_error = 100s,
                                               .retry_after = 1s,
                                               .max_retry_after = 8s,
                                               .group = {.timer = &time}});
  cache.get(1);
  db.works = false;
  time.advance(10s);
  EXPECT_FALSE(cache.find(1)) << "find returns fresh values only";
  std::vector<int> tries;
  for (int second = 0, loads = db.loads; second < 30; ++second) {
    for (int i = 0; i < 3; ++i) {
      const auto got = cache.get(1);
      ASSERT_EQ(*got, 1);
      ASSERT_TRUE(got.stale());
    }
    if (db.loads != loads) tries.push_back(second);
    ASSERT_LE(db.loads, loads + 1);
    loads = db.loads;
    time.advance(1s + bit);
  }
  EXPECT_THAT(tries, testing::ElementsAre(0, 1, 3, 7, 15, 23));
  EXPECT_TRUE(cache.start_get(1).get().stale());
  EXPECT_TRUE(cache.get_all(std::vector{1}).front()->stale());
  db.works = true;
  time.advance(8s);
  const auto back = cache.get(1);
  EXPECT_FALSE(back.stale());
  EXPECT_GT(*back, 1);
}

// Goal    After stale_if_error the failure is thrown.
TEST(cache_time, no_stale_value_after_stale_if_error) {
  manual_timer time;
  backend db;
  loading_cache<int, int> cache(std::ref(db), {.ttl = 10s,
                                               .jitter = 0,
                                               .stale_if_error = 20s,
                                               .retry_after = 0s,
                                               .group = {.timer = &time}});
  cache.get(1);
  db.works = false;
  time.advance(30s - bit);
  EXPECT_TRUE(cache.get(1).stale());
  time.advance(bit);
  EXPECT_THROW(cache.get(1), std::runtime_error);
}

// Goal    All callers that share a failed load are served the stale value.
TEST(cache_time, stale_for_all_who_share_the_load) {
  manual_timer time;
  support::joined_counter joined;
  gate loading;
  std::atomic<int> loads{0};
  loading_cache<int, int> cache(
      [&](int k) {
        if (++loads == 1) return k;
        loading.wait();
        throw std::runtime_error("down");
      },
      {.ttl = 10s, .stale_if_error = 1h, .group = {.timer = &time, .observer = &joined}});
  cache.get(1);
  time.advance(11s);
  auto leader = in_thread([&] { return cache.get(1).stale(); });
  loading.await_arrivals();
  auto other = in_thread([&] { return cache.get(1).stale(); });
  auto all = in_thread([&] { return cache.get_all(std::vector{1}).front()->stale(); });
  joined.await(2);
  loading.open();
  EXPECT_TRUE(leader.get());
  EXPECT_TRUE(other.get());
  EXPECT_TRUE(all.get());
  EXPECT_EQ(loads, 2);
}

// Goal    With soft_timeout a get of a stale value waits that long for its load, and then returns
//         the stale value; the load continues, and its value is found by the next get.
// Method  The load is held at a gate; the time is moved once the get has armed its alarm.
TEST(cache_time, soft_timeout) {
  support::gated_timer time;
  time.wanted = time.now() + 11s + 2s;
  support::thread_per_task threads;
  gate loading;
  std::atomic<int> loads{0};
  loading_cache<int, int> cache(
      [&](int) {
        const int n = ++loads;
        if (n == 2) loading.wait();
        return n;
      },
      {.ttl = 10s,
       .stale_if_error = 1h,
       .soft_timeout = 2s,
       .group = {.executor = threads, .timer = &time}});
  EXPECT_EQ(*cache.get(1), 1);
  time.clock.advance(11s);
  auto slow = in_thread([&] {
    const auto got = cache.get(1);
    return got.stale() ? *got : -*got;
  });
  loading.await_arrivals();
  time.armed.wait();
  time.clock.advance(2s);
  EXPECT_EQ(slow.get(), 1);
  loading.open();
  threads.join();  // a load that has stored its value can be joined until its flight ends
  EXPECT_EQ(*cache.get(1), 2);
  EXPECT_FALSE(cache.get(1).stale());
  EXPECT_EQ(cache.stats().stale_hits, 1U);
  // A load that ends in time is waited for.
  time.clock.advance(11s);
  const auto in_time = cache.get(1);
  EXPECT_EQ(*in_time, 3);
  EXPECT_FALSE(in_time.stale());
  threads.join();
}

// Goal    If the stale value is removed while its load is waited for, the call keeps waiting for
//         the running load, or, if that was forgotten, for another load by the same loader, which
//         the first one owns.
// Method  The first load is held at a gate: the second wait joins it, or ends before it.
TEST(cache_time, soft_timeout_after_the_stale_value_was_removed) {
  for (const bool forgotten : {false, true}) {
    support::gated_timer time;
    time.wanted = time.now() + 11s + 3s;
    support::thread_per_task threads;
    support::joined_counter joined;
    gate loading;
    loading_cache<int, int> cache(
        [](int) { return 0; },
        {.ttl = 10s,
         .stale_if_error = 2s,
         .soft_timeout = 3s,
         .group = {.executor = threads, .timer = &time, .observer = &joined}});
    cache.get(1);
    time.clock.advance(11s);
    auto slow = in_thread([&] {
      return *cache.get(1, [&loading, loads = std::make_unique<std::atomic<int>>(0)](int) {
        if (!loads) return -1;  // moved from
        const int n = ++*loads;
        if (n == 1) loading.wait();
        return n;
      });
    });
    loading.await_arrivals();
    time.armed.wait();
    if (forgotten) cache.invalidate(1);
    time.clock.advance(3s);
    if (forgotten) {
      EXPECT_EQ(slow.get(), 2);
      loading.open();
    } else {
      joined.await(1);
      loading.open();
      EXPECT_EQ(slow.get(), 1);
    }
    EXPECT_EQ(cache.stats().stale_hits, 0U);
    threads.join();
  }
}

// Goal    On a pool without a free thread the stale value is also returned after the soft timeout:
//         a call that has a stale value does not run the load itself.
TEST(cache_time, soft_timeout_on_a_full_pool) {
  support::gated_timer time;
  time.wanted = time.now() + 11s + 2s;
  std::atomic<int> loads{0};
  gate loaded;
  singleflight::thread_pool pool({.max_threads = 1});
  {
    loading_cache<int, int> cache(
        [&](int) {
          const int n = ++loads;
          if (n == 2) loaded.open();
          return n;
        },
        {.ttl = 10s,
         .stale_if_error = 1h,
         .soft_timeout = 2s,
         .group = {.executor = pool, .timer = &time}});
    cache.get(1);
    time.clock.advance(11s);
    std::promise<std::pair<bool, int>> slow;
    pool.execute(singleflight::task([&] {
      const bool stale = cache.get(1).stale();
      slow.set_value({stale, loads});
    }));
    time.armed.wait();
    time.clock.advance(2s);
    EXPECT_EQ(slow.get_future().get(), std::pair(true, 1));
    loaded.wait();  // the pool's thread is free now
  }
  EXPECT_EQ(loads, 2);
}

// Goal    If a load fails within the soft timeout, the stale value is returned at once.
TEST(cache_time, soft_timeout_and_a_failure) {
  manual_timer time;
  backend db;
  loading_cache<int, int> cache(std::ref(db),
                                {.ttl = 10s,
                                 .stale_if_error = 1h,
                                 .soft_timeout = 2s,
                                 .group = {.executor = inline_executor, .timer = &time}});
  cache.get(1);
  time.advance(11s);
  db.works = false;
  EXPECT_TRUE(cache.get(1).stale());
  EXPECT_EQ(db.loads, 2);
}

// Goal    A caller's stop token ends a wait within the soft timeout as cancelled.
TEST(cache_time, soft_timeout_and_a_stop) {
  manual_timer time;
  support::manual_executor later;
  loading_cache<int, int> cache([](int k) { return k; },
                                {.ttl = 10s,
                                 .stale_if_error = 1h,
                                 .soft_timeout = 2s,
                                 .group = {.executor = later, .timer = &time}});
  cache.get(1);
  time.advance(11s);
  std::stop_source stop;
  stop.request_stop();
  try {
    cache.get(1, {.stop = stop.get_token()});
    ADD_FAILURE();
  } catch (const flight_error& e) {
    EXPECT_EQ(e.code(), flight_errc::cancelled);
  }
  // If a deadline comes before the soft timeout, the stale value is returned at the deadline.
  EXPECT_TRUE(cache.get(1, {.deadline = time.now()}).stale());
  later.run_all();
}

// ---- absences and errors ------------------------------------------------------------------------

// Goal    An absence is kept for negative_ttl, independently of the ttl.
TEST(cache_time, negative_ttl) {  // Scenario 36
  manual_timer time;
  int loads = 0;
  loading_cache<int, int> cache(
      [&](int k) {
        ++loads;
        return k < 0 ? std::optional<int>() : k;
      },
      {.ttl = 100s,
       .jitter = 0,
       .stale_if_error = 100s,
       .negative_ttl = 5s,
       .group = {.timer = &time}});
  EXPECT_FALSE(cache.get(-1));
  EXPECT_TRUE(cache.get(1));
  time.advance(5s - bit);
  EXPECT_FALSE(cache.get(-1));
  EXPECT_EQ(loads, 2);
  time.advance(bit);
  EXPECT_FALSE(cache.find(-1));
  EXPECT_FALSE(cache.get(-1));
  EXPECT_EQ(loads, 3);
  EXPECT_TRUE(cache.get(1));
  EXPECT_EQ(loads, 3);
}

// Goal    A failure is also thrown to later callers for error_ttl, with its own type; find and the
//         second lookup do not return it.
TEST(cache_time, error_ttl) {
  manual_timer time;
  backend db;
  db.works = false;
  loading_cache<int, int> cache(
      std::ref(db),
      {.jitter = 0, .error_ttl = 5s, .group = {.executor = inline_executor, .timer = &time}});
  EXPECT_THROW(cache.get(1), std::runtime_error);
  EXPECT_THROW(cache.get(1), std::runtime_error);
  EXPECT_THROW(cache.start_get(1).get(), std::runtime_error);
  EXPECT_THROW(cache.get_all(std::vector{1}).front().value(), std::runtime_error);
  EXPECT_FALSE(cache.find(1));
  EXPECT_EQ(db.loads, 1);
  EXPECT_EQ(cache.stats().hits, 3U);
  db.works = true;
  cache.refresh(1);
  EXPECT_EQ(*cache.get(1), 2) << "a refresh that succeeds replaces it";
  cache.invalidate(1);
  db.works = false;
  EXPECT_THROW(cache.get(1), std::runtime_error);
  db.works = true;
  time.advance(5s);
  EXPECT_EQ(*cache.get(1), 4);
}

// Goal    A stale value takes precedence over a kept error.
TEST(cache_time, stale_before_error) {
  manual_timer time;
  backend db;
  loading_cache<int, int> cache(std::ref(db), {.ttl = 10s,
                                               .jitter = 0,
                                               .stale_if_error = 10s,
                                               .retry_after = 1s,
                                               .error_ttl = 5s,
                                               .group = {.timer = &time}});
  cache.get(1);
  db.works = false;
  time.advance(11s);
  EXPECT_TRUE(cache.get(1).stale());
  time.advance(10s);
  EXPECT_THROW(cache.get(1), std::runtime_error);
  EXPECT_THROW(cache.get(1), std::runtime_error);
  EXPECT_EQ(db.loads, 3);
}

// ---- the sweep ----------------------------------------------------------------------------------

// Goal    The memory of expired entries is freed, even if no call requests them.
// Method  Values are counted. The sweep runs on the default pool, some time after the alarm.
TEST(cache_time, the_sweep_gives_memory_back) {
  manual_timer time;
  std::atomic<int> removed{0};
  loading_cache<int, support::living> cache(
      [](int k) { return support::living(k); },
      {.ttl = 10s,
       .jitter = 0.5,
       .on_removal =
           [&](int k, const support::living* v, singleflight::removal_cause cause) {
             EXPECT_EQ(cause, singleflight::removal_cause::expired);
             EXPECT_EQ(v->read(), k);
             ++removed;
           },
       .group = {.timer = &time}});
  for (int k = 0; k < 5000; ++k) cache.get(k);
  EXPECT_EQ(support::living::alive, 5000);
  support::eventually(
      [&] {
        time.advance(1s);
        std::this_thread::yield();
        return support::living::alive == 0;
      },
      "the end of all values");
  EXPECT_EQ(removed, 5000);
  EXPECT_EQ(cache.stats().entries, 0U);
  EXPECT_EQ(cache.stats().expired, 5000U);
  // And again, after it has found nothing left to sweep.
  cache.get(1);
  support::eventually(
      [&] {
        time.advance(1s);
        return support::living::alive == 0;
      },
      "the end of one more value");
}

// Goal    While the destructor of a cache waits for its sweep, the tasks in the thread's trampoline
//         run elsewhere, so the sweep may wait for them.
// Method  The sweep's listener waits at a gate, which a task queued behind the one that destroys
//         the cache opens.
TEST(cache_time, the_end_waits_for_a_sweep_that_waits_for_this_thread) {
  manual_timer time;
  gate hold;
  std::optional<loading_cache<int, int>> cache;
  cache.emplace(
      [](int k) { return k; },
      loading_cache<int, int>::options{
          .ttl = 10s,
          .on_removal = [&](int, const int*, singleflight::removal_cause) { hold.wait(); },
          .group = {.timer = &time}});
  cache->get(1);
  time.advance(1min);
  hold.await_arrivals();
  inline_executor.execute(singleflight::task([&] {
    inline_executor.execute(singleflight::task([&] { hold.open(); }));
    cache.reset();
    EXPECT_TRUE(hold.is_open());
  }));
}

// Goal    An entry that is stored while a sweep ends is swept later as well.
// Method  The listener of the last entry removed, which the sweep calls, stores another entry.
TEST(cache_time, what_is_stored_as_a_sweep_ends) {
  manual_timer time;
  loading_cache<int, int>* self = nullptr;
  std::atomic<int> removed{0};
  loading_cache<int, int> cache([](int k) { return k; },
                                {.ttl = 10s,
                                 .on_removal =
                                     [&](int k, const int*, singleflight::removal_cause) {
                                       if (k == 1) self->put(2, 2);
                                       ++removed;
                                     },
                                 .group = {.timer = &time}});
  self = &cache;
  cache.get(1);
  support::eventually(
      [&] {
        time.advance(1s);
        return removed >= 1;
      },
      "the removal of the first entry");
  support::eventually(
      [&] {
        time.advance(1s);
        return removed == 2;
      },
      "the removal of the second entry");
}

// Goal    The sweep leaves a stale value that may still be served.
TEST(cache_time, the_sweep_keeps_stale_values) {
  manual_timer time;
  loading_cache<int, support::living> cache(
      [](int k) { return support::living(k); },
      {.ttl = 10s, .stale_if_error = 100s, .group = {.timer = &time}});
  cache.get(1);
  cache.put(2, support::living(2));
  time.advance(50s);
  // The sweep of that time may have run or not: it removes neither entry.
  EXPECT_EQ(cache.stats().entries, 2U);
  support::eventually(
      [&] {
        time.advance(1s);
        return cache.stats().expired == 2;  // counted last
      },
      "the removal of both entries");
  EXPECT_EQ(cache.stats().entries, 0U);
}

/// A timer whose time moves on by a minute just before a node is armed, `leaps` times.
class leaping_timer final : public singleflight::timer {
 public:
  std::atomic<int> leaps{0};
  time_point now() const noexcept override { return at_.now(); }
  void arm(singleflight::timer_node& node, time_point when) override {
    if (leaps > 0) {
      --leaps;
      at_.advance(1min);
    }
    at_.arm(node, when);
  }
  void cancel(singleflight::timer_node& node) noexcept override { at_.cancel(node); }
  void advance(std::chrono::nanoseconds step) { at_.advance(step); }

 private:
  manual_timer at_;
};

// Goal    The alarm of the sweep may fire while it is being armed, within the call that arms it:
//         when the first entry is stored, and at the end of a sweep.
// Method  The timer's time moves on within arm.
TEST(cache_time, an_alarm_that_fires_as_it_is_armed) {
  leaping_timer time;
  time.leaps = 3;
  loading_cache<int, support::living> cache([](int k) { return support::living(k); },
                                            {.ttl = 1h, .group = {.timer = &time}});
  cache.get(1);
  support::eventually([&] { return time.leaps == 0; }, "three sweeps");
  EXPECT_TRUE(cache.find(1));
  support::eventually(
      [&] {
        time.advance(1min);
        return support::living::alive == 0;
      },
      "the end of the value");
}

// Goal    The interval of the sweep depends on the times of expiry, not on how long stale values
//         are kept.
TEST(cache_time, how_often_it_sweeps) {
  using options = loading_cache<int, int>::options;
  const auto interval = [](const options& how) {
    return singleflight::detail::lifetimes(how, false).sweep_interval();
  };
  const auto about = [](std::chrono::nanoseconds of) {
    return testing::AllOf(testing::Gt(of - 10ms), testing::Le(of));
  };
  EXPECT_THAT(interval({.ttl = 10s}), about(2500ms));
  EXPECT_THAT(interval({.ttl = 10s, .stale_if_error = 1h}), about(60s));
  EXPECT_THAT(interval({.ttl = 10s, .stale_if_error = 30s}), about(10s));
  EXPECT_THAT(interval({.ttl = 1h, .negative_ttl = 20s}), about(5s));
  EXPECT_THAT(interval({.error_ttl = 1s}), about(1s));
}

// Goal    The destructor of a cache ends its sweep, wherever that is.
TEST(cache_time, the_end_ends_the_sweep) {
  for (int i = 0; i < 200; ++i) {
    leaping_timer time;
    time.leaps = i % 3;
    loading_cache<int, int> cache([](int k) { return k; }, {.ttl = 10s, .group = {.timer = &time}});
    cache.get(i);
    if (i % 2 == 0) time.advance(1s);
  }
}

}  // namespace
