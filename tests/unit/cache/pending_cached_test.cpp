// SPDX-License-Identifier: Apache-2.0

// start_get: a handle that holds the result or shares a load; it may be awaited, waited for, given
// a limit, resumed elsewhere, or dropped.

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <optional>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "support/cache.hpp"
#include "support/death.hpp"
#include "support/executors.hpp"
#include "support/gate.hpp"
#include "support/task.hpp"
#include <singleflight/cache.hpp>

namespace {

using namespace std::chrono_literals;
using singleflight::flight_context;
using singleflight::flight_errc;
using singleflight::flight_error;
using singleflight::freshness;
using singleflight::inline_executor;
using singleflight::loading_cache;
using singleflight::manual_timer;
using singleflight::outcome;
using support::gate;
using support::living;
using cache_type = loading_cache<int, living>;
using answer = std::optional<outcome<singleflight::cached<living>>>;

living load(int k) {
  if (k < 0) throw std::out_of_range("negative");
  return living(k);
}

support::detached await_plain(cache_type& cache, int key, int& got) {
  auto handle = cache.start_get(key);
  try {
    const auto value = co_await handle;
    got = value->read();
  } catch (const std::out_of_range&) {
    got = -1;
  } catch (const flight_error&) {
    got = -2;
  }
}

// Goal    A hit is ready at once and does not suspend; a miss suspends until its load has ended.
TEST(start_get, awaited) {
  support::manual_executor later;
  cache_type cache(load, {.group = {.executor = later}});
  int got = 0;
  await_plain(cache, 5, got);
  EXPECT_EQ(got, 0);
  later.run_all();
  EXPECT_EQ(got, 5);
  got = 0;
  await_plain(cache, 5, got);
  EXPECT_EQ(got, 5) << "a hit";
  await_plain(cache, -5, got);
  later.run_all();
  EXPECT_EQ(got, -1) << "the loader's own exception";
  EXPECT_TRUE(cache.start_get(5).ready());
  auto miss = cache.start_get(6);
  EXPECT_FALSE(miss.ready());
  later.run_all();
  EXPECT_TRUE(miss.ready());
  EXPECT_EQ(miss.get()->read(), 6);
}

support::detached await_until(cache_type& cache, int key, std::chrono::steady_clock::time_point by,
                              std::stop_token stop, answer& got) {
  auto handle = cache.start_get(key);
  got.emplace(co_await handle.until(by, stop).as_outcome());
}

// Goal    A limit ends this wait; the load continues and is stored.
TEST(start_get, until) {
  manual_timer time;
  support::manual_executor later;
  cache_type cache(load, {.group = {.executor = later, .timer = &time}});
  answer timed_out;
  answer cancelled;
  answer waits;
  std::stop_source stop;
  await_until(cache, 1, time.now() + 1s, {}, timed_out);
  await_until(cache, 1, std::chrono::steady_clock::time_point::max(), stop.get_token(), cancelled);
  await_until(cache, 1, time.now() + 1h, stop.get_token(), waits);
  time.advance(1s);
  // The resumption is a task as well; the load was the first one.
  ASSERT_EQ(later.size(), 2U);
  stop.request_stop();
  while (later.size() > 0) later.run_one();
  ASSERT_TRUE(timed_out && cancelled && waits);
  EXPECT_EQ(timed_out->errc(), flight_errc::timed_out);
  EXPECT_EQ(cancelled->errc(), flight_errc::cancelled);
  EXPECT_EQ(waits->errc(), flight_errc::cancelled);
  EXPECT_TRUE(cache.find(1)) << "the load must continue";

  answer hit;
  await_until(cache, 1, time.now() - 1s, stop.get_token(), hit);
  ASSERT_TRUE(hit);
  EXPECT_EQ((**hit)->read(), 1) << "a stored value needs no wait";
}

support::detached await_on(cache_type& cache, int key, support::manual_executor where, int& got) {
  auto handle = cache.start_get(key);
  const auto value = co_await handle.on(where);
  got = value->read();
}
support::detached await_all_limits(cache_type& cache, int key, support::manual_executor where,
                                   std::chrono::steady_clock::time_point by, answer& got) {
  auto handle = cache.start_get(key);
  got.emplace(co_await handle.until(by).on(where).as_outcome());
}

// Goal    on() resumes the coroutine on that executor, for a hit as well: never in place.
TEST(start_get, on_an_executor) {
  manual_timer time;
  support::manual_executor here;
  support::manual_executor there;
  cache_type cache(
      load, {.negative_ttl = 1h, .error_ttl = 1h, .group = {.executor = here, .timer = &time}});
  int got = 0;
  await_on(cache, 1, there, got);
  here.run_all();
  EXPECT_EQ(got, 0);
  EXPECT_EQ(there.run_all(), 1U);
  EXPECT_EQ(got, 1);
  got = 0;
  await_on(cache, 1, there, got);
  EXPECT_EQ(got, 0) << "a hit, but not in place";
  EXPECT_EQ(there.run_all(), 1U);
  EXPECT_EQ(got, 1);

  answer hit;
  await_all_limits(cache, 1, there, time.now() + 1s, hit);
  EXPECT_FALSE(hit);
  there.run_all();
  ASSERT_TRUE(hit);
  EXPECT_EQ((**hit)->read(), 1);
  answer error;
  await_all_limits(cache, -1, there, time.now() + 1h, error);
  here.run_all();
  there.run_all();
  ASSERT_TRUE(error);
  EXPECT_THROW(error->value(), std::out_of_range);
  answer kept;
  await_all_limits(cache, -1, there, time.now() + 1h, kept);
  EXPECT_EQ(cache.stats().loads, 2U) << "the error is kept";
  there.run_all();
  ASSERT_TRUE(kept);
  EXPECT_THROW(kept->value(), std::out_of_range);
}

support::owned wait_owned(cache_type& cache, int key, support::manual_executor where, int& got) {
  auto handle = cache.start_get(key);
  const auto value = co_await handle.on(where);
  got = value->read();
}

// Goal    A coroutine that is destroyed while it waits, or when its resumption is already queued,
//         on a hit or on a miss, leaves nothing behind.
TEST(start_get, destroyed_while_it_waits) {
  {
    support::manual_executor here;
    support::manual_executor there;
    cache_type cache(load, {.group = {.executor = here}});
    int got = 0;
    {
      auto miss = wait_owned(cache, 1, there, got);
      miss.reset();
    }
    here.run_all();
    EXPECT_TRUE(cache.find(1)) << "the load must continue";
    auto hit = wait_owned(cache, 1, there, got);
    EXPECT_EQ(there.size(), 1U);
    hit.reset();
    there.run_all();
    auto late = wait_owned(cache, 2, there, got);
    here.run_all();
    EXPECT_EQ(there.size(), 1U);
    late.reset();
    there.run_all();
    EXPECT_EQ(got, 0);
  }
  EXPECT_EQ(living::alive, 0);
}

// Goal    Handles of a hit and of a load may be dropped unread, in any order.
TEST(start_get, dropped) {
  {
    support::manual_executor later;
    cache_type cache(load, {.group = {.executor = later}});
    { auto unread = cache.start_get(1); }
    EXPECT_FALSE(cache.find(1));
    later.run_all();
    EXPECT_EQ(cache.find(1)->value().read(), 1) << "the load must continue and be stored";
    { auto unread = cache.start_get(1); }
    auto kept = cache.start_get(2);
    later.run_all();
    { auto moved = std::move(kept); }
    EXPECT_EQ(cache.stats().loads, 2U);
  }
  EXPECT_EQ(living::alive, 0);
}

// Goal    A handle may be moved while nobody waits for it, waited for with a limit, and used from
//         another thread.
TEST(start_get, moved_and_blocked_on) {
  manual_timer time;
  support::manual_executor later;
  cache_type cache(load, {.group = {.executor = later, .timer = &time}});
  auto first = cache.start_get(1);
  auto second = std::move(first);
  auto third = cache.start_get(3);
  third = std::move(second);
  EXPECT_EQ(third.until(time.now()).get_outcome().errc(), flight_errc::timed_out);
  auto again = cache.start_get(1);
  later.run_all();
  EXPECT_EQ(again.as_outcome().get()->value().read(), 1);
  auto hit = cache.start_get(1);
  support::in_thread([h = std::move(hit)]() mutable { EXPECT_EQ(h.get()->read(), 1); }).get();
}

support::lazy<int> nested(loading_cache<int, int>& cache, int key, flight_context& flight) {
  if (key == 0) co_return 1;
  auto below = cache.start_get(key > 0 ? key - 1 : key);
  co_return *co_await below.within(flight) + key;
}

// Goal    Within a load another key may be awaited; its own key is refused and does not wait
//         forever. The same holds for a hit.
TEST(start_get, within) {
  loading_cache<int, int>* self = nullptr;
  loading_cache<int, int> cache(
      [&](int k, flight_context& flight) { return nested(*self, k, flight); },
      {.group = {.executor = inline_executor}});
  self = &cache;
  EXPECT_EQ(*cache.get(3), 7);
  EXPECT_EQ(*cache.get(4), 11) << "key 3 is a hit";
  auto own = cache.start_get(-1);
  const auto how = own.get_outcome();
  try {
    (void)how.value();
    ADD_FAILURE();
  } catch (const flight_error& e) {
    EXPECT_EQ(e.code(), flight_errc::recursive);
  }
}

support::detached await_within_on(cache_type& cache, int key, const flight_context& flight,
                                  support::manual_executor where, int& got) {
  auto handle = cache.start_get(key);
  got = (co_await handle.within(flight).on(where))->read();
}

// Goal    within and on may be combined, on a hit.
TEST(start_get, within_and_on_a_hit) {
  support::manual_executor there;
  cache_type cache(load);
  cache.get(1);
  int got = 0;
  cache.get(2, [&](int k, flight_context& flight) {
    await_within_on(cache, 1, flight, there, got);
    there.run_all();
    return living(k);
  });
  EXPECT_EQ(got, 1);
}

// Goal    The value of a load that one caller gets, or that a thousand share, is the stored object.
TEST(start_get, shared_by_many) {
  {
    support::manual_executor later;
    cache_type cache(load, {.group = {.executor = later}});
    std::vector<int> got(1000);
    for (int& g : got) await_plain(cache, 7, g);
    later.run_all();
    for (const int g : got) ASSERT_EQ(g, 7);
    EXPECT_EQ(living::alive, 1);
    EXPECT_EQ(cache.stats().loads, 1U);
  }
  EXPECT_EQ(living::alive, 0);
}

// Goal    A second use of a handle is refused, and so is one after a move, for a hit and for a
//         load.
TEST(start_get_death, used_twice) {
  support::die_apart();
  cache_type cache(load, {.group = {.executor = inline_executor}});
  cache.get(1);
  for (const int key : {1, 2}) {
    auto handle = cache.start_get(key);
    (void)handle.get();
    EXPECT_DEATH((void)handle.get(), "used twice");
    auto first = cache.start_get(key == 1 ? 1 : 20);
    const auto second = std::move(first);
    EXPECT_DEATH((void)first.get(), "after a move");  // NOLINT(bugprone-use-after-move)
    EXPECT_TRUE(second.ready());
  }
}

// Goal    A refusal is stored in the handle; if the executor drops or refuses the load, the result
//         is broken.
TEST(start_get, refused) {
  loading_cache<int, int> dropped([](int k) { return k; },
                                  {.group = {.executor = support::dropping_executor{}}});
  EXPECT_EQ(dropped.start_get(1).get_outcome().errc(), flight_errc::broken);
  loading_cache<int, int> refused([](int k) { return k; },
                                  {.group = {.executor = support::refusing_executor{}}});
  EXPECT_EQ(refused.start_get(1).get_outcome().errc(), flight_errc::broken);
  EXPECT_EQ(*refused.get(1), 1) << "a blocking call leads the load itself";
  support::manual_executor later;
  loading_cache<int, int> full([](int k) { return k; },
                               {.group = {.executor = later, .max_flights = 1}});
  auto one = full.start_get(1);
  EXPECT_EQ(full.start_get(2).get_outcome().errc(), flight_errc::overloaded);
  EXPECT_THROW(full.get(3), flight_error);
  later.run_all();
  EXPECT_EQ(*one.get(), 1);
}

}  // namespace
