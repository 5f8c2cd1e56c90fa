// SPDX-License-Identifier: Apache-2.0

// A cache keeps to its capacity, in entries or in weight, and frees the memory of removed entries.

#include <gtest/gtest.h>

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "support/cache.hpp"
#include "support/executors.hpp"
#include <singleflight/cache.hpp>

namespace {

using singleflight::inline_executor;
using singleflight::loading_cache;
using support::living;

// Goal    There are never more entries than the capacity; the entry just loaded is stored; the
//         others are freed, except those that may wait.
TEST(eviction, by_count) {
  for (const std::size_t capacity : {1U, 2U, 7U, 100U, 3000U}) {
    {
      loading_cache<int, living> cache([](int k) { return living(k); }, {.capacity = capacity});
      for (int k = 0; k < 10'000; ++k) {
        ASSERT_EQ(cache.get(k)->read(), k);
        ASSERT_TRUE(cache.find(k));
      }
      const auto s = cache.stats();
      EXPECT_EQ(s.entries, capacity);
      EXPECT_EQ(s.evicted, 10'000 - capacity);
      EXPECT_LE(living::alive, static_cast<long>(capacity + 256));
    }
    EXPECT_EQ(living::alive, 0);
  }
}

// Goal    With a weigher the sum of the weights is bounded; a weight of 0 counts as 1; a heavier
//         value that replaces a lighter one evicts others.
TEST(eviction, by_weight) {
  loading_cache<int, std::string> cache(
      [](int k) { return std::string(static_cast<std::size_t>(k % 50), 'x'); },
      {.capacity = 1000, .weigher = [](int, const std::string& s) { return s.size(); }});
  for (int k = 0; k < 5000; ++k) {
    cache.get(k);
    ASSERT_LE(cache.stats().weight, 1000U);
    ASSERT_EQ(cache.policy().explain(k).weight,
              k % 50 == 0 ? 1U : static_cast<std::size_t>(k % 50));
  }
  EXPECT_GT(cache.stats().weight, 900U);
  cache.clear();
  EXPECT_EQ(cache.stats().weight, 0U);
  for (int k = 0; k < 10; ++k) cache.put(k, std::string(100, 'y'));
  EXPECT_EQ(cache.stats().entries, 10U);
  cache.put(3, std::string(600, 'z'));
  EXPECT_EQ(cache.stats().weight, 1000U);
  EXPECT_EQ(cache.stats().entries, 5U);
  EXPECT_EQ(cache.find(3)->value().size(), 600U);
}

// Goal    A value heavier than the capacity is returned to its callers and not stored; the old
//         entry for its key is removed.
TEST(eviction, heavier_than_all) {  // Scenario 35
  std::size_t size = 5;
  loading_cache<int, std::string> cache(
      [&](int) { return std::string(size, 'x'); },
      {.capacity = 10,
       .weigher = [](int, const std::string& s) { return s.size(); },
       .group = {.executor = inline_executor}});
  cache.get(1);
  cache.get(2);
  EXPECT_EQ(cache.stats().weight, 10U);
  size = 11;
  EXPECT_EQ(cache.get(3)->size(), 11U);
  EXPECT_EQ(cache.start_get(3).get()->size(), 11U);
  EXPECT_EQ(cache.get_all(std::vector{3}).front()->value().size(), 11U);
  EXPECT_FALSE(cache.find(3));
  EXPECT_TRUE(cache.find(1) && cache.find(2)) << "no entry may be evicted for it";
  EXPECT_EQ(cache.stats().evicted, 0U);
  cache.refresh(1);
  EXPECT_FALSE(cache.find(1)) << "the old value must be removed";
  size = 10;
  EXPECT_EQ(cache.get(3)->size(), 10U);
  EXPECT_EQ(cache.stats().weight, 10U) << "as heavy as the capacity";
  EXPECT_TRUE(cache.find(3));
}

// Goal    Frequently used entries stay while others are stored and evicted.
TEST(eviction, hot_entries_stay) {
  loading_cache<int, int> cache([](int k) { return k; }, {.capacity = 1000});
  int hot_misses = 0;
  for (int i = 0; i < 100'000; ++i) {
    cache.get(1'000'000 + i);
    const int hot = i % 200;
    if (i >= 10'000 && !cache.find(hot)) ++hot_misses;
    cache.get(hot);
  }
  EXPECT_LT(hot_misses, 1000) << "of 90,000";
}

// Goal    A million entries are stored, found and removed one by one: each is found once, and none
//         is left.
TEST(eviction, a_large_cache) {
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__) || !defined(__OPTIMIZE__)
  constexpr int many = 100'000;
#else
  constexpr int many = 1'000'000;
#endif
  {
    loading_cache<int, living> cache([](int k) { return living(k); },
                                     {.capacity = static_cast<std::size_t>(many)});
    for (int k = 0; k < many; ++k) cache.get(k);
    EXPECT_EQ(cache.stats().entries, static_cast<std::size_t>(many));
    for (int k = 0; k < many; ++k) ASSERT_EQ(cache.find(k)->value().read(), k);
    for (int k = 0; k < many; k += 2) ASSERT_TRUE(cache.invalidate(k));
    for (int k = 0; k < many; ++k) ASSERT_EQ(cache.find(k).has_value(), k % 2 == 1);
    EXPECT_LE(living::alive, many / 2 + 256);
    cache.clear();
    EXPECT_LE(living::alive, 256);
    EXPECT_FALSE(cache.find(1));
    cache.get(1);
  }
  EXPECT_EQ(living::alive, 0);
}

}  // namespace
