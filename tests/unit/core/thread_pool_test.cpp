// SPDX-License-Identifier: Apache-2.0

#include <gtest/gtest.h>
#include <pthread.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "support/death.hpp"
#include "support/eventually.hpp"
#include "support/gate.hpp"
#include "support/thread_end.hpp"
#include <singleflight/core.hpp>

namespace sf = singleflight;

namespace {

// Goal    No thread exists before the first task; one task starts one thread, which has the pool's
//         name.
TEST(thread_pool, starts_threads_when_needed) {
  sf::thread_pool pool({.max_threads = 4, .name = "sf-test"});
  EXPECT_EQ(pool.threads(), 0U);
  support::gate done;
  char name[16] = {};
  pool.execute(sf::task([&] {
    pthread_getname_np(pthread_self(), name, sizeof name);
    done.open();
  }));
  done.wait();
  EXPECT_EQ(pool.threads(), 1U);
  EXPECT_STREQ(name, "sf-test");
}

// Goal    The pool starts a thread for each task that finds none idle, up to the bound; the other
//         tasks wait in order.
// Method  Every task holds its thread until the test opens the gate.
TEST(thread_pool, grows_to_its_bound) {
  support::gate hold;
  std::atomic<int> running{0};
  std::atomic<int> most{0};
  {
    sf::thread_pool pool({.max_threads = 3});
    for (int i = 0; i < 10; ++i) {
      pool.execute(sf::task([&] {
        const int now = ++running;
        int seen = most.load();
        while (seen < now && !most.compare_exchange_weak(seen, now)) {
        }
        hold.wait();
        --running;
      }));
    }
    hold.await_arrivals(3);
    EXPECT_EQ(pool.threads(), 3U);
    EXPECT_EQ(running, 3);
    hold.open();
  }
  EXPECT_EQ(most, 3);
  EXPECT_EQ(running, 0);
}

// Goal    With one thread, tasks run in the order of submission; the destructor runs what is
//         queued.
TEST(thread_pool, runs_in_order_to_the_end) {
  std::vector<int> order;
  {
    support::gate hold;
    sf::thread_pool pool({.max_threads = 1});
    pool.execute(sf::task([&] { hold.wait(); }));
    for (int i = 0; i < 100; ++i) pool.execute(sf::task([&order, i] { order.push_back(i); }));
    hold.open();
  }
  ASSERT_EQ(order.size(), 100U);
  for (int i = 0; i < 100; ++i) EXPECT_EQ(order[static_cast<std::size_t>(i)], i);
}

// Goal    An idle thread is reused: tasks that follow each other need one thread.
TEST(thread_pool, uses_idle_threads) {
  sf::thread_pool pool({.max_threads = 8});
  std::atomic<int> ran{0};
  for (int i = 0; i < 200; ++i) {
    pool.execute(sf::task([&] { ++ran; }));
    support::eventually([&] { return ran == i + 1; });
  }
  EXPECT_LE(pool.threads(), 8U);
}

// Goal    Tasks may queue tasks, from many threads at once; none is lost.
TEST(thread_pool, loses_no_task) {
  std::atomic<int> ran{0};
  {
    sf::thread_pool pool({.max_threads = 2});
    std::vector<std::jthread> threads;
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([&] {
        for (int i = 0; i < 2'000; ++i) {
          pool.execute(sf::task([&] {
            if (++ran % 2 == 1) pool.execute(sf::task([&] { ran += 0; }));
          }));
        }
      });
    }
  }
  EXPECT_EQ(ran, 8'000);
}

// Goal    A task that ends its thread (pthread_exit) loses no other task: queued tasks still run.
TEST(thread_pool, survives_the_end_of_a_thread) {
  if (!support::threads_can_end) GTEST_SKIP() << "this unwinder cannot end a thread in a task";
  std::atomic<bool> ran{false};
  {
    support::gate hold;
    sf::thread_pool pool({.max_threads = 1});
    pool.execute(sf::task([&] {
      hold.wait();
      pthread_exit(nullptr);
    }));
    hold.await_arrivals();
    pool.execute(sf::task([&] { ran = true; }));
    hold.open();
  }
  EXPECT_TRUE(ran) << "queued behind the task that ended the pool's last thread";
}

// Goal    A pool may be destroyed once its last task has run, even while the call that submitted it
//         is returning.
// Method  Which happens first is chance, so there are many rounds, and each pool has its own
//         memory, so that a sanitizer sees a late access. The model forces the order.
TEST(thread_pool, destroyed_once_its_last_task_has_run) {
  for (int i = 0; i < 300; ++i) {
    auto pool = std::make_unique<sf::thread_pool>(sf::thread_pool_options{.max_threads = 1});
    std::atomic<int> ran{0};
    std::jthread posting([&, to = pool.get()] {
      for (int n = 0; n < 2; ++n) to->execute(sf::task([&] { ++ran; }));
    });
    while (ran != 2) std::this_thread::yield();
    pool.reset();
  }
}

// Goal    A pool without threads is refused.
TEST(thread_pool, needs_a_thread) {
  EXPECT_THROW(sf::thread_pool({.max_threads = 0}), std::invalid_argument);
}

// Goal    The process has one default pool.
TEST(thread_pool, the_default_pool) {
  EXPECT_EQ(&sf::default_pool(), &sf::default_pool());
  support::gate ran;
  sf::any_executor().execute(sf::task([&] { ran.open(); }));
  ran.wait();
}

// Goal    A pool whose last owner is one of its own tasks aborts with a message: it would wait for
//         itself.
TEST(thread_pool_death, destroyed_within_its_own_task) {
  support::die_apart();
  EXPECT_DEATH(
      {
        auto owner = std::make_shared<sf::thread_pool>();
        support::gate never;
        sf::thread_pool& pool = *owner;
        pool.execute(sf::task([mine = std::move(owner)]() mutable { mine.reset(); }));
        never.wait();
      },
      "thread_pool: destroyed within one of its own tasks");
}

}  // namespace
