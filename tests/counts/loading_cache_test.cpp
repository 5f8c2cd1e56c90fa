// SPDX-License-Identifier: Apache-2.0

// What a loading cache costs, in things that can be counted.

#include "singleflight/cache/loading_cache.hpp"

#include <gtest/gtest.h>

#include <chrono>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "singleflight/core/manual_timer.hpp"
#include "support/allocation_count.hpp"
#include "support/task.hpp"

namespace {

using namespace std::chrono_literals;
using singleflight::inline_executor;
using singleflight::loading_cache;
using singleflight::manual_timer;
using support::allocations_of_this_thread;

template <class Fn>
std::size_t allocations_of(Fn&& fn) {
  const std::size_t before = allocations_of_this_thread();
  std::forward<Fn>(fn)();
  return allocations_of_this_thread() - before;
}

/// A key whose copy allocates, and which is no string.
struct name {
  std::string first;
  std::string last;
  bool operator==(const name&) const = default;
};
struct name_hash {
  std::size_t operator()(const name& n) const {
    return std::hash<std::string>{}(n.first) ^ std::hash<std::string>{}(n.last);
  }
};
const std::string long_text(100, 'x');

// Goal    A hit allocates nothing, in every form, with or without times, with more handles than
//         slots; nor does a copy of a handle.
TEST(loading_cache_counts, a_hit_allocates_nothing) {
  manual_timer time;
  loading_cache<int, int> plain([](int k) { return k; });
  loading_cache<std::string, std::string> strings(
      [](std::string_view k) { return std::string(k); },
      {.ttl = 1h, .refresh_after = 1min, .stale_if_error = 1h, .group = {.timer = &time}});
  loading_cache<name, int, name_hash> names([](const name&) { return 1; });
  const name key{long_text, long_text};
  plain.get(1);
  strings.get(long_text);
  names.get(key);
  std::vector<singleflight::cached<int>> held;
  held.reserve(1000);
  EXPECT_EQ(allocations_of([&] {
              for (int i = 0; i < 100; ++i) {
                held.push_back(plain.get(1));
                held.push_back(held.back());
                (void)plain.get(1, {.deadline = time.now() + 1s});
                (void)plain.find(1);
                (void)strings.get(long_text);
                (void)strings.get(std::string_view(long_text));
                (void)strings.find(long_text);
                (void)names.get(key);
                (void)names.find(key);
              }
              held.clear();
            }),
            0U);
}

support::owned wait_for(loading_cache<int, int>& cache, int& seen) {
  auto handle = cache.start_get(1);
  seen += *co_await handle;
}

// Goal    start_get of a hit allocates nothing, waited for or awaited (besides the caller's frame).
TEST(loading_cache_counts, a_started_hit_allocates_nothing) {
  loading_cache<int, int> cache([](int k) { return k; });
  cache.get(1);
  int seen = 0;
  EXPECT_EQ(allocations_of([&] {
              for (int i = 0; i < 100; ++i) {
                auto handle = cache.start_get(1);
                seen += *handle.get();
                auto limited = cache.start_get(1);
                seen += *limited.until(std::chrono::steady_clock::now()).get();
                auto moved = std::move(limited);
                (void)cache.start_get(1);
              }
            }),
            0U);
  EXPECT_EQ(allocations_of([&] { (void)wait_for(cache, seen); }), 1U);
  EXPECT_EQ(seen, 201);
}

// Goal    A miss that is led alone makes one allocation, its entry, in addition to those of its key
//         and value, even with extra fields. Replacements and evictions make none.
TEST(loading_cache_counts, a_miss_allocates_its_entry) {
  manual_timer time;
  loading_cache<int, int> plain([](int k) { return k; }, {.capacity = 200});
  loading_cache<int, int> timed([](int k) { return k; }, {.capacity = 200,
                                                          .weigher = [](int, int) { return 1U; },
                                                          .ttl = 1h,
                                                          .stale_if_error = 1h,
                                                          .group = {.timer = &time}});
  loading_cache<std::string, int> strings([](std::string_view) { return 1; }, {.capacity = 200});
  std::vector<std::string> keys;
  for (int k = 0; k < 1000; ++k) {  // tables and ghosts then have their final size
    plain.get(k);
    timed.get(k);
    strings.get(long_text + std::to_string(k));
    keys.push_back(long_text + std::to_string(k + 5000));
  }
  EXPECT_EQ(allocations_of([&] {
              for (int k = 5000; k < 5100; ++k) plain.get(k);
            }),
            100U);
  EXPECT_EQ(allocations_of([&] {
              for (int k = 5000; k < 5100; ++k) timed.get(k);
            }),
            100U);
  EXPECT_EQ(allocations_of([&] {
              for (int k = 0; k < 100; ++k) strings.get(keys[static_cast<std::size_t>(k)]);
            }),
            200U)
      << "one for the key";
  EXPECT_EQ(allocations_of([&] {
              for (int k = 5000; k < 5100; ++k) plain.put(k, 1);
            }),
            100U);
  EXPECT_EQ(allocations_of([&] {
              for (int k = 5000; k < 5100; ++k) plain.invalidate(k);
              for (int k = 5000; k < 5100; ++k) plain.invalidate(k);
            }),
            0U);
}

// Goal    An entry takes 32 bytes, its key and its value, rounded up to a multiple of eight; with
//         extra fields 32 more.
TEST(loading_cache_counts, sizes) {
  EXPECT_EQ(sizeof(singleflight::detail::entry<std::uint64_t, std::uint64_t>), 48U);
  EXPECT_EQ(sizeof(singleflight::cached<int>), 40U);
  EXPECT_EQ(sizeof(singleflight::detail::entry_extras), 32U);
  EXPECT_EQ(sizeof(singleflight::detail::entry_line), 64U);
}

// Goal    A process may have very many groups and caches: they are small until they are used by
//         several threads, or filled.
TEST(loading_cache_counts, small_objects) {
  EXPECT_LE(sizeof(singleflight::group<std::string, std::string>), 1024U);
  using cache_type = loading_cache<std::string, std::string>;
  EXPECT_LE(sizeof(cache_type), 2432U);
  const auto make = [] {
    const cache_type cache([](std::string_view k) { return std::string(k); });
  };
  make();  // also makes what a process has once
  EXPECT_LE(allocations_of(make), 6U);
}

}  // namespace
