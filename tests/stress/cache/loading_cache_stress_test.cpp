// SPDX-License-Identifier: Apache-2.0

// A loading cache under threads that get, put, invalidate, clear and refresh few keys: no call sees
// a value from before an invalidation that ended before the call began; handles keep their values
// alive through evictions; memory stays bounded.
//
// The seed is printed; SINGLEFLIGHT_SEED repeats it, SINGLEFLIGHT_STRESS_MS sets the time box.

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <deque>
#include <iostream>
#include <memory>
#include <mutex>
#include <optional>
#include <random>
#include <span>
#include <stdexcept>
#include <thread>
#include <utility>
#include <vector>

#include "support/cache.hpp"
#include "support/stress.hpp"
#include "support/task.hpp"
#include <singleflight/cache.hpp>

namespace {

using namespace std::chrono_literals;
using singleflight::cached;
using singleflight::loading_cache;
using singleflight::outcome;
using steady = std::chrono::steady_clock;

/// A clock that all threads agree on: each read is later than all earlier ones.
std::atomic<std::uint64_t> ticks{1};
std::uint64_t tick() { return ticks.fetch_add(1) + 1; }

using put_end = std::shared_ptr<std::atomic<std::uint64_t>>;

/// The time when the load of the value began, or its put ended; values are counted, and marked
/// while they are alive.
struct dated {
  static inline std::atomic<long> alive{0};
  explicit dated(std::uint64_t at, put_end by_put = nullptr) noexcept
      : began(at), put(std::move(by_put)) {
    ++alive;
  }
  dated(const dated& other) noexcept : began(other.began), put(other.put) { ++alive; }
  dated(dated&& other) noexcept : began(other.began), put(std::move(other.put)) { ++alive; }
  ~dated() {
    whole = false;
    --alive;
  }
  /// Whether it may be seen after an invalidation that was called at `at`: a load that began later,
  /// or a put that had not ended.
  bool newer_than(std::uint64_t at) const noexcept {
    if (put == nullptr) return began > at;
    const std::uint64_t ended = put->load();
    return ended == 0 || ended > at;
  }
  std::uint64_t began;
  put_end put;
  bool whole = true;
};

constexpr int keys = 5;

/// For each key, the time at which the latest invalidation that has ended was called.
class history {
 public:
  std::uint64_t latest(int key) const {
    return std::max(all_.load(), one_[static_cast<std::size_t>(key)].load());
  }
  void ended(int key, std::uint64_t called) { raise(one_[static_cast<std::size_t>(key)], called); }
  void ended_for_all(std::uint64_t called) { raise(all_, called); }

 private:
  static void raise(std::atomic<std::uint64_t>& to, std::uint64_t at) {
    std::uint64_t was = to.load();
    while (was < at && !to.compare_exchange_weak(was, at)) {
    }
  }
  std::atomic<std::uint64_t> one_[keys]{};
  std::atomic<std::uint64_t> all_{0};
};

class player {
 public:
  using cache_type = loading_cache<int, dated>;
  player(cache_type& cache, history& book, std::uint64_t seed)
      : cache_(cache), book_(book), random_(seed) {}

  void run(steady::time_point until) {
    while (steady::now() < until && !testing::Test::HasFailure()) {
      for (int i = 0; i < 64; ++i) one();
    }
  }
  std::uint64_t calls() const { return calls_; }
  std::uint64_t values() const { return values_; }

