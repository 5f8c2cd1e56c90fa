// SPDX-License-Identifier: Apache-2.0

// What a call through retry and circuit_breaker costs, in things that can be counted.

#include <gtest/gtest.h>

#include <chrono>
#include <stop_token>
#include <utility>

#include "singleflight/core/default_timer.hpp"
#include "singleflight/core/manual_timer.hpp"
#include "singleflight/sync/circuit_breaker.hpp"
#include "singleflight/sync/retry.hpp"
#include "support/allocation_count.hpp"

namespace {

using namespace std::chrono_literals;
using singleflight::as_outcome;
using support::allocations_of_this_thread;

template <class Fn>
std::size_t allocations_of(Fn&& fn) {
  const std::size_t before = allocations_of_this_thread();
  std::forward<Fn>(fn)();
  return allocations_of_this_thread() - before;
}

int five() { return 5; }

// Goal    A call through a closed breaker allocates nothing, from a thread's second call on, and
//         neither does a rejection.
TEST(circuit_breaker_counts, calls_allocate_nothing) {
  singleflight::circuit_breaker plain;
  singleflight::circuit_breaker timed({.slow_call_rate = 0.5, .slow_call = 1h});
  plain.call(five);
  timed.call(five);
  EXPECT_EQ(allocations_of([&] {
              for (int i = 0; i < 1000; ++i) {
                EXPECT_EQ(plain.call(five), 5);
                EXPECT_EQ(timed.call(five), 5);
                EXPECT_EQ(*plain.call(as_outcome, five), 5);
                EXPECT_EQ(plain.call(five, five), 5);
              }
              plain.force_open();
              for (int i = 0; i < 1000; ++i) {
                EXPECT_FALSE(plain.call(as_outcome, five));
                EXPECT_EQ(plain.call(five, five), 5);
              }
            }),
            0U);
}

// Goal    Nor do the breaker's changes, its probes, or a window that advances.
TEST(circuit_breaker_counts, changes_allocate_nothing) {
  singleflight::manual_timer time;
  int changes = 0;
  singleflight::circuit_breaker breaker(
      {.probes = 1, .on_change = [&changes](auto, auto) { ++changes; }, .timer = &time});
  breaker.call(five);
  EXPECT_EQ(allocations_of([&] {
              for (int i = 0; i < 100; ++i) {
                time.advance(3s);
                breaker.call(five);
                breaker.force_open();
                time.advance(6s);
                breaker.call(five);
              }
            }),
            0U);
  EXPECT_EQ(changes, 300);
}

// Goal    A first attempt that succeeds allocates nothing, even with limits and a budget.
TEST(retry_counts, a_first_attempt_allocates_nothing) {
  (void)singleflight::default_timer();  // created by its first use
  const singleflight::retry_policy plain;
  const singleflight::retry_policy bounded{.budget = 1h};
  const std::stop_source stop;
  const singleflight::limits bounds{.deadline = std::chrono::steady_clock::now() + 1h,
                                    .stop = stop.get_token()};
  EXPECT_EQ(allocations_of([&] {
              for (int i = 0; i < 1000; ++i) {
                EXPECT_EQ(singleflight::retry(plain, five), 5);
                EXPECT_EQ(singleflight::retry(bounded, five, bounds), 5);
              }
            }),
            0U);
}

// Goal    Retries allocate nothing except what the exceptions allocate themselves.
// Method  The test counts as many allocations as the same throws make without retry.
TEST(retry_counts, retries_allocate_nothing) {
  const auto throws = [](std::uint32_t attempt) {
    if (attempt < 3) throw attempt;
    return 5;
  };
  const auto bare = [&] {
    for (std::uint32_t attempt = 1;; ++attempt) {
      try {
        return throws(attempt);
      } catch (...) {
      }
    }
  };
  EXPECT_EQ(bare(), 5);  // a thread's first throw has extra costs
  const singleflight::retry_policy policy{.base = 0ns};
  EXPECT_EQ(singleflight::retry(policy, throws), 5);
  EXPECT_EQ(allocations_of([&] { EXPECT_EQ(singleflight::retry(policy, throws), 5); }),
            allocations_of([&] { EXPECT_EQ(bare(), 5); }));
}

}  // namespace
