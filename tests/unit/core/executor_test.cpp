// SPDX-License-Identifier: Apache-2.0
//
// task, any_executor, inline_executor, copyable.

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <stdexcept>
#include <thread>
#include <utility>
#include <vector>

#include "support/executors.hpp"
#include "support/gate.hpp"
#include <singleflight/core.hpp>
#include <singleflight/flight.hpp>

namespace sf = singleflight;

namespace {

// Goal    A task runs once, is empty afterwards, and frees its callable; a dropped task frees its
//         callable without running it.
TEST(task, runs_once_or_is_dropped) {
  auto token = std::make_shared<int>(0);
  sf::task work([token] { ++*token; });
  EXPECT_TRUE(work);
  EXPECT_EQ(token.use_count(), 2);
  work();
  EXPECT_EQ(*token, 1);
  EXPECT_FALSE(work);
  EXPECT_EQ(token.use_count(), 1);
  {
    const sf::task dropped([token] { ++*token; });
  }
  EXPECT_EQ(*token, 1);
  EXPECT_EQ(token.use_count(), 1);
  EXPECT_FALSE(sf::task());
}

// Goal    Tasks can be moved and swapped; assignment drops the old callable; move-only callables
//         fit; a task has at most 16 bytes.
TEST(task, moves) {
  static_assert(sizeof(sf::task) <= 16);
  static_assert(!std::is_copy_constructible_v<sf::task>);
  auto dropped = std::make_shared<int>(0);
  int ran = 0;
  sf::task a([dropped] { ++*dropped; });
  sf::task b([&ran, one = std::make_unique<int>(1)] { ran += *one; });
  a = std::move(b);
  EXPECT_EQ(dropped.use_count(), 1);
  EXPECT_FALSE(b);
  sf::task c;
  c.swap(a);
  EXPECT_FALSE(a);
  c();
  EXPECT_EQ(ran, 1);
}

// Goal    A callable that throws is freed, and the exception reaches the thread that runs the task.
TEST(task, may_throw) {
  auto token = std::make_shared<int>(0);
  sf::task work([token] { throw std::runtime_error("x"); });
  EXPECT_THROW(work(), std::runtime_error);
  EXPECT_EQ(token.use_count(), 1);
}

// Goal    any_executor accepts plain callables, objects with execute, pools and inline_executor;
//         copies compare equal, and the executor lives as long as one of them.
TEST(any_executor, accepts_every_kind_of_executor) {
  static_assert(sf::executor<support::manual_executor>);
  static_assert(sf::executor<sf::thread_pool>);
  static_assert(sf::executor<sf::inline_executor_t>);
  static_assert(!sf::executor<int>);
  int ran = 0;
  sf::any_executor plain([&](sf::task work) {
    ++ran;
    work();
  });
  plain.execute(sf::task([&] { ++ran; }));
  EXPECT_EQ(ran, 2);
  sf::any_executor copy = plain;
  EXPECT_EQ(copy, plain);
  EXPECT_NE(copy, sf::any_executor());
  plain = sf::any_executor();
  copy.execute(sf::task([&] { ++ran; }));
  EXPECT_EQ(ran, 4);
  const sf::any_executor moved = std::move(copy);
  moved.execute(sf::task([&] { ++ran; }));
  EXPECT_EQ(ran, 6);
  EXPECT_EQ(copy, sf::any_executor()) << "a moved-from executor is the default";  // NOLINT
  sf::thread_pool pool({.max_threads = 1});
  EXPECT_EQ(sf::any_executor(pool), sf::any_executor(pool));
  EXPECT_NE(sf::any_executor(pool), sf::any_executor());
}

// Goal    The executor object is destroyed with its last copy.
TEST(any_executor, frees_its_object) {
  auto token = std::make_shared<int>(0);
  {
    const sf::any_executor one([token](sf::task) {});
    const sf::any_executor two = one;
    EXPECT_EQ(token.use_count(), 2);
  }
  EXPECT_EQ(token.use_count(), 1);
}

// Goal    execute() passes on what the executor throws, and the task has been dropped.
TEST(any_executor, refusal_drops_the_task) {
  auto token = std::make_shared<int>(0);
  const sf::any_executor full(support::refusing_executor{});
  EXPECT_THROW(full.execute(sf::task([token] { ++*token; })), std::runtime_error);
  EXPECT_EQ(token.use_count(), 1);
  EXPECT_EQ(*token, 0);
}

// Goal    copyable() adapts an executor that takes copyable callables; dropping a copy drops the
//         task.
TEST(copyable, wraps_std_function_executors) {
  std::vector<std::function<void()>> queue;
  const std::function<void(std::function<void()>)> posts = [&](std::function<void()> fn) {
    queue.push_back(std::move(fn));
  };
  const sf::any_executor wrapped(sf::copyable(posts));
  int ran = 0;
  auto token = std::make_shared<int>(0);
  wrapped.execute(sf::task([&ran, token, one = std::make_unique<int>(1)] { ran += *one; }));
  wrapped.execute(sf::task([&ran, token] { ran += 100; }));
  ASSERT_EQ(queue.size(), 2U);
  const auto again = queue[0];
  queue[0]();
  EXPECT_EQ(ran, 1);
  queue.clear();
  EXPECT_EQ(ran, 1);
  EXPECT_EQ(token.use_count(), 1);
}

// Goal    Outside any library call an inline task runs before execute returns, on this thread;
//         tasks that it queues run after it, in order, not nested in it.
TEST(inline_executor, is_a_trampoline) {
  std::vector<int> order;
  std::thread::id where;
  sf::inline_executor.execute(sf::task([&] {
    where = std::this_thread::get_id();
    order.push_back(1);
    sf::inline_executor.execute(sf::task([&] {
      order.push_back(3);
      sf::inline_executor.execute(sf::task([&] { order.push_back(5); }));
    }));
    sf::inline_executor.execute(sf::task([&] { order.push_back(4); }));
    order.push_back(2);
  }));
  EXPECT_EQ(where, std::this_thread::get_id());
  EXPECT_EQ(order, (std::vector{1, 2, 3, 4, 5}));
}

// Goal    A million tasks, each queued by the previous one, take constant stack.
TEST(inline_executor, takes_constant_stack) {
  int left = 1'000'000;
  std::function<void()> next = [&] {
    if (--left > 0) sf::inline_executor.execute(sf::task([&next] { next(); }));
  };
  sf::inline_executor.execute(sf::task([&next] { next(); }));
  EXPECT_EQ(left, 0);
}

// Goal    A task that throws does not lose the tasks queued behind it: they run on another thread,
//         and later tasks run on this one.
TEST(inline_executor, survives_a_task_that_throws) {
  support::gate behind;
  EXPECT_THROW(sf::inline_executor.execute(sf::task([&] {
    sf::inline_executor.execute(sf::task([&] { behind.open(); }));
    throw std::runtime_error("x");
  })),
               std::runtime_error);
  behind.wait();
  bool ran = false;
  sf::inline_executor.execute(sf::task([&] { ran = true; }));
  EXPECT_TRUE(ran);
}

// Goal    On a thread inside run(), inline_executor means the default pool, because the caller may
//         hold locks.
TEST(inline_executor, goes_to_the_pool_inside_run) {
  sf::group<int, int> flights;
  support::gate ran;
  std::thread::id where;
  (void)flights.run(1, [&] {
    sf::inline_executor.execute(sf::task([&] {
      where = std::this_thread::get_id();
      ran.open();
    }));
    return 1;
  });
  ran.wait();
  EXPECT_NE(where, std::this_thread::get_id());
}

}  // namespace
