// SPDX-License-Identifier: Apache-2.0

// How a cache treats options out of range, and hooks and keys that throw.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cmath>
#include <cstddef>
#include <functional>
#include <limits>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "support/cache.hpp"
#include "support/executors.hpp"
#include "support/gate.hpp"
#include "support/task.hpp"
#include <singleflight/cache.hpp>

namespace {

using namespace std::chrono_literals;
using singleflight::cache_options;
using singleflight::flight_errc;
using singleflight::flight_error;
using singleflight::inline_executor;
using singleflight::loading_cache;
using singleflight::manual_timer;
using singleflight::outcome;
using singleflight::with_ttl;
using support::gate;
using support::in_thread;
using support::living;

// ---- options ------------------------------------------------------------------------------------

void expect_refused(cache_options<int, int> how, const char* words) {
  try {
    const loading_cache<int, int> cache([](int k) { return k; }, std::move(how));
    ADD_FAILURE() << "accepted, but expected: " << words;
  } catch (const std::invalid_argument& e) {
    EXPECT_THAT(e.what(), testing::HasSubstr("loading_cache"));
    EXPECT_THAT(e.what(), testing::HasSubstr(words));
  }
}

// Goal    Options out of range are refused with a message that names them.
TEST(bad_input, options) {
  expect_refused({.ttl = -1ns}, "ttl is negative (-1 ns)");
  expect_refused({.refresh_after = -1s}, "refresh_after");
  expect_refused({.stale_if_error = -1s}, "stale_if_error");
  expect_refused({.retry_after = -1s}, "retry_after");
  expect_refused({.max_retry_after = -1s}, "max_retry_after");
  expect_refused({.stale_if_error = 1s, .soft_timeout = -1s}, "soft_timeout");
  expect_refused({.negative_ttl = -1s}, "negative_ttl");
  expect_refused({.error_ttl = -1s}, "error_ttl");
  expect_refused({.jitter = -0.01}, "jitter");
  expect_refused({.jitter = 1.01}, "jitter");
  expect_refused({.ttl = 1h, .jitter = 1e300}, "jitter");
  expect_refused({.jitter = std::numeric_limits<double>::quiet_NaN()}, "jitter");
  expect_refused({.soft_timeout = 1s}, "stale_if_error");
  EXPECT_THROW((loading_cache<int, int>([](int k) { return k; }, {.group = {.load_timeout = -1s}})),
               std::invalid_argument);
}

// Goal    The ends of the ranges are accepted.
TEST(bad_input, the_ends_of_the_ranges) {
  constexpr auto most = std::chrono::nanoseconds::max();
  manual_timer time;
  for (const double jitter : {0.0, 1.0}) {
    loading_cache<int, int> cache([](int k) { return k; }, {.capacity = SIZE_MAX,
                                                            .ttl = most,
                                                            .jitter = jitter,
                                                            .refresh_after = most,
                                                            .stale_if_error = most,
                                                            .retry_after = most,
                                                            .max_retry_after = most,
                                                            .soft_timeout = most,
                                                            .negative_ttl = most,
                                                            .error_ttl = most,
                                                            .group = {.timer = &time}});
    EXPECT_EQ(*cache.get(1), 1);
    time.advance(1h);
    EXPECT_TRUE(cache.find(1));
  }
  // The shortest times: an entry expires at once, or at the next tick.
  loading_cache<int, int> brief(
      [](int k) { return k; },
      {.ttl = 1ns, .jitter = 1, .stale_if_error = 1ns, .group = {.timer = &time}});
  EXPECT_EQ(*brief.get(1), 1);
  time.advance(1ms);
  EXPECT_FALSE(brief.find(1));
}

// Goal    With capacity 0, loads are shared and nothing is stored; every call works.
TEST(bad_input, capacity_zero) {
  gate loading;
  support::joined_counter joined;
  std::atomic<int> loads{0};
  {
    loading_cache<int, living> cache(
        [&](int k) {
          ++loads;
          loading.wait();
          return living(k);
        },
        {.capacity = 0, .negative_ttl = 1h, .error_ttl = 1h, .group = {.observer = &joined}});
    auto leader = in_thread([&] { return cache.get(1)->read(); });
    loading.await_arrivals();
    auto other = in_thread([&] { return cache.get(1)->read(); });
    joined.await(1);
    loading.open();
    EXPECT_EQ(leader.get(), 1);
    EXPECT_EQ(other.get(), 1);
    EXPECT_EQ(loads, 1);
    cache.put(2, living(2));
    EXPECT_FALSE(cache.find(1) || cache.find(2));
    cache.refresh(3);
    EXPECT_FALSE(cache.invalidate(1));
    cache.clear();
    EXPECT_EQ(cache.invalidate_if([](int) { return true; }), 0U);
    EXPECT_EQ(cache.get_all(std::vector{1, 2}).size(), 2U);
    EXPECT_EQ(cache.stats().entries, 0U);
    EXPECT_FALSE(cache.policy().explain(1).present);
  }
  support::eventually([] { return living::alive == 0; }, "the pool to release all values");
}

// Goal    with_ttl is refused where entries have no times of their own: put throws, and for a
//         loader of the call the load fails. Nothing is changed.
TEST(bad_input, with_ttl_without_times) {
  loading_cache<int, int> cache([](int k) { return k; });
  cache.put(1, 5);
  EXPECT_THROW(cache.put(1, with_ttl<int>{7, 1h}), std::invalid_argument);
  EXPECT_EQ(*cache.get(1), 5);
  EXPECT_THROW(cache.get(2, [](int k) { return with_ttl<int>{k, 1h}; }), std::invalid_argument);
  EXPECT_EQ(*cache.get(2), 2);
}

// ---- hooks --------------------------------------------------------------------------------------

// Goal    When a weigher or ttl_of throws, the load fails for all who share it, and put throws;
//         nothing is changed. As for any load that fails, a stale value is served.
TEST(bad_input, hooks_that_throw) {
  manual_timer time;
  bool throws = false;
  const auto check = [&] {
    if (throws) throw std::range_error("no idea");
  };
  for (const bool weigh : {true, false}) {
    throws = false;
    cache_options<int, int> how{.ttl = 10s, .stale_if_error = 1h, .group = {.timer = &time}};
    if (weigh) {
      how.weigher = [&](int, int) {
        check();
        return std::size_t{1};
      };
    } else {
      how.ttl_of = [&](int, int) {
        check();
        return std::chrono::nanoseconds(10s);
      };
    }
    loading_cache<int, int> cache([](int k) { return k; }, std::move(how));
    cache.put(1, 5);
    throws = true;
    EXPECT_THROW(cache.get(2), std::range_error);
    EXPECT_THROW(cache.put(1, 6), std::range_error);
    EXPECT_THROW(cache.get_all(std::vector{2}).front().value(), std::range_error);
    EXPECT_EQ(*cache.get(1), 5);
    time.advance(11s);
    EXPECT_TRUE(cache.get(1).stale());
    throws = false;
    EXPECT_EQ(*cache.get(2), 2);
  }
}

// Goal    A weigher may return the largest number.
TEST(bad_input, the_heaviest) {
  std::size_t weight = SIZE_MAX;
  loading_cache<int, int> cache([](int k) { return k; },
                                {.capacity = 10, .weigher = [&](int, int) { return weight; }});
  EXPECT_EQ(*cache.get(1), 1);
  EXPECT_FALSE(cache.find(1));
  weight = 0;
  for (int k = 0; k < 20; ++k) cache.get(k);
  EXPECT_EQ(cache.stats().weight, 10U);
  EXPECT_EQ(cache.stats().entries, 10U);
}

// Goal    A loader may throw something that is no std::exception, or be empty.
TEST(bad_input, loaders) {
  loading_cache<int, int> odd([](int) -> int { throw 42; }, {.error_ttl = 1h});
  EXPECT_THROW(odd.get(1), int);
  EXPECT_THROW(odd.get(1), int);
  loading_cache<int, int> empty{std::function<int(int)>()};
  EXPECT_THROW(empty.get(1), std::bad_function_call);
  loading_cache<int, int> awaited(
      [](int k) -> support::lazy<int> {
        if (k == 1) throw std::out_of_range("no");
        co_return k;
      },
      {.group = {.executor = inline_executor}});
  EXPECT_THROW(awaited.get(1), std::out_of_range);
  EXPECT_EQ(*awaited.get(2), 2);
  loading_cache<int, int> throws_before(
      [](int) -> support::lazy<int> { throw std::out_of_range("at the call"); },
      {.group = {.executor = inline_executor}});
  EXPECT_THROW(throws_before.get(1), std::out_of_range);
}

/// A value whose move sometimes throws.
struct clumsy {
  static inline bool falls = false;
  explicit clumsy(int n) : number(n) {}
  clumsy(clumsy&& other) : number(other.number) {
    if (falls) throw std::length_error("fallen");
  }
  living number;
};

// Goal    If the move of a value throws, the load has failed: no key is stuck, and nothing is left
//         behind.
TEST(bad_input, values_that_cannot_be_moved) {
  {
    loading_cache<int, clumsy> cache([](int k) { return clumsy(k); });
    clumsy::falls = true;
    EXPECT_THROW(cache.get(1), std::length_error);
    EXPECT_THROW(cache.put(1, clumsy(1)), std::length_error);
    EXPECT_THROW(cache.get_all(std::vector{1, 2}).front().value(), std::length_error);
    clumsy::falls = false;
    EXPECT_EQ(cache.get(1)->number.read(), 1);
  }
  EXPECT_EQ(living::alive, 0);
}

// ---- keys ---------------------------------------------------------------------------------------

/// A key whose hash, comparison or copy throws when a test requests it.
struct sly {
  enum what { nothing, hash, equal, copy };
  static inline what throws = nothing;
  static void check(what now) {
    if (throws == now) throw std::domain_error("a key's trick");
  }
  explicit sly(int n) : number(n) {}
  sly(const sly& other) : number(other.number) { check(copy); }
  sly(sly&& other) noexcept : number(other.number) {}
  sly& operator=(const sly&) = delete;
  sly& operator=(sly&& other) noexcept {
    number = other.number;
    return *this;
  }
  int number;
};
struct sly_hash {
  std::size_t operator()(const sly& k) const {
    sly::check(sly::hash);
    return static_cast<std::size_t>(k.number);
  }
};
struct sly_equal {
  bool operator()(const sly& a, const sly& b) const {
    sly::check(sly::equal);
    return a.number == b.number;
  }
};

// Goal    A key whose hash, comparison or copy throws harms only its own call: the next call works,
//         and nothing is lost or stuck.
TEST(bad_input, keys_that_throw) {
  for (const auto what : {sly::hash, sly::equal, sly::copy}) {
    {
      int loads = 0;
      loading_cache<sly, living, sly_hash, sly_equal> cache(
          [&](const sly& k) {
            ++loads;
            return living(k.number);
          },
          {.capacity = 100, .error_ttl = 1h, .group = {.executor = inline_executor}});
      const auto throwing = [&](auto call) {
        sly::throws = what;
        bool threw = false;
        try {
          call();
        } catch (const std::domain_error&) {
          threw = true;
        }
        sly::throws = sly::nothing;
        return threw;
      };
      cache.get(sly(1));
      const bool in_hits = what != sly::copy;
      EXPECT_EQ(throwing([&] { cache.get(sly(1)); }), in_hits);
      EXPECT_EQ(throwing([&] { (void)cache.find(sly(1)); }), in_hits);
      EXPECT_EQ(throwing([&] { (void)cache.start_get(sly(1)); }), in_hits);
      EXPECT_EQ(throwing([&] { cache.invalidate(sly(1)); }), in_hits);
      EXPECT_TRUE(cache.find(sly(1)) || !in_hits) << "the entry must still be there";
      EXPECT_EQ(throwing([&] { cache.put(sly(1), living(1)); }), true);
      const bool in_misses = what != sly::equal;  // no other key has this hash
      EXPECT_EQ(throwing([&] { cache.get(sly(2)); }), in_misses);
      EXPECT_EQ(throwing([&] { cache.start_get(sly(3)).get(); }), in_misses);
      EXPECT_EQ(throwing([&] { cache.refresh(sly(4)); }), in_misses);
      // One key's failure must not affect the others, where the failing key is known.
      std::vector<sly> keys;
      keys.emplace_back(5);
      keys.emplace_back(6);
      EXPECT_FALSE(throwing([&] {
        for (auto& one : cache.get_all(keys)) EXPECT_EQ(one.has_value(), !in_misses);
      }));
      sly::throws = sly::nothing;
      for (int k = 1; k < 8; ++k) EXPECT_EQ(cache.get(sly(k))->read(), k);
      for (int k = 1; k < 8; ++k) EXPECT_EQ(cache.find(sly(k))->value().read(), k);
      EXPECT_EQ(cache.stats().entries, 7U);
      EXPECT_LE(loads, 15);
    }
    support::eventually([] { return living::alive == 0; }, "the pool to release all values");
  }
}

// Goal    A move-only type is no key; a type that only a custom hash supports is one.
TEST(bad_input, a_hash_of_ones_own) {
  struct point {
    int x;
    int y;
    bool operator==(const point&) const = default;
  };
  struct by_x {
    std::size_t operator()(const point& p) const { return static_cast<std::size_t>(p.x); }
  };
  loading_cache<point, int, by_x> cache([](const point& p) { return p.y; });
  for (int y = 0; y < 100; ++y) EXPECT_EQ(*cache.get(point{1, y}), y);
  for (int y = 0; y < 100; ++y) EXPECT_EQ(**cache.find(point{1, y}), y);
}

}  // namespace
