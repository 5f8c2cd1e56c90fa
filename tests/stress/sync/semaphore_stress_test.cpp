// SPDX-License-Identifier: Apache-2.0

// A semaphore used by threads and coroutines that request random weights, give up, and split and
// merge their permits, while its capacity changes: no permit is lost or created, and the queue is
// first in, first out.
//
// The seed is printed; SINGLEFLIGHT_SEED repeats it, SINGLEFLIGHT_STRESS_MS sets the time box.

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <mutex>
#include <optional>
#include <random>
#include <stop_token>
#include <thread>
#include <utility>
#include <vector>

#include "support/eventually.hpp"
#include "support/stress.hpp"
#include "support/task.hpp"
#include <singleflight/sync/semaphore.hpp>

namespace {

using namespace std::chrono_literals;
using singleflight::as_outcome;
using singleflight::permit;
using singleflight::semaphore;
using steady = std::chrono::steady_clock;

/// The permits held now, as the callers count them.
class ledger {
 public:
  explicit ledger(std::ptrdiff_t most) : most_(most) {}
  void took(std::ptrdiff_t n) {
    const std::ptrdiff_t now = held_.fetch_add(n) + n;
    if (now > most_) over_.store(now);
    granted_.fetch_add(1, std::memory_order_relaxed);
  }
  void gives(std::ptrdiff_t n) { held_.fetch_sub(n); }
  std::ptrdiff_t over() const { return over_.load(); }
  std::uint64_t granted() const { return granted_.load(); }

