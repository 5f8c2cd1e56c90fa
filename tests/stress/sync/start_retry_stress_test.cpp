// SPDX-License-Identifier: Apache-2.0

// Retries under real timers and pools, awaited and waited for, stopped, abandoned and dropped at
// random: each ends once, and the objects passed to it are destroyed.
//
// The seed is printed; SINGLEFLIGHT_SEED repeats it, SINGLEFLIGHT_STRESS_MS sets the time box.

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <random>
#include <stop_token>
#include <thread>
#include <utility>
#include <vector>

#include "support/eventually.hpp"
#include "support/stress.hpp"
#include "support/task.hpp"
#include <singleflight/sync/start_retry.hpp>

namespace {

using namespace std::chrono_literals;
using singleflight::flight_errc;
using singleflight::outcome;
using singleflight::pending_result;
using singleflight::start_retry;
using steady = std::chrono::steady_clock;

struct counters {
  std::atomic<std::uint64_t> begun{0};
  std::atomic<std::uint64_t> ended{0};  ///< functions that were destroyed
  std::atomic<std::uint64_t> values{0};
  std::atomic<std::uint64_t> errors{0};
  std::atomic<std::uint64_t> limits{0};
  std::atomic<std::uint64_t> wrong{0};
  std::atomic<int> waiting{0};

  void count(outcome<std::uint64_t> got, std::uint64_t expected) {
    if (got) {
      (*got == expected ? values : wrong).fetch_add(1);
    } else if (got.errc()) {
      limits.fetch_add(1);
    } else {
      errors.fetch_add(1);
    }
  }
};

/// Counts the destruction of its owner.
struct token {
  explicit token(counters& of) : all(&of) { all->begun.fetch_add(1); }
  token(token&& other) noexcept : all(std::exchange(other.all, nullptr)) {}
  token& operator=(token&&) = delete;
  ~token() {
    if (all != nullptr) all->ended.fetch_add(1);
  }
  counters* all;
};

pending_result<std::uint64_t> begin(counters& all, std::mt19937_64& random, std::stop_token stop,
                                    singleflight::any_executor on, std::uint64_t number) {
  const auto good = static_cast<std::uint32_t>(1 + random() % 5);
  auto plain = std::make_unique<std::uint64_t>(0);  // not atomic: a race would be reported
  return start_retry(
      {.max_attempts = 4,
       .base = std::chrono::microseconds(random() % 200),
       .cap = 1ms,
       .retry_if = [](const std::exception_ptr&) { return true; }},
      [mine = token(all), plain = std::move(plain), good,
       number](std::uint32_t attempt) -> support::lazy<std::uint64_t> {
        if (++*plain != attempt) co_return 0;
        if (attempt < good) throw attempt;
        co_return number;
      },
      {.stop = std::move(stop)}, std::move(on));
}

support::detached in_coroutine(counters& all, pending_result<std::uint64_t> handle,
                               std::stop_token stop, std::chrono::microseconds patience,
                               std::uint64_t number) {
  {
    auto mine = std::move(handle);
    all.count(co_await mine.until(steady::now() + patience, stop).as_outcome(), number);
  }
  all.waiting.fetch_sub(1);
}

// Goal    Whatever ends a sleep, a wait or a handle, in whatever order, each call ends once.
TEST(start_retry_stress, every_call_ends_once) {
  const std::uint64_t seed = support::new_seed();
  const auto end = steady::now() + support::time_box();
  counters all;
  singleflight::thread_pool pool({.max_threads = 3});
  const auto work = [&](std::uint64_t mine) {
    std::mt19937_64 random(seed + mine);
    for (std::uint64_t number = 1; steady::now() < end; ++number) {
      std::stop_source stop;
      std::stop_source give_up;
      const singleflight::any_executor on =
          random() % 2 == 0 ? singleflight::any_executor(pool) : singleflight::any_executor();
      auto handle = begin(all, random, stop.get_token(), on, number);
      const auto patience = std::chrono::microseconds(random() % 3000);
      switch (random() % 4) {
        case 0: all.count(handle.get_outcome(), number); break;
        case 1: all.count(handle.until(steady::now() + patience).get_outcome(), number); break;
        case 2: break;  // dropped
        default:
          all.waiting.fetch_add(1);
          in_coroutine(all, std::move(handle), give_up.get_token(), patience, number);
      }
      if (random() % 3 == 0) std::this_thread::sleep_for(patience / 10);
      if (random() % 2 == 0) stop.request_stop();
      if (random() % 4 == 0) give_up.request_stop();
    }
  };
  {
    std::vector<std::jthread> threads;
    for (std::uint64_t i = 0; i < 3; ++i) threads.emplace_back(work, i);
  }
  EXPECT_TRUE(support::eventually([&] { return all.waiting.load() == 0; }, "the end of the waits"));
  EXPECT_TRUE(support::eventually([&] { return all.ended.load() == all.begun.load(); }, "the end"));
  EXPECT_EQ(all.wrong.load(), 0U);
  EXPECT_GT(all.values.load(), 0U);
  EXPECT_GT(all.errors.load(), 0U);
  EXPECT_GT(all.limits.load(), 0U);
}

}  // namespace
