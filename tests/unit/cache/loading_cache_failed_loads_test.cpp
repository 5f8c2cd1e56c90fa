// SPDX-License-Identifier: Apache-2.0

// How a cache treats loads that cannot begin, fail or end late; and how many removed values it
// keeps.

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <future>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "support/cache.hpp"
#include "support/executors.hpp"
#include "support/gate.hpp"
#include <singleflight/cache.hpp>
#include <singleflight/core/manual_timer.hpp>

namespace {

using namespace std::chrono_literals;
using singleflight::flight_errc;
using singleflight::flight_error;
using singleflight::freshness;
using singleflight::loading_cache;
using singleflight::manual_timer;
using support::gate;
using support::in_thread;
using support::living;

// Scenario 34.
// Goal    A stale value is served when the load cannot begin because too many loads run already.
// Method  Another key holds the only flight allowed.
TEST(cache_trouble, stale_where_the_load_cannot_begin) {
  manual_timer time;
  gate held;
  gate inside;
  loading_cache<int, int> cache(
      [&](int k) {
        if (k == 2) {
          inside.open();
          held.wait();
        }
        return k;
      },
      {.ttl = 10s,
       .jitter = 0,
       .stale_if_error = 100s,
       .group = {.timer = &time, .max_flights = 1}});
  EXPECT_EQ(*cache.get(1), 1);
  time.advance(11s);
  auto other = in_thread([&] { return *cache.get(2); });
  inside.wait();
  const auto h = cache.get(1);
  EXPECT_EQ(h.freshness(), freshness::stale);
  EXPECT_EQ(*h, 1);
  EXPECT_THROW(cache.get(3), flight_error);  // has no stale value
  held.open();
  EXPECT_EQ(other.get(), 2);
}

// Scenario 34.
// Goal    A stale value is served when an executor drops the load that soft_timeout starts.
TEST(cache_trouble, stale_where_the_load_is_dropped) {
  manual_timer time;
  bool dropping = false;
  loading_cache<int, int> cache([](int k) { return k; },
                                {.ttl = 10s,
                                 .jitter = 0,
                                 .stale_if_error = 100s,
                                 .soft_timeout = 1s,
                                 .group = {.executor =
                                               [&](singleflight::task t) {
                                                 if (dropping) return;  // drops the task
                                                 t();
                                               },
                                           .timer = &time}});
  EXPECT_EQ(*cache.get(1), 1);
  time.advance(11s);
  dropping = true;
  EXPECT_EQ(cache.get(1).freshness(), freshness::stale);
}

// Goal    The result of a flight that takes no more joiners (join_window) is still stored when it
//         ends: it was overtaken, not invalidated. Once its key has been invalidated, it is not
//         stored.
// Method  The first load is held until a second one has begun.
TEST(cache_trouble, a_load_past_its_join_window) {
  for (const bool invalidated : {false, true}) {
    manual_timer time;
    gate first_inside;
    gate first_may_end;
    gate second_inside;
    gate second_may_end;
    std::atomic<int> calls{0};
    loading_cache<int, int> cache(
        [&](int) {
          const int call = ++calls;
          if (call == 1) {
            first_inside.open();
            first_may_end.wait();
          } else if (call == 2) {
            second_inside.open();
            second_may_end.wait();
          }
          return call;
        },
        {.group = {.timer = &time, .join_window = 1s}});
    auto first = in_thread([&] { return *cache.get(1); });
    first_inside.wait();
    time.advance(2s);
    auto second = in_thread([&] { return *cache.get(1); });
    second_inside.wait();
    if (invalidated) cache.invalidate(1);
    first_may_end.open();
    EXPECT_EQ(first.get(), 1);
    EXPECT_EQ(cache.find(1).has_value(), !invalidated);
    second_may_end.open();
    EXPECT_EQ(second.get(), 2);
    EXPECT_EQ(cache.find(1).has_value(), !invalidated);
    EXPECT_EQ(cache.stats().not_stored, invalidated ? 2U : 0U);
  }
}

/// A cache whose first load runs until it is released, and takes no more joiners.
struct overtaken_load {
  overtaken_load() {
    inside.wait();
    time.advance(2s);
  }

