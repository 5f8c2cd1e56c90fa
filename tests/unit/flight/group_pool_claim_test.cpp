// SPDX-License-Identifier: Apache-2.0

// A pool whose only thread waits for a load that is queued on that very pool.

#include <gtest/gtest.h>
#include <pthread.h>

#include <atomic>
#include <chrono>
#include <coroutine>
#include <memory>
#include <optional>
#include <stdexcept>
#include <thread>
#include <utility>
#include <vector>

#include "support/eventually.hpp"
#include "support/gate.hpp"
#include "support/task.hpp"
#include <singleflight/flight.hpp>

namespace {

using namespace std::chrono_literals;
using singleflight::as_outcome;
using singleflight::flight_errc;
using singleflight::flight_role;
using singleflight::task;
using singleflight::thread_pool;
using group = singleflight::group<int, int>;

/// Runs `body` on the pool's thread and returns once it is over; a hang fails the test instead of
/// blocking it.
template <class Body>
void on_pool(thread_pool& pool, Body body) {
  support::gate over;
  pool.execute(task([&] {
    body();
    over.open();
  }));
  over.wait();
}

// Goal    A group that names no executor uses the default pool, and recognises that pool's threads
//         as its own.
TEST(pool_claim, the_default_executor_runs_on_the_default_pool) {  // Scenario 21
  EXPECT_FALSE(singleflight::any_executor().runs_here());
  on_pool(singleflight::default_pool(),
          [] { EXPECT_TRUE(singleflight::any_executor().runs_here()); });
}

// Goal    get() on the pool's only thread, for a start whose load is queued behind it, runs the
//         load in place instead of waiting for ever.
TEST(pool_claim, get_runs_the_queued_load_in_place) {  // Scenario 21
  thread_pool pool({.max_threads = 1});
  group g({.executor = pool});
  std::thread::id loaded_on;
  on_pool(pool, [&] {
    auto f = g.start(1, [&] {
      loaded_on = std::this_thread::get_id();
      return 7;
    });
    const auto r = f.get();
    EXPECT_EQ(*r, 7);
    EXPECT_EQ(r.role(), flight_role::leader);
    EXPECT_EQ(loaded_on, std::this_thread::get_id());
  });
  EXPECT_EQ(g.stats().loads, 1u) << "the queued task must find the load taken";
  EXPECT_EQ(pool.threads(), 1u);
}

// Goal    The same for wait() and get_outcome(), and for the second handle on the same flight.
TEST(pool_claim, every_unlimited_wait_does) {
  thread_pool pool({.max_threads = 1});
  group g({.executor = pool});
  on_pool(pool, [&] {
    auto a = g.start(1, [] { return 1; });
    a.wait();
    EXPECT_TRUE(a.ready());
    auto b = g.start(2, [] { return 2; });
    EXPECT_EQ(**b.get_outcome(), 2);
    auto c = g.start(3, [] { return 3; });
    auto joined = g.start(3, [] { return 4; });
    EXPECT_EQ(*joined.get(), 3);
    EXPECT_EQ(*c.get(), 3);
  });
}

// Goal    A run() that joins such a start on that thread runs it as well.
TEST(pool_claim, run_that_joins_a_queued_start) {  // Scenario 21
  thread_pool pool({.max_threads = 1});
  group g({.executor = pool});
  on_pool(pool, [&] {
    auto f = g.start(1, [] { return 1; });
    const auto r = g.run(1, [] { return 2; });
    EXPECT_EQ(*r, 1);
    EXPECT_EQ(*f.get(), 1);
  });
  on_pool(pool, [&] {
    auto f = g.start(1, [] { return 1; });
    const auto all = g.run_many(std::vector{1, 2}, [](std::span<const int> keys) {
      return std::vector<singleflight::outcome<int>>(keys.size(), 9);
    });
    EXPECT_EQ(**all[0], 1);
    EXPECT_EQ(**all[1], 9);
  });
}

// Goal    The load of a successor that is queued while the pool's only thread already sleeps in
//         get() is run by that thread.
// Method  The load ahead is led by another thread and ends only when the pool's thread sleeps in
//         get().
TEST(pool_claim, load_that_is_queued_during_the_wait) {  // Scenario 21
  thread_pool pool({.max_threads = 1});
  group g({.executor = pool});
  support::gate running;
  support::gate finish;
  std::jthread leader([&] {
    (void)g.run(1, [&] {
      running.open();
      finish.wait();
      return 1;
    });
  });
  running.wait();
  support::gate waiting;
  support::gate over;
  pool.execute(task([&] {
    auto f = g.start_fresh(1, [] { return 2; });
    waiting.open();
    EXPECT_EQ(*f.get(), 2);
    over.open();
  }));
  waiting.wait();
  for (int i = 0; i < 1000; ++i) std::this_thread::yield();  // until it sleeps, most likely
  finish.open();
  over.wait();
}

// Goal    The same for a load that fails and is to be repeated on the pool.
TEST(pool_claim, load_that_is_queued_again) {  // Scenario 21
  thread_pool pool({.max_threads = 1});
  group g({.executor = pool, .on_error = singleflight::error_policy::hand_over(3)});
  on_pool(pool, [&] {
    auto tries = std::make_shared<int>(0);
    auto f = g.start(1, [tries] {
      if (++*tries < 3) throw 1;
      return *tries;
    });
    EXPECT_EQ(*f.get(), 3);
  });
}

// Goal    A waiter runs only its own flight's load, never another flight's from the same queue.
// Method  Another flight's load is first in the queue; it may run only after the waiter is done.
TEST(pool_claim, never_a_strangers_load) {  // Scenarios 21 and 28a
  thread_pool pool({.max_threads = 1});
  group g({.executor = pool});
  group others({.executor = pool});
  std::atomic<bool> stranger_ran{false};
  std::optional<singleflight::flight<int>> stranger;
  std::optional<singleflight::flight<int>> same_group;
  on_pool(pool, [&] {
    stranger.emplace(others.start(1, [&] {
      stranger_ran = true;
      return 1;
    }));
    same_group.emplace(g.start(2, [&] {
      stranger_ran = true;
      return 1;
    }));
    auto f = g.start(1, [] { return 3; });
    EXPECT_EQ(*f.get(), 3);
    EXPECT_FALSE(stranger_ran);
  });
  EXPECT_EQ(*stranger->get(), 1);
  EXPECT_EQ(*same_group->get(), 1);
}

// Goal    Threads outside of the pool never take a load from its queue: it runs on the pool's
//         thread.
TEST(pool_claim, other_threads_wait) {
  thread_pool pool({.max_threads = 1});
  group g({.executor = pool});
  std::thread::id pools;
  on_pool(pool, [&] { pools = std::this_thread::get_id(); });
  auto f = g.start(1, [&] { return std::this_thread::get_id() == pools ? 1 : 2; });
  EXPECT_EQ(*f.get(), 1);
}

// Goal    Nested waits: each load of a chain is claimed by the one above it, on one thread.
TEST(pool_claim, nested_waits) {
  thread_pool pool({.max_threads = 1});
  group g({.executor = pool});
  struct chain {
    static int load(group& in, int depth) {
      if (depth == 0) return 0;
      auto f = in.start(depth - 1, [&in, depth] { return load(in, depth - 1); });
      return 1 + *f.get();
    }
  };
  auto f = g.start(50, [&] { return chain::load(g, 50); });
  EXPECT_EQ(*f.get(), 50);
}

// Goal    When a claim races the pool's own thread, the load runs once.
TEST(pool_claim, claim_races_the_queue) {
  thread_pool pool({.max_threads = 2});
  group g({.executor = pool});
  for (int turn = 0; turn < 500; ++turn) {
    std::atomic<int> loads{0};
    on_pool(pool, [&] {
      auto f = g.start(1, [&] { return ++loads; });
      EXPECT_EQ(*f.get(), 1);
    });
    EXPECT_EQ(loads, 1);
  }
}

// Goal    A thread that ends inside a loader (pthread_exit) leaves `broken` to all other callers,
//         in run and in start; no caller hangs, and the key is free (P5).
TEST(thread_exit, within_run) {  // Scenario 9
  group g;
  support::gate running;
  support::gate leave;
  std::atomic<int> broken{0};
  std::thread leader([&] {
    (void)g.run(1, [&]() -> int {
      running.open();
      leave.wait();
      ::pthread_exit(nullptr);
    });
  });
  running.wait();
  std::jthread joiner(
      [&] { broken += g.run(as_outcome, 1, [] { return 1; }).errc() == flight_errc::broken; });
  auto f = g.start(1, [] { return 1; });
  [](group& in, std::atomic<int>& count) -> support::detached {
    auto mine = in.start(1, [] { return 1; });
    const auto o = co_await mine.as_outcome();
    count += o.errc() == flight_errc::broken;
  }(g, broken);
  ASSERT_TRUE(support::until_callers(g, 4));
  leave.open();
  leader.join();
  EXPECT_EQ(f.get_outcome().errc(), flight_errc::broken);
  EXPECT_TRUE(support::eventually([&] { return broken == 2; }, "two broken"));
  EXPECT_EQ(*g.run(1, [] { return 5; }), 5);
}

// Goal    A thread that leads alone and ends leaves the key free, in the throwing and the outcome
//         form.
TEST(thread_exit, within_run_alone) {
  group g;
  for (int form = 0; form < 4; ++form) {
    std::thread([&] {
      const auto ends = []() -> int { ::pthread_exit(nullptr); };
      if (form == 0) (void)g.run(1, ends);
      if (form == 1) (void)g.run(as_outcome, 1, ends);
      if (form == 2) (void)g.run_fresh(1, ends);
      if (form == 3) {
        (void)g.run_many(std::vector{1, 2},
                         [](std::span<const int>) -> std::vector<singleflight::outcome<int>> {
                           ::pthread_exit(nullptr);
                         });
      }
    }).join();
    EXPECT_TRUE(g.in_flight().empty());
    EXPECT_EQ(*g.run(1, [] { return 5; }), 5);
  }
}

// Goal    When a pool thread ends inside a started load, its waiters get `broken`, and the tasks
//         queued on that pool behind it still run, on a new thread.
TEST(thread_exit, within_start) {  // Scenario 9
  thread_pool pool({.max_threads = 1});
  group g({.executor = pool});
  std::atomic<int> broken{0};
  support::gate leave;
  auto f = g.start(1, [&]() -> int {
    leave.wait();
    ::pthread_exit(nullptr);
  });
  [](group& in, std::atomic<int>& count) -> support::detached {
    auto mine = in.start(1, [] { return 1; });
    const auto o = co_await mine.as_outcome();
    count += o.errc() == flight_errc::broken;
  }(g, broken);
  auto queued = g.start(2, [] { return 2; });
  leave.open();
  EXPECT_EQ(f.get_outcome().errc(), flight_errc::broken);
  EXPECT_TRUE(support::eventually([&] { return broken == 1; }, "the coroutine"));
  EXPECT_TRUE(queued.wait_for(support::patience));
}

// Goal    The same on inline_executor: the tasks left in the trampoline are not lost with the
//         thread.
TEST(thread_exit, within_inline_start) {
  group g({.executor = singleflight::inline_executor});
  std::atomic<int> called{0};
  std::optional<singleflight::flight_promise<int>> promise;
  auto f = g.start(1, [&](singleflight::flight_promise<int> p) { promise.emplace(std::move(p)); });
  for (int i = 0; i < 3; ++i) {
    auto mine = g.start(1, [] { return 1; });
    std::move(mine).on_ready([&called, i](const auto&) {
      ++called;
      if (i == 0) ::pthread_exit(nullptr);
    });
  }
  std::thread([&] { promise->set_value(7); }).join();
  EXPECT_EQ(*f.get(), 7);
  EXPECT_TRUE(
      support::eventually([&] { return called == 3; }, "the tasks behind the thread that ended"));
}

// Goal    The same when the answer is the error of an awaited loader, resumed on that thread: the
//         callbacks are called outside of the handler that caught it, and the loader is destroyed
//         with the load.
TEST(thread_exit, with_the_error_of_an_awaited_load) {
  struct failing {
    bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<> h) const noexcept { *to = h; }
    int await_resume() const { throw std::domain_error("load"); }
    std::coroutine_handle<>* to;
  };
  group g({.executor = singleflight::inline_executor});
  std::coroutine_handle<> place;
  const auto token = std::make_shared<int>(0);
  auto f = g.start(1, [&place, token] { return failing{&place}; });
  auto other = g.start(1, [] { return 0; });
  std::move(other).on_ready([](const auto&) { ::pthread_exit(nullptr); });
  bool reached = false;
  std::thread([&] {
    place.resume();
    reached = true;
  }).join();
  EXPECT_FALSE(reached);
  EXPECT_THROW((void)f.get(), std::domain_error);
  EXPECT_TRUE(support::eventually([&] { return token.use_count() == 1; }, "the loader's end"));
}

}  // namespace
