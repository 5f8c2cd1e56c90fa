// SPDX-License-Identifier: Apache-2.0

// Where and how a coroutine or a callback resumes.

#include <gtest/gtest.h>
#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "support/death.hpp"
#include "support/eventually.hpp"
#include "support/executors.hpp"
#include "support/gate.hpp"
#include "support/held_leader.hpp"
#include "support/sanitizers.hpp"
#include "support/task.hpp"
#include "support/thread_end.hpp"
#include <singleflight/core/manual_timer.hpp>
#include <singleflight/flight.hpp>
#include <singleflight/sync.hpp>

namespace {

using namespace std::chrono_literals;
using singleflight::flight_context;
using singleflight::flight_errc;
using singleflight::flight_role;
using singleflight::inline_executor;
using singleflight::thread_pool;
using support::held_leader;
using group = singleflight::group<int, int>;
using outcome = singleflight::outcome<singleflight::shared_result<int>>;

constexpr int a_million = support::instrumented ? 100'000 : 1'000'000;

/// The lowest and highest stack address that resumed coroutines have recorded.
struct stack_extent {
  std::uintptr_t low = UINTPTR_MAX;
  std::uintptr_t high = 0;
  void here() noexcept {
    const auto at = reinterpret_cast<std::uintptr_t>(__builtin_frame_address(0));
    low = std::min(low, at);
    high = std::max(high, at);
  }
};

support::detached count_resumption(group& g, stack_extent& extent, std::uint64_t& sum) {
  auto f = g.start(1, [] { return -1; });
  const auto r = co_await f;
  extent.here();
  sum += static_cast<std::uint64_t>(*r);
}

// Goal    A million coroutine waiters resume one after the other in constant stack, each once (P8).
// Method  Every resumption records its stack address; one thread resumes all. At -O0 and under
//         sanitizers a nested or symmetric resumption would overflow the stack.
TEST(flight_await, a_million_waiters_in_constant_stack) {  // Scenario 26
  support::manual_executor later;
  group g({.executor = later});
  stack_extent extent;
  std::uint64_t sum = 0;
  auto leader = g.start(1, [] { return 1; });
  for (int i = 0; i < a_million; ++i) count_resumption(g, extent, sum);
  ASSERT_EQ(support::callers_inside(g), static_cast<std::size_t>(a_million) + 1);
  EXPECT_EQ(sum, 0u);
  later.run_all();
  EXPECT_EQ(sum, static_cast<std::uint64_t>(a_million));
  EXPECT_LE(extent.high - extent.low, 4096u);
  EXPECT_EQ(*leader.get(), 1);
}

support::detached chain(group& g, int left, stack_extent& extent, int& resumed) {
  while (left-- > 0) {
    auto f = g.start(left, [] { return 1; });
    (void)co_await f;
    extent.here();
    ++resumed;
  }
}

// Goal    On inline_executor, a coroutine that starts and awaits again and again never nests (P8).
// Method  Each resumption starts the next load within the library call that resumed it.
TEST(flight_await, inline_executor_does_not_nest) {
  group g({.executor = inline_executor});
  stack_extent extent;
  int resumed = 0;
  chain(g, a_million / 10, extent, resumed);
  EXPECT_EQ(resumed, a_million / 10);
  EXPECT_LE(extent.high - extent.low, 4096u);
}

// Goal    The same for a million waiters on inline_executor: the outermost call resumes them one by
//         one.
TEST(flight_await, inline_executor_resumes_many_in_constant_stack) {
  group g({.executor = inline_executor});
  std::optional<singleflight::flight_promise<int>> promise;
  auto leader =
      g.start(1, [&](singleflight::flight_promise<int> p) { promise.emplace(std::move(p)); });
  ASSERT_TRUE(promise.has_value()) << "start on inline_executor ends with the load begun";
  stack_extent extent;
  std::uint64_t sum = 0;
  for (int i = 0; i < a_million / 10; ++i) count_resumption(g, extent, sum);
  promise->set_value(1);
  EXPECT_EQ(sum, static_cast<std::uint64_t>(a_million / 10));
  EXPECT_LE(extent.high - extent.low, 4096u);
  EXPECT_EQ(*leader.get(), 1);
}

// Goal    Each waiter resumes on the executor named at its wait, else on the group's (P8).
// Method  Three executors that the test runs by hand: nothing resumes before its own executor runs.
TEST(flight_await, resumes_on_the_executor_named_at_the_wait) {
  support::manual_executor groups;
  support::manual_executor first;
  support::manual_executor second;
  group g({.executor = groups});
  std::vector<std::string> order;
  const auto waiting = [&](std::string name, auto wait) -> support::detached {
    auto f = g.start(1, [] { return 1; });
    (void)co_await wait(f);
    order.push_back(std::move(name));
  };
  waiting("group", [](auto& f) { return f.as_outcome(); });
  waiting("first", [&](auto& f) { return f.on(first).as_outcome(); });
  waiting("first too", [&](auto& f) { return f.as_outcome().on(first); });
  waiting("second", [&](auto& f) {
    return f.until(std::chrono::steady_clock::now() + 1h).on(second).as_outcome();
  });
  auto called = g.start(1, [] { return 1; });
  std::move(called).on_ready(second, [&](const outcome&) { order.emplace_back("called second"); });
  auto called_too = g.start(1, [] { return 1; });
  std::move(called_too).on_ready([&](const outcome&) { order.emplace_back("called group"); });
  EXPECT_TRUE(groups.run_one()) << "no load was queued";
  EXPECT_TRUE(order.empty()) << "resumed inside the load's task";
  second.run_all();
  EXPECT_EQ(order.size(), 2u);
  first.run_all();
  EXPECT_EQ(order.size(), 4u);
  groups.run_all();
  ASSERT_EQ(order.size(), 6u);
  EXPECT_EQ((std::set(order.begin(), order.begin() + 2)),
            (std::set<std::string>{"second", "called second"}));
  EXPECT_EQ((std::set(order.begin() + 2, order.begin() + 4)),
            (std::set<std::string>{"first", "first too"}));
}

// Goal    A wait with a named executor resumes there even when the outcome is ready already.
TEST(flight_await, named_executor_holds_for_a_ready_flight_too) {
  support::manual_executor later;
  group g;
  std::optional<int> got;
  auto ready = g.start(1, [] { return 1; });
  ready.wait();
  [](singleflight::flight<int> f, support::manual_executor ex,
     std::optional<int>& to) -> support::detached { to = *co_await f.on(ex); }(std::move(ready),
                                                                               later, got);
  EXPECT_FALSE(got.has_value());
  later.run_all();
  EXPECT_EQ(got, 1);
}

// Goal    A thread that leads by run() under a mutex of its own never resumes another caller,
//         whatever the executor: coroutines, callbacks and awaitable loads resume on other threads
//         (P8).
// Method  The group's executor is inline_executor, the worst case; the leader holds a mutex that
//         every resumption takes, so a resumption on its thread would deadlock.
TEST(flight_await, never_resumes_on_a_thread_inside_run) {  // Scenario 28a
  group g({.executor = inline_executor});
  std::mutex leaders_own;
  std::atomic<int> resumed{0};
  std::thread::id leader_id;
  std::atomic<bool> on_leader{false};
  const auto stranger = [&] {
    {
      const std::lock_guard hold(leaders_own);
      if (std::this_thread::get_id() == leader_id) on_leader = true;
    }
    ++resumed;  // the mutex may be destroyed from here on
  };
  support::gate running;
  support::gate finish;
  std::jthread leader([&] {
    const std::lock_guard hold(leaders_own);
    leader_id = std::this_thread::get_id();
    EXPECT_EQ(*g.run(1,
                     [&] {
                       running.open();
                       finish.wait();
                       return 1;
                     }),
              1);
  });
  running.wait();
  [](group& in, auto then) -> support::detached {
    auto f = in.start(1, [] { return -1; });
    (void)co_await f;
    then();
  }(g, stranger);
  [](group& in, auto then) -> support::detached {
    auto f = in.start(1, [] { return -1; });
    (void)co_await f.on(inline_executor);
    then();
  }(g, stranger);
  auto f = g.start(1, [] { return -1; });
  std::move(f).on_ready([&](const outcome&) { stranger(); });
  auto fresh = g.start_fresh(1, [&] {
    stranger();
    return 2;
  });
  ASSERT_TRUE(support::until_callers(g, 4));
  finish.open();
  leader.join();
  EXPECT_EQ(*fresh.get(), 2);
  EXPECT_TRUE(support::eventually([&] { return resumed == 4; }, "the other callers"));
  EXPECT_FALSE(on_leader);
}

// Goal    A run() that lets another load begin (a flight that is too old is replaced by the fresh
//         one behind it) does not run that load on its own thread.
TEST(flight_await, run_does_not_load_for_others) {  // Scenario 28a
  singleflight::manual_timer time;
  group g({.executor = inline_executor, .timer = &time, .join_window = 1s});
  const std::optional<held_leader> leader(std::in_place, g);
  std::optional<std::thread::id> loaded_on;
  auto fresh = g.start_fresh(1, [&] {
    loaded_on = std::this_thread::get_id();
    return 2;
  });
  time.advance(2s);
  EXPECT_EQ(*g.run(1, [] { return 2; }), 2);
  EXPECT_EQ(*fresh.get(), 2);
  EXPECT_NE(loaded_on, std::this_thread::get_id());
}

// Goal    A start inside a load led by run, on inline_executor, uses the default pool, so the load
//         can wait for it.
TEST(flight_await, inline_executor_within_run) {
  group g({.executor = inline_executor});
  const auto me = std::this_thread::get_id();
  EXPECT_EQ(*g.run(1,
                   [&] {
                     auto f = g.start(2, [&] { return std::this_thread::get_id() == me ? 1 : 2; });
                     (void)f.wait_for(support::patience);
                     return *f.get();
                   }),
            2);
}

// Goal    No lock is held when user code runs: a loader, a callback, a coroutine, and the
//         destructors of a value, a loader and a callback all call the group again, on the same
//         key.
// Method  A held lock would deadlock or be reported; the test only has to end.
struct calls_group_at_end {
  group* g = nullptr;
  static inline std::atomic<int> alive{0};
  explicit calls_group_at_end(group& in) : g(&in) { ++alive; }
  calls_group_at_end(calls_group_at_end&& other) noexcept : g(std::exchange(other.g, nullptr)) {
    ++alive;
  }
  calls_group_at_end& operator=(calls_group_at_end&&) = delete;
  ~calls_group_at_end() {
    if (g != nullptr) call(*g);
    --alive;
  }
  static void call(group& in) {
    (void)in.in_flight();
    (void)in.stats();
    (void)in.forget(1);
    auto f = in.start(1, [] { return 5; });
    (void)in.forget_all();
  }
};

TEST(flight_await, user_code_may_call_the_group_again) {
  group inner;
  std::atomic<int> done{0};  // callbacks and coroutines that no longer use the group
  {
    singleflight::group<int, calls_group_at_end> g(
        {.on_error = singleflight::error_policy::hand_over(1)});
    for (int key = 0; key < 50; ++key) {
      support::gate running;
      support::gate finish;
      std::jthread leader([&] {
        (void)g.run(key, [&] {
          running.open();
          finish.wait();
          (void)g.forget(key);
          (void)g.in_flight();
          return calls_group_at_end(inner);
        });
      });
      running.wait();
      auto f =
          g.start(key, [held = calls_group_at_end(inner)] { return calls_group_at_end(*held.g); });
      std::move(f).on_ready([&g, key, held = calls_group_at_end(inner), &done](const auto&) {
        {
          (void)g.forget(key);
          auto again = g.start(key, [in = held.g] { return calls_group_at_end(*in); });
          (void)g.in_flight();
        }
        ++done;
      });
      [](auto& in, int mine, group& other, std::atomic<int>& ended) -> support::detached {
        auto waiting = in.start(mine, [&other] { return calls_group_at_end(other); });
        const auto r = co_await waiting.as_outcome();
        (void)in.forget_all();
        ++ended;
      }(g, key, inner, done);
      finish.open();
    }
    // The callbacks and coroutines must finish using the group before it may be destroyed.
    EXPECT_TRUE(support::eventually([&] { return done == 100; }, "callbacks and coroutines"));
    EXPECT_GE(g.stats().calls, 200U);
  }
  // A value is destroyed with its last holder, which may be a thread of the pool.
  EXPECT_TRUE(support::eventually([] { return calls_group_at_end::alive == 0; }, "the last value"));
}

// Goal    A load for which the executor throws, or that it drops, ends as `broken`; a resumption
//         for which it throws, or that it drops, goes to the default pool (P4, P5).
TEST(flight_await, executor_that_refuses_or_drops) {  // Scenario 9
  for (const bool refuses : {false, true}) {
    const singleflight::any_executor bad =
        refuses ? singleflight::any_executor(support::refusing_executor{})
                : singleflight::any_executor(support::dropping_executor{});
    group g({.executor = bad});
    auto f = g.start(1, [] { return 1; });
    EXPECT_EQ(f.get_outcome().errc(), flight_errc::broken);
    EXPECT_TRUE(g.in_flight().empty());
    const held_leader leader(g, 7);
    std::atomic<int> sum{0};
    [](group& in, std::atomic<int>& to) -> support::detached {
      auto mine = in.start(1, [] { return -1; });
      to += *co_await mine;
    }(g, sum);
    [](group& in, std::atomic<int>& to, auto ex) -> support::detached {
      auto mine = in.start(1, [] { return -1; });
      to += *co_await mine.on(ex);
    }(g, sum, bad);
    auto called = g.start(1, [] { return -1; });
    std::move(called).on_ready([&](const outcome& o) { sum += **o; });
    auto called_too = g.start(1, [] { return -1; });
    std::move(called_too).on_ready(bad, [&](const outcome& o) { sum += **o; });
    auto many = g.start_many(std::vector{2, 3}, [](std::span<const int> keys) {
      return std::vector<singleflight::outcome<int>>(keys.size(), 1);
    });
    EXPECT_EQ(many[0].get_outcome().errc(), flight_errc::broken);
    EXPECT_EQ(many[1].get_outcome().errc(), flight_errc::broken);
    ASSERT_TRUE(support::until_callers(g, 5));
    const_cast<held_leader&>(leader).finish.open();
    EXPECT_TRUE(support::eventually([&] { return sum == 28; }, "four resumptions"));
  }
}

// Goal    Blocked threads are woken before coroutines resume (P8).
// Method  Whenever a resumption is submitted to it, the group's executor checks whether the word
//         that blocked threads wait on has been published: then a handle on the same flight is
//         ready.
TEST(flight_await, blocked_threads_first) {
  std::optional<singleflight::flight<int>> looking;
  std::atomic<int> handed{0};
  std::atomic<int> ready{0};
  const auto watching = [&](singleflight::task t) {
    ++handed;
    if (looking && looking->ready()) ++ready;
    singleflight::default_pool().execute(std::move(t));
  };
  group g;
  const held_leader leader(g);
  looking.emplace(g.start(1, [] { return -1; }));
  std::atomic<bool> resumed{false};
  [](group& in, auto ex, std::atomic<bool>& done) -> support::detached {
    auto f = in.start(1, [] { return -1; });
    (void)co_await f.on(singleflight::any_executor(ex));
    done = true;
  }(g, watching, resumed);
  const_cast<held_leader&>(leader).finish.open();
  EXPECT_TRUE(support::eventually([&] { return resumed.load(); }));
  EXPECT_EQ(handed, 1);
  EXPECT_EQ(ready, 1);
}

// Goal    A waiter that blocks in its resumption does not hold up another whose limit expires
//         later, where the executor has another thread.
TEST(flight_await, blocked_resumption_does_not_hold_up_others) {
  singleflight::manual_timer time;
  thread_pool pool({.max_threads = 4});
  group g({.executor = pool, .timer = &time});
  const held_leader leader(g);
  support::gate unblock;
  std::atomic<int> resumed{0};
  const auto waiting = [&](auto after, bool blocks) -> support::detached {
    auto f = g.start(1, [] { return -1; });
    (void)co_await f.until(time.now() + after).as_outcome();
    ++resumed;
    if (blocks) unblock.wait();
  };
  waiting(1s, true);
  waiting(2s, false);
  time.advance(1s);
  unblock.await_arrivals(1);
  time.advance(1s);
  EXPECT_TRUE(support::eventually([&] { return resumed == 2; }, "the second waiter"));
  unblock.open();
}

// Goal    Waiters are resumed in their order, even where the second runner runs at once, on the
//         thread of the first; and a waiter that ends that thread there leaves the others to be
//         resumed.
// Method  The flight ends inside run(), so inline_executor means the default pool: a thread without
//         a library call around it, where a submitted task runs at once.
void wait_on_the_diverted_inline_executor(bool second_ends_its_thread) {
  group g({.executor = inline_executor});
  std::mutex guard;
  std::vector<int> called;
  {
    const held_leader leader(g);
    for (int i = 1; i <= 4; ++i) {
      g.start(1, [] { return -1; }).on_ready([&, i](const auto&) {
        {
          const std::scoped_lock hold(guard);
          called.push_back(i);
        }
        if (i == 2 && second_ends_its_thread) ::pthread_exit(nullptr);
      });
    }
  }
  EXPECT_TRUE(support::eventually(
      [&] {
        const std::scoped_lock hold(guard);
        return called.size() == 4;
      },
      "all four callbacks"));
  const std::scoped_lock hold(guard);
  if (second_ends_its_thread)
    std::sort(called.begin(), called.end());  // the others continue on two threads
  EXPECT_EQ(called, (std::vector<int>{1, 2, 3, 4}));
}
TEST(flight_await, second_runner_that_runs_at_once_keeps_the_order) {
  wait_on_the_diverted_inline_executor(false);
}
TEST(flight_await, callback_that_ends_its_thread_leaves_the_others) {
  if (!support::threads_can_end) GTEST_SKIP() << "this unwinder cannot end a thread in the middle";
  if (support::instrumented) GTEST_SKIP() << "an ended thread of the default pool seems to leak";
  wait_on_the_diverted_inline_executor(true);
}

// Goal    A waiter that blocks in its resumption on inline_executor does not hold up those behind
//         it: they are resumed on another thread, and may be what it waits for.
// Method  Two wait for one flight; the first, once resumed, blocks for something that the second
//         one then does: it answers a load, releases a permit, ends a task of a group.
TEST(flight_await, one_that_blocks_hands_the_others_over) {
  enum class blocks { for_a_flight, for_a_permit, for_a_group, in_close };
  for (const auto how :
       {blocks::for_a_flight, blocks::for_a_permit, blocks::for_a_group, blocks::in_close}) {
    group g({.executor = inline_executor});
    group other;
    singleflight::semaphore permits(1);
    support::gate begun;
    support::gate freed;
    support::gate works;
    singleflight::error_group tasks;  // which waits for its task, and that for a gate
    std::optional<singleflight::flight_promise<int>> first;
    std::optional<singleflight::flight_promise<int>> second;
    auto leads = g.start(1, [&](singleflight::flight_promise<int> p) { first = std::move(p); });
    auto held = other.start(2, [&](singleflight::flight_promise<int> p) {
      second = std::move(p);
      begun.open();
    });
    begun.wait();
    std::optional<singleflight::permit> permit(permits.acquire());
    tasks.go([&] {
      works.open();
      freed.wait();
    });
    works.wait();  // otherwise the thread that waits for the task would run it
    bool done = false;
    g.start(1, [] { return -1; }).on_ready([&](const auto&) {
      switch (how) {
        case blocks::for_a_flight: EXPECT_EQ(*other.start(2, [] { return -1; }).get(), 7); break;
        case blocks::for_a_permit: (void)permits.acquire(); break;
        case blocks::for_a_group: tasks.wait(); break;
        case blocks::in_close: other.close(); break;
      }
      done = true;
    });
    g.start(1, [] { return -1; }).on_ready([&](const auto&) {
      permit.reset();
      freed.open();
      second->set_value(7);
    });
    first->set_value(1);
    EXPECT_TRUE(done);
    EXPECT_EQ(*held.get(), 7);
    EXPECT_EQ(*leads.get(), 1);
  }
}

// Goal    A handle is one-shot: a second use fails an assertion, in every build type.
TEST(flight_death_test, used_twice_or_after_a_move) {
  support::die_apart();
  EXPECT_DEATH(
      {
        group g;
        auto f = g.start(1, [] { return 1; });
        (void)f.get();
        (void)f.get();
      },
      "used twice, or after a move");
  EXPECT_DEATH(
      {
        group g;
        auto f = g.start(1, [] { return 1; });
        const auto moved = std::move(f);
        (void)f.ready();
      },
      "used twice, or after a move");
  EXPECT_DEATH(
      {
        group g({.executor = inline_executor});
        auto f = g.start(1, [] { return 1; });
        std::move(f).on_ready([](const outcome&) {});
        std::move(f).on_ready([](const outcome&) {});
      },
      "used twice, or after a move");
  EXPECT_DEATH(
      {
        group g;
        g.close();
        auto f = g.start(1, [] { return 1; });
        (void)f.get_outcome();
        (void)f.get_outcome();
      },
      "used twice, or after a move");
}

// Goal    wait_for neither consumes the handle nor leaves the flight: the handle stays usable.
TEST(flight_await, wait_for_keeps_the_handle) {
  singleflight::manual_timer time;
  group g({.timer = &time});
  std::optional<held_leader> leader(std::in_place, g);
  auto f = g.start(1, [] { return -1; });
  EXPECT_FALSE(f.wait_for(0ns));
  std::atomic<bool> over{false};
  std::jthread clock([&] {
    while (!over) {
      time.advance(1ms);
      std::this_thread::yield();
    }
  });
  EXPECT_FALSE(f.wait_for(10ms));
  over = true;
  EXPECT_EQ(support::callers_inside(g), 2u);
  EXPECT_FALSE(f.ready());
  leader.reset();
  f.wait();
  EXPECT_TRUE(f.wait_for(0ns));
  EXPECT_EQ(*f.get(), 1);
  EXPECT_EQ(g.stats().timed_out, 0u);
}

// Goal    The longest of all durations means "for ever".
TEST(flight_await, wait_for_the_longest_time) {
  group g;
  auto f = g.start(1, [] { return 1; });
  EXPECT_TRUE(f.wait_for(std::chrono::hours::max()));
  EXPECT_TRUE(f.wait_for(std::chrono::nanoseconds::max()));
  EXPECT_EQ(*f.get(), 1);
}

}  // namespace
