// SPDX-License-Identifier: Apache-2.0

// Loads that start tasks and retries which request further loads: without a cycle no call gets
// `recursive`, and with cycles every call returns.
//
// The seed is printed; SINGLEFLIGHT_SEED repeats it, SINGLEFLIGHT_STRESS_MS sets the time box.

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <random>
#include <thread>
#include <vector>

#include "support/stress.hpp"
#include <singleflight/flight.hpp>
#include <singleflight/sync.hpp>

namespace {

namespace sf = singleflight;
using steady = std::chrono::steady_clock;
constexpr int levels = 4;
constexpr int keys_per_level = 3;

/// Runs `body(random)` on four threads until the time box is over.
template <class Body>
void on_threads(Body body) {
  const std::uint64_t seed = support::new_seed();
  const auto until = steady::now() + support::time_box();
  std::vector<std::jthread> threads;
  for (std::uint64_t t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      std::mt19937_64 random(seed + t);
      while (steady::now() < until) body(random);
    });
  }
}

/// Each load requests only keys of lower levels.
class acyclic {
 public:
  acyclic() {
    for (auto& p : pools_) p.emplace(sf::thread_pool_options{.max_threads = 2});
  }
  int ask(int level, std::uint64_t random) {
    const int key = level * keys_per_level + static_cast<int>(random % keys_per_level);
    calls.fetch_add(1, std::memory_order_relaxed);
    const auto got =
        flights.run(sf::as_outcome, key, [&] { return level == 0 ? 1 : load(level, random / 7); });
    if (!got) wrong.fetch_add(1);
    return 1;
  }
  sf::group<int, int> flights;
  std::atomic<std::uint64_t> calls{0};
  std::atomic<std::uint64_t> wrong{0};

 private:
  /// Retries block their executor's threads, so each level has its own.
  sf::thread_pool& pool(int level) { return *pools_[static_cast<std::size_t>(level)]; }
  int load(int level, std::uint64_t random) {
    const std::vector<std::function<int()>> asks(
        2, [this, level, random] { return ask(level - 1, random / 5); });
    switch (random % 4) {
      case 0: return static_cast<int>(sf::run_all(asks, {.executor = pool(level)}).size());
      case 1: return *sf::start_retry({.max_attempts = 1}, asks[0], {}, pool(level)).get_outcome();
      case 2: return sf::collect<int>(asks, {.executor = pool(level)}).front();
      default: {
        // A group shared by all loads, which a load submits to and may wait for: its tasks request
        // only keys of level 0.
        shared_.go([this, random] { ask(0, random / 3); });
        if (random % 8 < 4 && !shared_.wait(sf::as_outcome)) wrong.fetch_add(1);
        return 1;
      }
    }
  }
  std::array<std::optional<sf::thread_pool>, levels> pools_;
  sf::thread_pool shared_pool_{{.max_threads = 2}};
  sf::error_group shared_{{.executor = shared_pool_}};
};

// Goal    No false positives: no wait fails as recursive if loads, tasks and retries request only
//         lower levels.
TEST(cycles_stress, without_a_cycle_no_call_is_recursive) {
  acyclic all;
  on_threads([&](std::mt19937_64& random) { all.ask(levels - 1, random()); });
  EXPECT_EQ(all.wrong, 0U);
  EXPECT_EQ(all.flights.stats().recursive, 0U) << "of " << all.calls << " calls";
}

// Goal    If loads and tasks request any key, even their own, every call returns.
TEST(cycles_stress, with_cycles_every_call_returns) {
  sf::thread_pool pool({.max_threads = 8});
  sf::group<int, int> flights;
  std::function<int(int, std::uint64_t)> ask = [&](int depth, std::uint64_t random) {
    const auto got = flights.run(sf::as_outcome, static_cast<int>(random % 4), [&] {
      if (depth == 0) return 1;
      const std::vector<std::function<int()>> calls{
          [&] { return ask(depth - 1, random / 5); },
          [&] { return ask(depth - 1, random / 11); },
      };
      if (random % 3 == 0) return static_cast<int>(sf::run_all(calls, {.executor = pool}).size());
      sf::error_group group({.executor = pool});
      for (const auto& c : calls) group.go([&] { (void)c(); });
      if (random % 3 == 1) (void)group.wait(sf::as_outcome);
      return 1;
    });
    return got || got.errc() == sf::flight_errc::recursive ? 1 : 0;
  };
  std::atomic<std::uint64_t> wrong{0};
  on_threads([&](std::mt19937_64& random) { wrong += ask(3, random()) == 1 ? 0U : 1U; });
  EXPECT_EQ(wrong, 0U);
  EXPECT_TRUE(flights.in_flight().empty());
}

}  // namespace
