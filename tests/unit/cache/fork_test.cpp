// SPDX-License-Identifier: Apache-2.0

// What a child of fork() finds of caches and live values.

#include "support/fork.hpp"

#include <gtest/gtest.h>
#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <memory>
#include <optional>
#include <thread>
#include <vector>

#include "support/asleep.hpp"
#include "support/eventually.hpp"
#include "support/gate.hpp"
#include <singleflight/cache.hpp>

namespace sf = singleflight;
using namespace std::chrono_literals;

namespace {

std::atomic<bool> forks{false};
std::atomic<bool> made{false};
std::optional<support::asleep> maker;

// Goal    A fork while another thread makes the first objects of their kinds: none is half made in
//         the child, which would wait for that thread for ever.
// Method  A handler of the program's, older than the library's use, so that it is called with what
//         the library holds; it waits until the other thread has its objects, or sleeps.
TEST(fork_cache, nothing_is_half_made_in_a_child) {
  if (support::instrumented) GTEST_SKIP() << support::not_with_sanitizers_in_a_child;
  const auto uses = [] {
    sf::loading_cache<int, int> cache([](int key) { return key; });
    return *cache.get(1) == 1 && *cache.start_get(2).get() == 2;
  };
  ASSERT_EQ(::pthread_atfork(
                [] {
                  forks = true;
                  forks.notify_all();
                  if (maker) support::eventually([] { return made || (*maker)(); });
                },
                nullptr, nullptr),
            0);
  {
    const sf::thread_pool first;  // the library's handlers are there
  }
  std::atomic<bool> ready{false};
  std::jthread other([&] {
    maker.emplace();
    ready = true;
    ready.notify_all();
    forks.wait(false);
    EXPECT_TRUE(uses());
    made = true;
  });
  ready.wait(false);
  EXPECT_TRUE(support::in_child(uses));
  other.join();
  maker.reset();
}

// Goal    What a process has loaded before it forks is there in the child, and grows old there, as
//         what the child loads itself (scenario 56).
TEST(fork_cache, a_warmed_cache_expires_in_a_child) {
  if (support::instrumented) GTEST_SKIP() << support::not_with_sanitizers_in_a_child;
  std::atomic<int> loads{0};
  sf::loading_cache<int, int> cache([&](int) { return ++loads; }, {.ttl = 20ms, .jitter = 0});
  ASSERT_EQ(*cache.get(1), 1);
  ASSERT_GE(*cache.get(1), 1);  // the coarse clock ticks
  EXPECT_TRUE(support::in_child([&] {
    const int first = *cache.get(1);
    if (!support::comes([&] { return *cache.get(1) > first; })) return false;
    const int second = *cache.get(1);
    return support::comes([&] { return *cache.get(1) > second; });
  }));
}

// Goal    An entry that another thread was refreshing is refreshed anew in the child.
TEST(fork_cache, a_refresh_of_the_parent_does_not_hold_up_a_child) {
  if (support::instrumented) GTEST_SKIP() << support::not_with_sanitizers_in_a_child;
  support::gate hold;
  std::atomic<int> loads{0};
  sf::loading_cache<int, int> cache(
      [&](int) {
        const int n = ++loads;
        if (n == 2) hold.wait();
        return n;
      },
      {.jitter = 0, .refresh_after = 1ms});
  ASSERT_EQ(*cache.get(1), 1);
  ASSERT_TRUE(support::eventually([&] {
    (void)cache.get(1);
    return loads == 2;
  }));
  hold.await_arrivals();
  EXPECT_TRUE(
      support::in_child([&] { return support::comes([&] { return *cache.get(1) == 3; }); }));
  hold.open();
}

// Goal    Values that have left a cache within a load, and wait for a thread to be destroyed on,
//         are destroyed in a child as well: from its first call on a cache on, not before, and no
//         thread is started for them.
// Method  Their destructors hold all threads of the default pool until the fork is over.
TEST(fork_cache, what_waits_to_be_destroyed_is_destroyed_in_a_child) {
  if (support::instrumented) GTEST_SKIP() << support::not_with_sanitizers_in_a_child;
  static std::atomic<bool> open{false};
  static std::atomic<std::size_t> begun{0};
  static std::atomic<std::size_t> ended{0};
  struct held {
    ~held() {
      ++begun;
      open.wait(false);
      ++ended;
    }
  };
  const std::size_t threads = std::max<std::size_t>(64, 4 * std::thread::hardware_concurrency());
  sf::group<int, bool> flights;
  {
    sf::loading_cache<int, std::shared_ptr<held>> cache([](int) { return nullptr; });
    EXPECT_TRUE(*flights.run(1, [&] {
      for (std::size_t i = 0; i < 16 * threads; ++i) cache.put(1, std::make_shared<held>());
      return support::eventually([&] { return begun == threads; }, "the destructors");
    }));
    EXPECT_TRUE(support::in_child([&] {
      open = true;
      if (sf::default_pool().threads() != 0 || ended != 0) return false;
      (void)cache.get(2);
      return support::comes([&] { return ended > threads; });
    }));
    open = true;
    open.notify_all();
  }
  EXPECT_TRUE(support::eventually([&] { return ended == 16 * threads; }, "the other destructors"));
}

// Goal    The schedule of a live value goes on in a child, also where a load of it was under way.
TEST(fork_cache, a_live_value_reloads_in_a_child) {
  if (support::instrumented) GTEST_SKIP() << support::not_with_sanitizers_in_a_child;
  support::gate hold;
  std::atomic<int> loads{0};
  auto value = std::make_unique<sf::live_value<int>>(
      [&] {
        const int n = ++loads;
        if (n == 2) hold.wait();
        return n;
      },
      sf::live_options<int>{.reload_every = 1ms, .jitter = 0});
  hold.await_arrivals();
  EXPECT_TRUE(support::in_child([&] {
    const bool reloads = support::comes([&] { return *value->get() > 3; });
    value.reset();
    return reloads;
  }));
  hold.open();
  EXPECT_TRUE(support::eventually([&] { return *value->get() > 3; }));
}

// Goal    A listener that was not told yet as the process forked, is told in the child.
// Method  One is held by the gate; the other one stands behind it.
TEST(fork_cache, listeners_are_told_in_a_child) {
  if (support::instrumented) GTEST_SKIP() << support::not_with_sanitizers_in_a_child;
  support::gate hold;
  std::atomic<bool> holding{true};
  std::atomic<int> told{0};
  sf::live_value<int> value([] { return 1; });
  const auto first = value.on_change([&](int, int) {
    if (holding) hold.wait();
  });
  const auto second = value.on_change([&](int, int now) { told = now; });
  ASSERT_TRUE(value.set(2));
  hold.await_arrivals();
  EXPECT_TRUE(support::in_child([&] {
    holding = false;
    if (!support::comes([&] { return told == 2; })) return false;
    value.set(3);
    return support::comes([&] { return told == 3; });
  }));
  hold.open();
  EXPECT_TRUE(support::eventually([&] { return told == 2; }));
}

// Goal    A server that warms its cache and forks while others use it: in the child every call
//         comes back, and memory is given back.
TEST(fork_cache, forks_amid_calls) {
  if (support::instrumented) GTEST_SKIP() << support::not_with_sanitizers_in_a_child;
  sf::loading_cache<int, int> cache([](int k) { return k; },
                                    {.capacity = 64, .ttl = 1ms, .refresh_after = 500us});
  std::atomic<bool> over{false};
  std::vector<std::jthread> workers;
  for (int i = 0; i < 3; ++i) {
    workers.emplace_back([&, i] {
      for (int n = i; !over; ++n) {
        const auto held = cache.get(n % 200);
        if (n % 5 == 0) cache.invalidate(n % 200);
        if (n % 50 == 0) cache.put(n % 200, n % 200);
      }
    });
  }
  for (int i = 0; i < 20; ++i) {
    ASSERT_TRUE(support::in_child([&] {
      for (int k = 0; k < 200; ++k) {
        if (*cache.get(k) != k) return false;
        cache.invalidate(k);
      }
      cache.clear();
      return cache.stats().entries == 0;
    }));
  }
  over = true;
}

}  // namespace
