// SPDX-License-Identifier: Apache-2.0

// The state of flights in a child of fork().

#include "support/fork.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <coroutine>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <stdexcept>
#include <thread>
#include <utility>
#include <vector>

#include "support/eventually.hpp"
#include "support/executors.hpp"
#include "support/gate.hpp"
#include "support/task.hpp"
#include <singleflight/core/manual_timer.hpp>
#include <singleflight/flight.hpp>

namespace sf = singleflight;
using namespace std::chrono_literals;

namespace {

// Goal    A started load runs in a child, and a load that hangs there times out (scenario 56).
TEST(fork_flight, a_child_starts_loads) {
  if (support::instrumented) GTEST_SKIP() << support::not_with_sanitizers_in_a_child;
  sf::group<int, int> g({.load_timeout = 20ms});
  ASSERT_EQ(*g.start(1, [] { return 1; }).get(), 1);
  EXPECT_TRUE(support::in_child([&] {
    if (*g.start(1, [] { return 2; }).get() != 2) return false;
    const auto hangs = g.start(2, [](std::stop_token stop) {
                          (void)support::comes([&] { return stop.stop_requested(); });
                          return 0;
                        }).get_outcome();
    return hangs.errc() == sf::flight_errc::timed_out;
  }));
}

// Goal    A flight that another thread led has no leader in a child: its key is free there, and its
//         group can be destroyed. In the parent it continues.
TEST(fork_flight, a_key_that_another_thread_loads_is_free_in_a_child) {
  if (support::instrumented) GTEST_SKIP() << support::not_with_sanitizers_in_a_child;
  auto g = std::make_unique<sf::group<int, int>>();
  support::gate hold;
  const auto load = [&] {
    hold.wait();
    return 1;
  };
  std::jthread leader([&] { EXPECT_EQ(*g->run(1, load), 1); });
  hold.await_arrivals();
  std::jthread joiner([&] { EXPECT_EQ(*g->run(1, load), 1); });
  ASSERT_TRUE(support::until_callers(*g, 2));
  EXPECT_TRUE(support::in_child([&] {
    const bool free = g->in_flight().empty() && *g->run(1, [] { return 2; }) == 2 &&
                      *g->start(1, [] { return 3; }).get() == 3;
    g.reset();
    return free;
  }));
  hold.open();
}

// Goal    The forking thread's handle on a load of the parent answers `broken` in the child,
//         whether that load was running or queued; the load runs in the parent only.
TEST(fork_flight, a_load_of_the_parent_is_broken_in_a_child) {
  if (support::instrumented) GTEST_SKIP() << support::not_with_sanitizers_in_a_child;
  support::gate hold;
  std::atomic<int> runs{0};
  sf::thread_pool pool({.max_threads = 1});
  sf::group<int, int> g({.executor = pool});
  auto running = g.start(1, [&] {
    hold.wait();
    return ++runs;
  });
  hold.await_arrivals();
  auto queued = g.start(2, [&] { return ++runs; });
  auto behind = g.start_fresh(1, [&] { return ++runs; });
  EXPECT_TRUE(support::in_child([&] {
    const auto broken = sf::flight_errc::broken;
    const bool right = running.get_outcome().errc() == broken &&
                       queued.get_outcome().errc() == broken &&
                       behind.get_outcome().errc() == broken;
    return right && *g.start(2, [] { return 7; }).get() == 7 && runs == 0;
  }));
  hold.open();
  EXPECT_EQ(*running.get(), 1);
  EXPECT_EQ(*queued.get() + *behind.get(), 5);
}

// Goal    A load that forks continues in both processes; the threads of its other callers are woken
//         in the parent only.
TEST(fork_flight, a_load_may_fork) {
  if (support::instrumented) GTEST_SKIP() << support::not_with_sanitizers_in_a_child;
  sf::group<int, int> g;
  support::gate inside;
  support::gate joined;
  std::atomic<bool> right{false};
  std::jthread leader([&] {
    bool child = false;
    pid_t pid = -1;
    const auto r = g.run(1, [&] {
      inside.open();
      joined.wait();
      pid = ::fork();
      child = pid == 0;
      return child ? 2 : 1;
    });
    if (child) {
      ::alarm(30);
      const bool mine =
          *r == 2 && *g.run(1, [] { return 3; }) == 3 && *g.start(4, [] { return 4; }).get() == 4;
      ::_exit(mine ? 0 : 1);
    }
    int status = 1;
    ::waitpid(pid, &status, 0);
    right = *r == 1 && WIFEXITED(status) && WEXITSTATUS(status) == 0;
  });
  inside.wait();
  std::jthread joiner([&] { EXPECT_EQ(*g.run(1, [] { return 9; }), 1); });
  ASSERT_TRUE(support::until_callers(g, 2));
  joined.open();
  leader.join();
  EXPECT_TRUE(right);
}

// Goal    A load of many keys that forks continues in both processes, for all its keys.
TEST(fork_flight, a_load_of_many_may_fork) {
  if (support::instrumented) GTEST_SKIP() << support::not_with_sanitizers_in_a_child;
  sf::group<int, int> g({.executor = sf::inline_executor});
  const std::vector<int> keys{1, 2};
  for (const bool blocked : {true, false}) {
    pid_t pid = -1;
    const auto forks = [&](std::span<const int> some) {
      pid = ::fork();
      if (pid == 0) ::alarm(30);
      std::vector<sf::outcome<int>> all;
      for (const int key : some) all.emplace_back(key + (pid == 0 ? 10 : 0));
      return all;
    };
    std::vector<int> got;
    if (blocked) {
      for (const auto& r : g.run_many(keys, forks)) got.push_back(*r.value());
    } else {
      for (auto& f : g.start_many(keys, forks)) got.push_back(*f.get());
    }
    if (pid == 0) {
      const bool right = got == std::vector<int>{11, 12} && *g.run(1, [] { return 3; }) == 3 &&
                         g.in_flight().empty();
      ::_exit(right ? 0 : 1);
    }
    int status = 1;
    ASSERT_EQ(::waitpid(pid, &status, 0), pid);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << blocked;
    EXPECT_EQ(got, keys);
  }
}

// Goal    When a stop callback forks as its group is closed, the child does not run the stop
//         callbacks of other threads.
TEST(fork_flight, a_stop_callback_may_fork) {
  if (support::instrumented) GTEST_SKIP() << support::not_with_sanitizers_in_a_child;
  struct in_one_bucket {
    std::size_t operator()(int) const { return 0; }
  };
  sf::group<int, int, in_one_bucket> g;
  support::gate hold;
  std::atomic<int> strangers{0};
  pid_t pid = -1;
  std::vector<std::jthread> leaders;
  for (int key = 0; key < 8; ++key) {
    leaders.emplace_back([&, key] {
      (void)g.run(sf::as_outcome, key, [&](std::stop_token stop) {
        const std::stop_callback on_stop(stop, [&] {
          if (pid == 0) ++strangers;
          if (pid == -1) pid = ::fork();
        });
        hold.wait();
        return 0;
      });
    });
  }
  hold.await_arrivals(8);
  (void)g.close_for(0ms);
  if (pid == 0) ::_exit(strangers == 0 ? 0 : 1);
  int status = 1;
  ASSERT_EQ(::waitpid(pid, &status, 0), pid);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  hold.open();
}

// Goal    A promise that answers a load of the parent in a child is too late, and does no harm,
//         even after its group is destroyed.
TEST(fork_flight, a_late_promise_does_no_harm_in_a_child) {
  if (support::instrumented) GTEST_SKIP() << support::not_with_sanitizers_in_a_child;
  auto g = std::make_unique<sf::group<int, int>>();
  std::optional<sf::flight_promise<int>> kept;
  std::atomic<bool> there{false};
  auto f = g->start(1, [&](sf::flight_promise<int> p) {
    kept.emplace(std::move(p));
    there = true;
  });
  ASSERT_TRUE(support::eventually([&] { return there.load(); }));
  EXPECT_TRUE(support::in_child([&] {
    if (f.get_outcome().errc() != sf::flight_errc::broken) return false;
    g.reset();
    kept->set_value(5);
    return true;
  }));
  kept->set_value(6);
  EXPECT_EQ(*f.get(), 6);
}

// Goal    A child never inherits a lock whose holder does not exist there, nor a node on a stack
//         that does not: not of a bucket, of a block or of a table that grows.
// Method  Threads lead, join and start all the time, with many forks among them. In the child every
//         key is used, by calls that must return.
TEST(fork_flight, forks_amid_calls) {
  if (support::instrumented) GTEST_SKIP() << support::not_with_sanitizers_in_a_child;
  constexpr int keys = 4;
  sf::group<int, int> g;
  std::atomic<bool> over{false};
  std::vector<std::jthread> workers;
  for (int i = 0; i < 3; ++i) {
    workers.emplace_back([&, i] {
      for (int n = i; !over; ++n) {
        (void)g.run(n % keys, [] { return 1; });
        auto f = g.start(n % keys, [] { return 2; });
        if (n % 3 == 0) (void)f.get();
        if (n % 7 == 0) g.forget(n % keys);
        if (n % 11 == 0) (void)g.run_fresh(n % keys, [] { return 1; });
      }
    });
  }
  for (int i = 0; i < 20; ++i) {
    ASSERT_TRUE(support::in_child([&] {
      for (int k = 0; k < keys; ++k) {
        if (*g.run(k, [] { return 5; }) != 5) return false;
        if (*g.start(k, [] { return 6; }).get() != 6) return false;
      }
      return g.close_for(10s);
    }));
  }
  over = true;
}

// ---- coroutines that wait, and the tasks that are to resume them --------------------------------

/// Two callers of a load that is queued and never runs; an event loop of the test resumes them.
struct two_waiters {
  support::owned wait(sf::flight<int> f, int which) {
    auto mine = std::move(f);
    (void)co_await mine.until(time.now() + 1s).on(on).as_outcome();
    resumed.push_back(which);
    if (which == 1 && meanwhile) meanwhile();
  }
  two_waiters() {
    for (int i = 0; i < 2; ++i) frames.push_back(wait(g.start(1, [] { return 1; }), i + 1));
  }
  ~two_waiters() {
    loads.run_all();
    loop.run_all();
  }
  sf::manual_timer time;
  support::manual_executor loads;
  support::manual_executor loop;
  const sf::any_executor on{loop};
  std::vector<int> resumed;
  std::function<void()> meanwhile;
  sf::group<int, int> g{{.executor = loads, .timer = &time}};
  sf::flight<int> stays = g.start(1, [] { return 1; });
  std::vector<support::owned> frames;
};

// Goal    Coroutines may be destroyed in a child while an event loop that exists in both processes
//         still has the task that was to resume them.
TEST(fork_flight, a_loop_keeps_a_task_whose_coroutines_are_destroyed) {
  for (const bool drops : {false, true}) {
    if (drops && support::instrumented) continue;  // a dropped task goes to a pool, in the child
    two_waiters at;
    at.time.advance(2s);
    ASSERT_GE(at.loop.size(), 1U);
    EXPECT_TRUE(support::in_child([&] {
      at.frames.clear();
      while (drops ? at.loop.drop_one() : at.loop.run_one()) {
      }
      return at.resumed.empty();
    }));
    at.loop.run_all();
    EXPECT_EQ(at.resumed, (std::vector<int>{1, 2}));
  }
}

// Goal    A coroutine that forks continues in the child, where it may destroy the one behind it, or
//         let it be resumed.
TEST(fork_flight, a_coroutine_may_fork) {
  for (const bool destroys : {true, false}) {
    two_waiters at;
    pid_t pid = -1;
    at.meanwhile = [&] {
      pid = ::fork();
      if (pid != 0) return;
      ::alarm(30);
      if (destroys) at.frames.pop_back();
    };
    at.time.advance(2s);
    at.loop.run_all();
    if (pid == 0) ::_exit(at.resumed.size() == (destroys ? 1 : 2) ? 0 : 1);
    int status = 1;
    ::waitpid(pid, &status, 0);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
    EXPECT_EQ(at.resumed, (std::vector<int>{1, 2}));
  }
}

// Goal    A waiter for a load of the parent is not resumed in the child, not even by a task that
//         continues there; a callback that is registered in the child is called.
TEST(fork_flight, a_task_that_continues_resumes_no_waiter_of_the_parent) {
  two_waiters at;
  int others = 0;
  const auto wait = [&](sf::flight<int> f) -> support::owned {
    auto mine = std::move(f);
    (void)co_await mine.on(at.on).as_outcome();
    ++others;
  };
  at.frames.push_back(wait(at.g.start(1, [] { return 1; })));
  pid_t pid = -1;
  bool called = false;
  at.meanwhile = [&] {
    pid = ::fork();
    if (pid != 0) return;
    ::alarm(30);
    at.stays.on(at.on).on_ready(
        [&](const auto& got) { called = got.errc() == sf::flight_errc::broken; });
  };
  at.time.advance(2s);
  at.loop.run_all();
  if (pid == 0) ::_exit(called && others == 0 ? 0 : 1);
  int status = 1;
  ::waitpid(pid, &status, 0);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
  at.loads.run_all();
  at.loop.run_all();
  EXPECT_EQ(others, 1);
}

// Goal    A resumption that an executor refuses in a child goes to the default pool there, even
//         while the executor may still have a task that was to resume another waiter.
// Method  A load forks while the task of a caller that has timed out is queued, and ends for
//         another caller.
TEST(fork_flight, what_is_refused_in_a_child_is_resumed_there) {
  if (support::instrumented) GTEST_SKIP() << support::not_with_sanitizers_in_a_child;
  sf::manual_timer time;
  support::manual_executor loads;
  support::manual_executor loop;
  bool refuses = false;
  const sf::any_executor on([&](sf::task t) {
    if (refuses) throw std::runtime_error("no loop in this process");
    loop.execute(std::move(t));
  });
  pid_t pid = -1;
  std::atomic<bool> timed_out{false};
  std::atomic<bool> called{false};
  sf::group<int, int> g({.executor = loads, .timer = &time});
  auto first = g.start(1, [&] {
    pid = support::fork_here();
    refuses = pid == 0;
    return 7;
  });
  auto second = g.start(1, [] { return 0; });
  first.until(time.now() + 1s).on(on).on_ready([&](const auto&) { timed_out = true; });
  second.on(on).on_ready([&](const auto&) { called = true; });
  time.advance(2s);
  ASSERT_EQ(loop.size(), 1U);
  ASSERT_TRUE(loads.run_one());
  EXPECT_TRUE(support::join_child(pid, pid != 0 || support::comes([&] { return called.load(); })));
  loop.run_all();
  EXPECT_TRUE(timed_out && called);
}

// ---- a flight that is over at the fork ----------------------------------------------------------

// Goal    Callers that a pool was to resume after a flight's end are resumed in the parent only. A
//         callback that is registered in the child, on any thread of it, is called.
// Method  The two threads that call the callbacks are held in them, while a third callback waits.
TEST(fork_flight, a_callback_queued_at_the_end_is_called_in_the_parent_only) {
  if (support::instrumented) GTEST_SKIP() << support::not_with_sanitizers_in_a_child;
  for (const bool elsewhere : {false, true}) {
    support::gate hold;
    std::atomic<int> called{0};
    std::atomic<bool> newcomer{false};
    sf::thread_pool pool({.max_threads = 2});
    support::manual_executor loads;
    sf::group<int, int> g({.executor = loads});
    const auto start = [&] { return g.start(1, [] { return 1; }); };
    for (int i = 0; i < 3; ++i) {
      auto f = start();
      f.on(pool).on_ready([&](const auto&) {
        ++called;
        hold.wait();
      });
    }
    auto mine = start();
    loads.run_all();
    hold.await_arrivals(2);
    EXPECT_TRUE(support::in_child([&] {
      const auto asks = [&] { mine.on(pool).on_ready([&](const auto&) { newcomer = true; }); };
      elsewhere ? std::jthread(asks).join() : asks();
      return support::comes([&] { return newcomer.load(); }) && called == 2;
    }));
    hold.open();
    EXPECT_TRUE(support::eventually([&] { return called == 3; }));
  }
}

// Goal    When a callback forks as it is called at a flight's end, it continues in both processes,
//         and so do the callbacks behind it and those that are registered in the child.
TEST(fork_flight, a_callback_may_fork_after_an_end) {
  support::manual_executor loads;
  sf::group<int, int> g({.executor = loads});
  std::vector<int> called;
  pid_t pid = -1;
  auto last = g.start(1, [] { return 1; });
  for (int i = 0; i < 3; ++i) {
    auto f = g.start(1, [] { return 1; });
    f.on(sf::inline_executor).on_ready([&, i](const auto&) {
      if (called.empty()) {
        pid = support::fork_here();
        if (pid == 0) {
          last.on(sf::inline_executor).on_ready([&](const auto&) { called.push_back(3); });
        }
      }
      called.push_back(i);
    });
  }
  loads.run_all();
  EXPECT_TRUE(support::join_child(
      pid, called.size() == 4 && std::set(called.begin(), called.end()).size() == 4));
  EXPECT_EQ(called.size(), 3U);
}

// Goal    Callbacks that the forking thread itself is to call later, after a flight's end, are
//         called in both processes.
// Method  It forks within a task of inline_executor, which makes the callbacks wait in the
//         trampoline.
TEST(fork_flight, a_trampoline_continues_after_an_end) {
  support::manual_executor loads;
  sf::group<int, int> g({.executor = loads});
  int called = 0;
  pid_t pid = -1;
  for (int i = 0; i < 2; ++i) {
    auto f = g.start(1, [] { return 1; });
    f.on(sf::inline_executor).on_ready([&](const auto&) { ++called; });
  }
  sf::inline_executor.execute(sf::task([&] {
    loads.run_all();
    EXPECT_EQ(called, 0);
    pid = support::fork_here();
  }));
  EXPECT_TRUE(support::join_child(pid, called == 2));
  EXPECT_EQ(called, 2);
}

}  // namespace