  manual_timer time{};
  gate inside{};
  gate may_end{};
  std::atomic<int> calls{0};
  loading_cache<int, int> cache{[this](int) {
                                  const int call = ++calls;
                                  if (call == 1) {
                                    inside.open();
                                    may_end.wait();
                                  }
                                  return call;
                                },
                                {.group = {.timer = &time, .join_window = 1s}}};
  std::future<int> first = in_thread([this] { return *cache.get(1); });
};

// Goal    A load that was overtaken does not replace the value of a load that began after it.
TEST(cache_trouble, an_overtaken_load_replaces_nothing_newer) {
  overtaken_load old;
  EXPECT_EQ(*old.cache.get(1), 2);
  old.may_end.open();
  EXPECT_EQ(old.first.get(), 1);
  EXPECT_EQ(**old.cache.find(1), 2);
}

// Goal    Nor does its error replace an absence, which has no value that could be served in place
//         of the error.
TEST(cache_trouble, an_overtaken_load_that_fails_replaces_nothing_newer) {
  manual_timer time;
  gate inside;
  gate may_end;
  std::atomic<int> calls{0};
  loading_cache<int, int> cache(
      [&](int) -> std::optional<int> {
        if (++calls > 1) return std::nullopt;
        inside.open();
        may_end.wait();
        throw std::runtime_error("too late");
      },
      {.negative_ttl = 1h, .error_ttl = 1h, .group = {.timer = &time, .join_window = 1s}});
  auto first = in_thread([&] { return cache.get(1).has_value(); });
  inside.wait();
  time.advance(2s);
  EXPECT_FALSE(cache.get(1).has_value());
  may_end.open();
  EXPECT_THROW(first.get(), std::runtime_error);
  EXPECT_FALSE(cache.get(1).has_value()) << "the newer answer must stay";
  EXPECT_EQ(calls, 2);
}

// Goal    Nor does it delay the refresh of a newer value.
TEST(cache_trouble, an_overtaken_load_that_fails_delays_no_refresh) {
  manual_timer time;
  gate inside;
  gate may_end;
  std::atomic<int> calls{0};
  loading_cache<int, int> cache(
      [&](int) {
        const int call = ++calls;
        if (call == 1) {
          inside.open();
          may_end.wait();
          throw std::runtime_error("too late");
        }
        return call;
      },
      {.ttl = 1h,
       .refresh_after = 10s,
       .retry_after = 60s,
       .group = {.executor = singleflight::inline_executor, .timer = &time, .join_window = 1s}});
  auto first = in_thread([&] { return *cache.get(1); });
  inside.wait();
  time.advance(2s);
  EXPECT_EQ(*cache.get(1), 2);
  may_end.open();
  EXPECT_EQ(first.get(), 2) << "must get the newer value in place of its error";
  time.advance(11s);
  EXPECT_EQ(*cache.get(1), 2);
  EXPECT_EQ(calls, 3) << "the value must be refreshed";
  EXPECT_EQ(*cache.get(1), 3);
}

// Goal    An invalidation reaches a flight that new callers can no longer join: its result is not
//         stored, although another flight has taken its place.
TEST(cache_trouble, invalidate_revokes_an_overtaken_load) {
  overtaken_load old;
  EXPECT_EQ(*old.cache.get(1), 2);
  EXPECT_TRUE(old.cache.invalidate(1));
  old.may_end.open();
  EXPECT_EQ(old.first.get(), 1);
  EXPECT_EQ(old.cache.find(1), std::nullopt);
  EXPECT_EQ(old.cache.stats().not_stored, 1U);
}

/// A key whose copy throws when a test requests it.
struct moody {
  int number = 0;
  static inline bool throws = false;
  explicit moody(int n) : number(n) {}
  moody(const moody& other) : number(other.number) {
    if (throws) throw std::runtime_error("no copy");
  }
  moody(moody&&) noexcept = default;
  bool operator==(const moody& other) const { return number == other.number; }
};
struct moody_hash {
  std::size_t operator()(const moody& key) const noexcept {
    return static_cast<std::size_t>(key.number);
  }
};

// Goal    A hit on a value that is due for a refresh is answered even if the refresh cannot be
//         started.
TEST(cache_trouble, a_hit_whose_refresh_cannot_start) {
  manual_timer time;
  loading_cache<moody, int, moody_hash> cache([](const moody& k) { return k.number; },
                                              {.refresh_after = 5s, .group = {.timer = &time}});
  const moody one(1);
  EXPECT_EQ(*cache.get(one), 1);
  time.advance(6s);
  moody::throws = true;
  EXPECT_EQ(*cache.get(one), 1);
  moody::throws = false;
}

// Goal    A wait within soft_timeout names the load that it belongs to: one that would wait for
//         itself is refused at once.
TEST(cache_trouble, a_soft_wait_for_itself) {
  manual_timer time;
  loading_cache<int, int>* self = nullptr;
  std::optional<flight_errc> code;
  bool nested = false;
  loading_cache<int, int> cache(
      [&](int k, singleflight::flight_context& flight) {
        if (nested) {
          try {
            (void)self->get(k, {.within = flight});
          } catch (const flight_error& e) {
            code = e.errc();
          }
        }
        return k;
      },
      {.ttl = 10s,
       .jitter = 0,
       .stale_if_error = 100s,
       .soft_timeout = 1h,
       .group = {.timer = &time}});
  self = &cache;
  EXPECT_EQ(*cache.get(1), 1);
  time.advance(11s);
  nested = true;
  EXPECT_EQ(*cache.get(1), 1);
  EXPECT_EQ(code, flight_errc::recursive);
}

// Goal    Removed values that wait to be freed are bounded by weight, not by number: never more
//         than a share of the capacity; and clear leaves none waiting.
TEST(cache_trouble, removed_values_are_bounded_by_weight) {
  const long before = living::alive.load();
  {
    loading_cache<int, living> cache(
        [](int k) { return living(k); },
        {.capacity = 1000, .weigher = [](const int&, const living&) { return std::size_t{100}; }});
    for (int i = 0; i < 100; ++i) {
      (void)cache.get(i);
      EXPECT_LE(living::alive.load() - before, 11);
    }
    cache.clear();
    EXPECT_EQ(living::alive.load() - before, 0);
  }
  EXPECT_EQ(living::alive.load(), before);
}

// Goal    Absences have the weight that the options specify, so they cannot fill the memory.
TEST(cache_trouble, absences_weigh) {
  loading_cache<int, int> cache([](int) { return std::optional<int>(); },
                                {.capacity = 1000,
                                 .weigher = [](const int&, const int&) { return std::size_t{1}; },
                                 .absent_weight = 100,
                                 .negative_ttl = 10s});
  for (int i = 0; i < 100; ++i) EXPECT_FALSE(cache.get(i).has_value());
  EXPECT_LE(cache.stats().weight, 1000U);
  EXPECT_LE(cache.stats().entries, 10U);
}

// Goal    A handle that was moved from, or shared, has no value.
TEST(cache_trouble, a_handle_that_was_moved_from) {
  loading_cache<int, int> cache([](int k) { return k; });
  auto h = cache.get(1);
  const auto other = std::move(h);
  EXPECT_FALSE(h.has_value());  // NOLINT(bugprone-use-after-move): tests exactly that
  EXPECT_EQ(*other, 1);
  auto again = cache.get(1);
  const auto kept = std::move(again).share();
  EXPECT_FALSE(again.has_value());  // NOLINT(bugprone-use-after-move)
  EXPECT_EQ(*kept, 1);
}

/// A comparison that throws when a test requests it.
struct touchy_equal {
  static inline bool throws = false;
  bool operator()(int a, int b) const {
    if (throws && a != b) throw std::runtime_error("no comparison");
    return a == b;
  }
};

/// Gives all keys the same hash.
struct one_hash {
  std::size_t operator()(int) const { return 7; }
};

// Goal    A put or an invalidation whose comparison throws changes nothing: running loads are still
//         stored, even that of its own key, and the entry stays.
// Method  Three loads with one hash, the third of a key that has an entry; the comparison of
//         different keys throws. A call for one of the others throws when it compares with that
//         entry; one for the third finds it, and throws after it has passed its own load.
TEST(cache_trouble, a_comparison_that_throws_changes_nothing) {
  gate may_end;
  std::atomic<bool> hold{false};
  loading_cache<int, int, one_hash, touchy_equal> cache([&](int k) {
    if (hold) may_end.wait();
    return k;
  });
  const auto throws = [&](auto&& call) {
    touchy_equal::throws = true;
    EXPECT_THROW(call(), std::runtime_error);
    touchy_equal::throws = false;
  };
  cache.put(3, 30);
  hold = true;
  std::vector<std::future<int>> loads;
  for (const int k : {1, 2}) {
    loads.push_back(in_thread([&, k] { return *cache.get(k); }));
    may_end.await_arrivals(static_cast<std::size_t>(k));
  }
  cache.refresh(3);
  may_end.await_arrivals(3);
  for (const int k : {1, 2, 3}) {
    throws([&] { cache.put(k, 20); });
    EXPECT_EQ(cache.find(k).has_value(), k == 3);
    throws([&] { cache.invalidate(k); });
  }
  EXPECT_EQ(**cache.find(3), 30);
  may_end.open();
  for (const int k : {1, 2}) {
    EXPECT_EQ(loads[static_cast<std::size_t>(k - 1)].get(), k);
    const auto found = cache.find(k);
    ASSERT_TRUE(found) << k;
    EXPECT_EQ(**found, k);
  }
  support::eventually([&] { return **cache.find(3) == 3; }, "the end of the refresh");
  EXPECT_EQ(cache.stats().not_stored, 0U);
}

}  // namespace
