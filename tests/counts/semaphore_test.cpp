// SPDX-License-Identifier: Apache-2.0

// What a semaphore costs, in things that can be counted.

#include "singleflight/sync/semaphore.hpp"

#include <gtest/gtest.h>

#include <chrono>
#include <cstddef>
#include <optional>
#include <stop_token>
#include <thread>
#include <utility>

#include "singleflight/core/manual_timer.hpp"
#include "support/allocation_count.hpp"
#include "support/task.hpp"

namespace {

using namespace std::chrono_literals;
using singleflight::as_outcome;
using singleflight::inline_executor;
using singleflight::manual_timer;
using singleflight::permit;
using singleflight::semaphore;
using support::allocations_of_this_thread;

template <class Fn>
std::size_t allocations_of(Fn&& fn) {
  const std::size_t before = allocations_of_this_thread();
  std::forward<Fn>(fn)();
  return allocations_of_this_thread() - before;
}

// Goal    Acquire, try_acquire, split, merge and release allocate nothing while permits are
//         available.
TEST(semaphore_counts, alone_allocates_nothing) {
  semaphore all(4);
  EXPECT_EQ(allocations_of([&] {
              for (int i = 0; i < 1000; ++i) {
                permit two = all.acquire(2);
                permit one = two.split(1);
                one.merge(all.try_acquire(1));
                two.merge(std::move(one));
                auto place = all.start_acquire(1);
                two.merge(place.get());
              }
            }),
            0U);
  EXPECT_EQ(all.available(), 4);
}

support::owned wait(semaphore& all, std::chrono::steady_clock::time_point deadline,
                    std::stop_token stop, int& resumed) {
  auto place = all.start_acquire(1);
  const auto got = co_await place.until(deadline, stop).as_outcome();
  ++resumed;
}

// Goal    A coroutine that queues, with a deadline and a stop token, allocates nothing besides its
//         frame; nor does the release that serves it, nor the limit that ends its wait.
TEST(semaphore_counts, queueing_allocates_nothing) {
  manual_timer time;
  semaphore all(1, {.executor = inline_executor, .timer = &time});
  std::stop_source stop;
  int resumed = 0;
  permit held = all.acquire();
  std::optional<support::owned> served;
  std::optional<support::owned> late;
  // One allocation each: the frame.
  EXPECT_EQ(allocations_of([&] {
              served.emplace(wait(all, time.now() + 9s, stop.get_token(), resumed));
              late.emplace(wait(all, time.now() + 1s, stop.get_token(), resumed));
            }),
            2U);
  EXPECT_EQ(allocations_of([&] { time.advance(2s); }), 0U);
  EXPECT_EQ(resumed, 1);
  EXPECT_EQ(allocations_of([&] { held.release(); }), 0U);
  EXPECT_EQ(resumed, 2);
  EXPECT_EQ(all.available(), 1);
}

// Goal    A thread that queues until its deadline allocates nothing.
TEST(semaphore_counts, a_thread_that_queues_allocates_nothing) {
  semaphore all(1);
  const permit held = all.acquire();
  EXPECT_EQ(allocations_of([&] {
              const auto got = all.acquire(as_outcome, 1,
                                           {.deadline = std::chrono::steady_clock::now() + 200us});
              EXPECT_FALSE(got);
            }),
            0U);
}

}  // namespace