 private:
  const std::ptrdiff_t most_;
  std::atomic<std::ptrdiff_t> held_{0};
  std::atomic<std::ptrdiff_t> over_{0};
  std::atomic<std::uint64_t> granted_{0};
};

/// Uses a permit in parts: releases some of it early, and moves some of it to another permit.
void use(permit mine, ledger& book, std::mt19937_64& random) {
  if (mine.size() > 1 && random() % 2 == 0) {
    permit part = mine.split(
        1 + static_cast<std::ptrdiff_t>(random() % (static_cast<std::uint64_t>(mine.size()) - 1)));
    if (random() % 2 == 0) {
      mine.merge(std::move(part));
    } else {
      book.gives(part.size());
    }
  } else if (mine.size() > 1) {
    book.gives(1);
    mine.release(1);
  }
  book.gives(mine.size());
}

support::detached in_coroutine(semaphore& all, ledger& book, std::ptrdiff_t n, bool bounded,
                               std::stop_token stop, std::uint64_t from, std::atomic<int>& alive) {
  {
    std::mt19937_64 random(from);
    auto place = all.start_acquire(n);
    auto got = co_await place
                   .until(bounded ? steady::now() + std::chrono::microseconds(random() % 200)
                                  : steady::time_point::max(),
                          stop)
                   .as_outcome();
    if (got) {
      book.took(n);
      use(std::move(*got), book, random);
    }
  }
  alive.fetch_sub(1);
}

// Scenario 30.
// Goal    Permits are conserved, however they are acquired, abandoned, split and merged.
// Method  The permits that callers hold, by their own count, never exceed the capacity; at the end
//         all are available.
TEST(semaphore_stress, permits_are_conserved) {
  constexpr std::ptrdiff_t most = 7;
  constexpr int threads = 4;
  semaphore all(most);
  ledger book(most);
  std::atomic<int> alive{0};
  const std::uint64_t seed = support::new_seed();
  const auto end = steady::now() + support::time_box();
  std::vector<std::thread> crowd;
  for (int t = 0; t < threads; ++t) {
    crowd.emplace_back([&, from = seed + static_cast<std::uint64_t>(t)] {
      std::mt19937_64 random(from);
      while (steady::now() < end) {
        const auto n = 1 + static_cast<std::ptrdiff_t>(random() % most);
        std::stop_source stop;
        switch (random() % 6) {
          case 0: {
            permit mine = all.acquire(n);
            book.took(n);
            use(std::move(mine), book, random);
            break;
          }
          case 1: {
            auto got = all.acquire(
                as_outcome, n,
                {.deadline = steady::now() + std::chrono::microseconds(random() % 100)});
            if (got) {
              book.took(n);
              use(std::move(*got), book, random);
            }
            break;
          }
          case 2:
            if (permit mine = all.try_acquire(n)) {
              book.took(n);
              use(std::move(mine), book, random);
            }
            break;
          case 3:
            if (alive.fetch_add(1) < 64) {
              in_coroutine(all, book, n, random() % 2 == 0, stop.get_token(), random(), alive);
              if (random() % 2 == 0) stop.request_stop();
            } else {
              alive.fetch_sub(1);
            }
            break;
          case 4: {
            const auto dropped = all.start_acquire(n);
            break;
          }
          default: {  // a release concurrent with a cancellation
            std::thread stopper([&stop] { stop.request_stop(); });
            auto got = all.acquire(as_outcome, n, {.stop = stop.get_token()});
            if (got) {
              book.took(n);
              use(std::move(*got), book, random);
            }
            stopper.join();
          }
        }
      }
    });
  }
  for (std::thread& one : crowd) one.join();
  ASSERT_TRUE(support::eventually([&] { return alive.load() == 0; }, "the end of the coroutines"));
  EXPECT_EQ(book.over(), 0) << "more permits are held than the capacity";
  EXPECT_EQ(all.available(), most);
  EXPECT_EQ(all.waiters_approx(), 0U);
  EXPECT_GT(book.granted(), 100U);
}

// Scenario 30.
// Goal    The capacity may change at any time; at the end all permits are available.
TEST(semaphore_stress, resize_loses_nothing) {
  semaphore all(4);
  std::atomic<std::uint64_t> granted{0};
  const std::uint64_t seed = support::new_seed();
  const auto end = steady::now() + support::time_box() / 2;
  std::vector<std::thread> crowd;
  for (int t = 0; t < 3; ++t) {
    crowd.emplace_back([&, from = seed + static_cast<std::uint64_t>(t)] {
      std::mt19937_64 random(from);
      while (steady::now() < end) {
        try {
          // Rejected if the capacity falls below it.
          const auto got = all.acquire(as_outcome, 1 + static_cast<std::ptrdiff_t>(random() % 4));
          if (got) granted.fetch_add(1);
        } catch (const std::invalid_argument&) {
        }
      }
    });
  }
  std::mt19937_64 random(seed);
  while (steady::now() < end) all.resize(1 + static_cast<std::ptrdiff_t>(random() % 4));
  for (std::thread& one : crowd) one.join();
  EXPECT_EQ(all.available(), all.capacity());
  EXPECT_EQ(all.waiters_approx(), 0U);
  EXPECT_GT(granted.load(), 0U);
}

// Scenario 30.
// Goal    Threads and coroutines that request the whole capacity are served in the order in which
//         they queued; waiters that give up leave no gap.
// Method  Queueing and taking a number are one step, under a lock of the test. Each waiter requests
//         the whole capacity, so it records its number while no other waiter is served.
TEST(semaphore_stress, the_queue_is_first_in_first_out) {
  constexpr std::ptrdiff_t most = 5;
  semaphore all(most);
  std::mutex at_the_door;
  std::uint64_t number = 0;
  std::vector<std::uint64_t> order;  // guarded by the permits
  std::atomic<int> alive{0};
  const std::uint64_t seed = support::new_seed();
  const auto end = steady::now() + support::time_box();
  const auto wait = [&](bool impatient) -> support::detached {
    {
      std::optional<std::unique_lock<std::mutex>> door(at_the_door);
      const std::uint64_t mine = number++;
      auto place = all.start_acquire(most);
      door.reset();
      const auto limit = impatient ? steady::now() + 20us : steady::time_point::max();
      const auto got = co_await place.until(limit).as_outcome();
      if (got) order.push_back(mine);
    }
    alive.fetch_sub(1);
  };
  std::vector<std::thread> crowd;
  for (int t = 0; t < 3; ++t) {
    crowd.emplace_back([&, from = seed + static_cast<std::uint64_t>(t)] {
      std::mt19937_64 random(from);
      while (steady::now() < end) {
        if (random() % 2 == 0 && all.waiters_approx() < 64) {
          alive.fetch_add(1);
          wait(random() % 3 == 0);
        } else {
          std::unique_lock door(at_the_door);
          const std::uint64_t mine = number++;
          auto place = all.start_acquire(most);
          door.unlock();
          const auto limit = random() % 3 == 0 ? steady::now() + 20us : steady::time_point::max();
          const auto got = place.until(limit).as_outcome().get();
          if (got) order.push_back(mine);
        }
      }
    });
  }
  for (std::thread& one : crowd) one.join();
  ASSERT_TRUE(support::eventually([&] { return alive.load() == 0; }, "the end of the coroutines"));
  const permit last = all.acquire(most);  // the others' records happen-before this
  EXPECT_TRUE(std::is_sorted(order.begin(), order.end()));
  EXPECT_GT(order.size(), 100U);
}

}  // namespace
