// SPDX-License-Identifier: Apache-2.0

// Loads for which no thread can be started.

#include <gtest/gtest.h>

#include <vector>

#include "support/thread_refusal.hpp"
#include <singleflight/flight.hpp>

namespace sf = singleflight;

namespace {

// Goal    A started load for which the pool has no thread ends with the system's error, not as
//         `broken`; for each key of a start_many too. Its key is free.
TEST(no_threads, a_started_load_names_the_reason) {
  if (support::instrumented) GTEST_SKIP() << support::not_with_sanitizers;
  sf::thread_pool pool;
  sf::group<int, int> g({.executor = pool});
  {
    const support::thread_refusal none;
    EXPECT_TRUE(support::names_the_reason(g.start(1, [] { return 1; }).get_outcome()));
    auto many = g.start_many(std::vector{2, 3}, [](std::span<const int> keys) {
      return std::vector<sf::outcome<int>>(keys.size(), sf::outcome<int>(1));
    });
    for (auto& f : many) EXPECT_TRUE(support::names_the_reason(f.get_outcome()));
  }
  EXPECT_EQ(*g.start(1, [] { return 2; }).get(), 2);
}

}  // namespace
