// SPDX-License-Identifier: Apache-2.0

// Loads of a cache for which no thread can be created.

#include <gtest/gtest.h>

#include <chrono>
#include <system_error>

#include "support/eventually.hpp"
#include "support/task.hpp"
#include "support/thread_refusal.hpp"
#include <singleflight/cache.hpp>

namespace sf = singleflight;
using namespace std::chrono_literals;

namespace {

// Goal    A sweep that could get no thread runs once one can be created: the next read of the cache
//         starts it.
TEST(cache_no_threads, a_sweep_comes_late) {
  if (support::instrumented) GTEST_SKIP() << support::not_with_sanitizers;
  sf::loading_cache<int, int> cache([](int key) { return key; }, {.ttl = 1ms, .jitter = 0});
  {
    const support::thread_refusal none;
    (void)cache.get(1);
    EXPECT_GT(support::thread_refusal::asked(), 0);  // otherwise an earlier test has left a thread
  }
  EXPECT_TRUE(support::eventually([&] {
    (void)cache.find(1);
    return cache.stats().entries == 0;
  }));
}

// Goal    A stale value is served if its load cannot begin for lack of a thread, and that load is
//         not tried again before retry_after; without a stale value the caller gets the system's
//         error.
TEST(cache_no_threads, a_stale_value_is_served) {
  if (support::instrumented) GTEST_SKIP() << support::not_with_sanitizers;
  for (const bool awaited : {false, true}) {
    SCOPED_TRACE(awaited ? "an awaited loader" : "a loader with a soft timeout");
    sf::thread_pool pool;
    sf::manual_timer time;
    int value = 1;
    sf::cache_options<int, int> how{.ttl = 1s,
                                    .jitter = 0,
                                    .stale_if_error = 1h,
                                    .retry_after = 10s,
                                    .soft_timeout = awaited ? 0s : 1s,
                                    .group = {.executor = pool, .timer = &time}};
    const auto make = [&] {
      using cache_type = sf::loading_cache<int, int>;
      return awaited ? std::make_unique<cache_type>(
                           [&](int) -> support::lazy<int> { co_return value; }, how)
                     : std::make_unique<cache_type>([&](int) { return value; }, how);
    };
    const auto cache = make();
    cache->put(1, 1);
    value = 2;
    time.advance(2s);
    {
      const support::thread_refusal none;
      EXPECT_EQ(*cache->get(1), 1);
      const auto asked = support::thread_refusal::asked();
      EXPECT_EQ(*cache->get(1), 1);
      EXPECT_EQ(support::thread_refusal::asked(), asked);
      if (awaited) {
        EXPECT_THROW((void)cache->get(2), std::system_error);
      }
    }
    time.advance(11s);
    EXPECT_EQ(*cache->get(1), 2);
  }
}

}  // namespace