 private:
  void one() {
    ++calls_;
    const int key = static_cast<int>(random_() % keys);
    const std::uint64_t bound = book_.latest(key);
    switch (random_() % 24) {
      case 0: {
        const auto called = tick();
        cache_.invalidate(key);
        book_.ended(key, called);
        break;
      }
      case 1: {
        const auto called = tick();
        auto end = std::make_shared<std::atomic<std::uint64_t>>(0);
        cache_.put(key, dated(called, end));
        *end = tick();
        book_.ended(key, called);
        break;
      }
      case 2:
        if (random_() % 8 == 0) {
          const auto called = tick();
          cache_.clear();
          book_.ended_for_all(called);
        }
        break;
      case 3:
        if (random_() % 8 == 0) {
          const auto called = tick();
          cache_.invalidate_if([&](int k) { return k == key; });
          book_.ended(key, called);
        }
        break;
      case 4: cache_.refresh(key); break;
      case 5: {
        if (auto found = cache_.find(key)) see(*std::move(found), bound);
        break;
      }
      case 6: {
        const int other = (key + 1) % keys;
        const std::uint64_t other_bound = book_.latest(other);
        auto all = cache_.get_all(std::vector{key, other, key});
        if (all[0]) see(*std::move(all[0]), bound);
        if (all[1]) see(*std::move(all[1]), other_bound);
        if (all[2]) see(*std::move(all[2]), bound);
        break;
      }
      case 7: {
        auto handle = cache_.start_get(key);
        if (random_() % 4 == 0) break;  // dropped
        if (auto got = handle.get_outcome()) see(*std::move(got), bound);
        break;
      }
      case 8: {
        auto handle = cache_.start_get(key);
        auto got =
            handle.until(steady::now() + std::chrono::microseconds(random_() % 50)).get_outcome();
        if (got) see(*std::move(got), bound);
        break;
      }
      default: try { see(cache_.get(key), bound);
        } catch (const std::runtime_error&) {
        }
    }
    if (random_() % 4 == 0) held_.clear();
  }
  void see(cached<dated> value, std::uint64_t bound) {
    ++values_;
    ASSERT_TRUE(value->whole) << "the value was destroyed";
    ASSERT_TRUE(value->newer_than(bound))
        << "a value of " << value->began << ", older than an invalidation at " << bound;
    held_.push_back(std::move(value));
    if (random_() % 16 == 0) held_.push_back(held_.front());
    ASSERT_TRUE(held_.front()->whole);
    while (held_.size() > 10) held_.pop_front();
  }

