// SPDX-License-Identifier: Apache-2.0

// get_all: one outcome per key, from the cache if the key is stored, the rest by one bulk load or
// key by key.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "support/cache.hpp"
#include "support/executors.hpp"
#include "support/gate.hpp"
#include "support/task.hpp"
#include <singleflight/cache.hpp>

namespace {

using namespace std::chrono_literals;
using singleflight::flight_errc;
using singleflight::flight_error;
using singleflight::freshness;
using singleflight::inline_executor;
using singleflight::loading_cache;
using singleflight::outcome;
using singleflight::with_ttl;
using support::gate;
using support::in_thread;
using testing::ElementsAre;

int not_alone(int) {
  ADD_FAILURE() << "the loader for one key was called";
  return -1;
}

/// A bulk loader that records the keys that it was called with.
struct bulk {
  std::vector<std::vector<int>>& calls;
  std::vector<outcome<int>> operator()(std::span<const int> keys) const {
    calls.emplace_back(keys.begin(), keys.end());
    std::vector<outcome<int>> all;
    for (const int k : keys) all.emplace_back(k * 10);
    return all;
  }
};

template <class All>
std::vector<int> values_of(const All& all) {
  std::vector<int> values;
  for (const auto& one : all) values.push_back(*one.value());
  return values;
}

// Goal    Stored keys are not loaded; the others are loaded by one call, in order, each repeated
//         key once.
TEST(get_all, one_call_for_missing_keys) {
  std::vector<std::vector<int>> calls;
  loading_cache<int, int> cache(not_alone, bulk{calls});
  cache.put(2, 22);
  EXPECT_THAT(values_of(cache.get_all(std::vector{1, 2, 3, 1, 2})),
              ElementsAre(10, 22, 30, 10, 22));
  EXPECT_THAT(calls, ElementsAre(ElementsAre(1, 3)));
  EXPECT_THAT(values_of(cache.get_all(std::vector{3, 2, 1})), ElementsAre(30, 22, 10));
  EXPECT_EQ(calls.size(), 1U);
  EXPECT_TRUE(cache.get_all(std::vector<int>()).empty());
  EXPECT_EQ(calls.size(), 1U);
  EXPECT_EQ(cache.stats().loads, 2U);
}

// Goal    Without a bulk loader the keys are loaded one after the other; with an awaited loader,
//         all at the same time.
TEST(get_all, without_a_bulk_loader) {
  std::vector<int> asked;
  loading_cache<int, int> cache([&](int k) {
    asked.push_back(k);
    if (k == 2) throw std::runtime_error("no 2");
    return k;
  });
  auto all = cache.get_all(std::vector{3, 2, 1, 2});
  EXPECT_THAT(asked, ElementsAre(3, 2, 1));
  EXPECT_EQ(**all[0], 3);
  EXPECT_THROW(all[1].value(), std::runtime_error);
  EXPECT_EQ(**all[2], 1);
  EXPECT_THROW(all[3].value(), std::runtime_error);
  EXPECT_TRUE(cache.find(1));
  EXPECT_FALSE(cache.find(2));

  support::suspension first;
  support::suspension second;
  loading_cache<int, int> awaited(
      [&](int k) -> support::lazy<int> {
        co_await (k == 1 ? first : second);
        if (k == 3) throw std::runtime_error("no 3");
        co_return k;
      },
      {.group = {.executor = inline_executor}});
  auto call = in_thread([&] { return awaited.get_all(std::vector{1, 2, 1}); });
  support::eventually([&] { return first.taken() && second.taken(); }, "both loads");
  second.resume();
  first.resume();
  EXPECT_THAT(values_of(call.get()), ElementsAre(1, 2, 1));
}

// Goal    One key's failure affects only that key, for each form of a bulk answer.
TEST(get_all, each_key_its_own_outcome) {
  loading_cache<int, int> cache(
      not_alone,
      [](std::span<const int> keys) {
        std::vector<outcome<std::optional<int>>> all;
        for (const int k : keys) {
          if (k == 1) all.emplace_back(std::optional<int>(1));
          if (k == 2) all.emplace_back(std::optional<int>());
          if (k == 3) all.emplace_back(std::make_exception_ptr(std::out_of_range("no 3")));
          if (k == 4) all.emplace_back(flight_errc::cancelled);
        }
        return all;
      },
      {.negative_ttl = 1h});
  auto all = cache.get_all(std::vector{1, 2, 3, 4});
  EXPECT_EQ(**all[0], 1);
  EXPECT_EQ(all[1]->freshness(), freshness::absent);
  EXPECT_THROW(all[2].value(), std::out_of_range);
  EXPECT_THROW(all[3].value(), flight_error);
  EXPECT_TRUE(cache.find(1));
  EXPECT_EQ(cache.find(2)->freshness(), freshness::absent);
  EXPECT_FALSE(cache.find(3));
  EXPECT_EQ(cache.stats().load_failures, 2U);
}

// Goal    A bulk loader that throws, or returns too few answers, fails every key; the next call
//         loads again.
TEST(get_all, a_bulk_load_that_fails) {
  int calls = 0;
  loading_cache<int, int> cache(not_alone, [&](std::span<const int> keys) {
    if (++calls == 1) throw std::out_of_range("no");
    return std::vector<outcome<int>>(calls == 2 ? 1 : keys.size(), outcome<int>(5));
  });
  for (auto& one : cache.get_all(std::vector{1, 2})) EXPECT_THROW(one.value(), std::out_of_range);
  for (auto& one : cache.get_all(std::vector{1, 2})) {
    EXPECT_EQ(one.exception() != nullptr, true);
    EXPECT_THROW(one.value(), flight_error);
  }
  EXPECT_THAT(values_of(cache.get_all(std::vector{1, 2})), ElementsAre(5, 5));
}

// Goal    Stale values are served for the keys whose load fails, for all keys or for one.
TEST(get_all, stale_values_of_a_failed_bulk_load) {
  singleflight::manual_timer time;
  bool works = true;
  loading_cache<int, int> cache(not_alone,
                                [&](std::span<const int> keys) {
                                  if (!works) throw std::runtime_error("down");
                                  std::vector<outcome<int>> all;
                                  for (const int k : keys) all.emplace_back(k);
                                  return all;
                                },
                                {.ttl = 10s, .stale_if_error = 1h, .group = {.timer = &time}});
  cache.get_all(std::vector{1, 2});
  time.advance(11s);
  works = false;
  auto all = cache.get_all(std::vector{1, 3, 2});
  EXPECT_TRUE(all[0]->stale());
  EXPECT_THROW(all[1].value(), std::runtime_error);
  EXPECT_TRUE(all[2]->stale());
  EXPECT_EQ(**all[2], 2);
}

// Goal    with_ttl works in bulk, where entries have their own times.
TEST(get_all, with_ttl) {
  singleflight::manual_timer time;
  loading_cache<int, int> cache(
      [](int k) {
        return with_ttl<int>{k, 1s};
      },
      [](std::span<const int> keys) {
        std::vector<outcome<with_ttl<int>>> all;
        for (const int k : keys) all.emplace_back(with_ttl<int>{k, std::chrono::seconds(k)});
        return all;
      },
      {.jitter = 0, .group = {.timer = &time}});
  cache.get_all(std::vector{5, 50});
  time.advance(6s);
  EXPECT_FALSE(cache.find(5));
  EXPECT_TRUE(cache.find(50));
}

// Goal    get_all joins a key in flight, a get joins a bulk load, and each key is loaded once.
TEST(get_all, joins_and_is_joined) {
  gate alone;
  gate together;
  support::joined_counter joined;
  std::vector<std::vector<int>> calls;
  loading_cache<int, int> cache(
      [&](int k) {
        alone.wait();
        return -k;
      },
      [&](std::span<const int> keys) {
        together.wait();
        return bulk{calls}(keys);
      },
      {.group = {.observer = &joined}});
  auto leader = in_thread([&] { return *cache.get(1); });
  alone.await_arrivals();
  auto all = in_thread([&] { return values_of(cache.get_all(std::vector{1, 2, 3})); });
  together.await_arrivals();
  auto other = in_thread([&] { return *cache.get(2); });
  joined.await(2);  // get_all joins key 1, get joins key 2
  together.open();
  EXPECT_EQ(other.get(), 20);
  alone.open();
  EXPECT_EQ(leader.get(), -1);
  EXPECT_THAT(all.get(), ElementsAre(-1, 20, 30));
  EXPECT_THAT(calls, ElementsAre(ElementsAre(2, 3)));
}

// Goal    Limits that have passed end each key's wait, except for stored keys.
TEST(get_all, limits) {
  singleflight::manual_timer time;
  std::vector<std::vector<int>> calls;
  loading_cache<int, int> cache(not_alone, bulk{calls}, {.group = {.timer = &time}});
  cache.put(1, 1);
  auto all = cache.get_all(std::vector{1, 2}, {.deadline = time.now()});
  EXPECT_EQ(**all[0], 1);
  EXPECT_EQ(all[1].errc(), flight_errc::timed_out);
  EXPECT_TRUE(calls.empty());
}

// Goal    Keys may be of another type than Key: views, and any range of them.
TEST(get_all, keys_by_view) {
  loading_cache<std::string, std::size_t> cache([](const std::string& k) { return k.size(); });
  const std::string_view keys[] = {"a", "bcd", "a"};
  auto all = cache.get_all(keys);
  EXPECT_EQ(**all[0], 1U);
  EXPECT_EQ(**all[1], 3U);
  EXPECT_EQ(cache.stats().loads, 2U);
}

// Goal    Thousands of handles may be held at a time: far more than a thread has slots.
TEST(get_all, many) {
  loading_cache<int, int> cache([](int k) { return k; }, {.capacity = 100});
  std::vector<int> keys(3000);
  for (std::size_t i = 0; i < keys.size(); ++i) keys[i] = static_cast<int>(i);
  const auto all = cache.get_all(keys);
  const auto again = cache.get_all(keys);
  for (std::size_t i = 0; i < keys.size(); ++i) {
    ASSERT_EQ(**all[i], keys[i]);
    ASSERT_EQ(**again[i], keys[i]);
  }
  EXPECT_EQ(cache.stats().entries, 100U);
}

}  // namespace