  cache_type& cache_;
  history& book_;
  std::mt19937_64 random_;
  std::deque<cached<dated>> held_;
  std::uint64_t calls_ = 0;
  std::uint64_t values_ = 0;
};

dated load_now(int) {
  const std::uint64_t began = tick();
  if (began % 5 == 0) std::this_thread::yield();
  if (began % 37 == 0) throw std::runtime_error("at times");
  return dated(began);
}

support::lazy<dated> load_awaited(int key) { co_return load_now(key); }

std::vector<outcome<dated>> load_many(std::span<const int> of) {
  std::vector<outcome<dated>> all;
  const std::uint64_t began = tick();
  for (std::size_t i = 0; i < of.size(); ++i) {
    if (tick() % 41 == 0) {
      all.emplace_back(std::make_exception_ptr(std::runtime_error("one of them")));
    } else {
      all.emplace_back(dated(began));
    }
  }
  return all;
}

void play(player::cache_type& cache, std::uint64_t seed) {
  history book;
  std::vector<player> players;
  const auto until = steady::now() + support::time_box() / 3;
  for (std::uint64_t t = 0; t < 4; ++t) players.emplace_back(cache, book, seed + t);
  {
    std::vector<std::jthread> threads;
    for (player& p : players) threads.emplace_back([&p, until] { p.run(until); });
  }
  std::uint64_t values = 0;
  for (const player& p : players) values += p.values();
  const auto s = cache.stats();
  EXPECT_GT(values, 100U);
  EXPECT_GT(s.not_stored, 0U) << "no load was overtaken: the test has tested nothing";
  std::cout << "  " << values << " values, " << s.loads << " loads, " << s.not_stored
            << " not stored\n";
}

// Goal    No get, find, get_all or start_get sees a value whose load began before an invalidation
//         was called that ended before that call began.
// Method  Each value carries the time at which its load began, from a shared counter; before each
//         call, a caller records when the latest invalidation that has ended was called.
TEST(loading_cache_stress, invalidations_are_seen) {  // Scenario 31
  const std::uint64_t seed = support::new_seed();
  {
    player::cache_type cache(load_now, load_many, {.error_ttl = 1ms});
    play(cache, seed);
  }
  {
    player::cache_type cache(load_awaited, {.capacity = 3});
    play(cache, seed);
  }
  {  // with every time option set, each of them short
    player::cache_type cache(load_now, {.capacity = 4,
                                        .ttl = 2ms,
                                        .jitter = 0.5,
                                        .refresh_after = 300us,
                                        .stale_if_error = 5ms,
                                        .retry_after = 1ms,
                                        .soft_timeout = 100us});
    play(cache, seed);
  }
  // The executor's threads may still hold their loaded values for a moment.
  support::eventually(
      [] {
        singleflight::detail::hazard_domain::instance().reclaim(nullptr);
        return dated::alive == 0;
      },
      "the end of all values");
}

// Goal    For as many operations as the time allows, at most ten million, over far more keys than
//         the cache holds, the number of live values never exceeds the capacity, the callers'
//         handles, and the values that may wait to be freed.
TEST(loading_cache_stress, memory_is_bounded) {
  const std::uint64_t seed = support::new_seed();
  constexpr std::size_t capacity = 500;
  constexpr std::uint64_t most = 10'000'000;
  constexpr std::size_t held_most = 12;
  constexpr unsigned threads = 4;
  std::atomic<std::uint64_t> calls{0};
  std::atomic<long> peak{0};
  {
    loading_cache<int, dated> cache([](int) { return dated(tick()); },
                                    {.capacity = capacity, .ttl = 20ms, .jitter = 1});
    const auto until = steady::now() + support::time_box();
    std::mutex lock;
    std::vector<cached<dated>> passed;  // passed from thread to thread
    std::vector<std::jthread> all;
    for (unsigned t = 0; t < threads; ++t) {
      all.emplace_back([&, t] {
        std::mt19937_64 random(seed + t);
        std::deque<cached<dated>> held;
        while (calls < most && steady::now() < until) {
          for (int i = 0; i < 256; ++i) {
            const int key =
                static_cast<int>(random() % 64 < 60 ? random() % 600 : random() % 100'000);
            auto got = cache.get(key);
            ASSERT_TRUE(got->whole);
            const auto what = random() % 256;
            if (what < 64) held.push_back(std::move(got));
            if (what == 64) cache.invalidate(key);
            if (what == 65) cache.put(key, dated(1));
            if (what == 66 && random() % 64 == 0) cache.clear();
            if (what == 67 && random() % 64 == 0) {
              cache.invalidate_if([](int k) { return k % 2 == 0; });
            }
            if (what >= 68 && what < 72 && !held.empty()) {
              const std::lock_guard hold(lock);
              if (passed.size() < 32) {
                passed.push_back(std::move(held.front()));
                held.pop_front();
              } else {
                held.push_back(std::move(passed.back()));
                passed.pop_back();
              }
            }
            for (const auto& h : held) ASSERT_TRUE(h->whole);
            while (held.size() > random() % held_most) held.pop_front();
          }
          calls += 256;
          const long now = dated::alive;
          for (long was = peak; was < now && !peak.compare_exchange_weak(was, now);) {
          }
        }
      });
    }
  }
  // The thread of a sweep may still be freeing the last batch.
  EXPECT_TRUE(support::eventually(
      [] {
        singleflight::detail::hazard_domain::instance().reclaim(nullptr);
        return dated::alive == 0;
      },
      "the end of all values"));
  // Each thread may have one value in flight or being freed; one thread may free a waiting batch
  // while others fill the next.
  EXPECT_LE(peak, static_cast<long>(capacity + 32 + threads * (held_most + 2) + 2 * threads * 256));
  std::cout << "  " << calls << " calls, " << peak << " values at most\n";
}

}  // namespace
