// SPDX-License-Identifier: Apache-2.0

#include <gtest/gtest.h>
#include <pthread.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <ranges>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "support/asleep.hpp"
#include "support/death.hpp"
#include "support/eventually.hpp"
#include "support/executors.hpp"
#include "support/failure.hpp"
#include "support/gate.hpp"
#include "support/thread_end.hpp"
#include <singleflight/sync.hpp>

namespace sf = singleflight;

namespace {

using sf::as_outcome;
using sf::error_group;
using sf::flight_errc;
using support::failure;

flight_errc code_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const sf::flight_error& error) {
    return error.errc();
  }
  ADD_FAILURE() << "no flight_error";
  return {};
}

/// The number of the failure that `wait` threw; 0: nothing.
int failure_of(error_group& group) {
  try {
    group.wait();
  } catch (const failure& thrown) {
    return thrown.number;
  }
  return 0;
}

std::vector<std::pair<std::size_t, int>> numbers(const std::vector<sf::task_error>& errors) {
  std::vector<std::pair<std::size_t, int>> all;
  for (const sf::task_error& one : errors) {
    try {
      std::rethrow_exception(one.error);
    } catch (const failure& thrown) {
      all.emplace_back(one.index, thrown.number);
    }
  }
  return all;
}

// ---- after the tests of golang.org/x/sync/errgroup ----------------------------------------------

// Goal    ZeroGroup: whichever tasks fail, wait throws the first error; without an error it does
//         not throw.
TEST(error_group, wait_throws_the_first_error) {
  for (const std::vector<int>& tasks :
       {std::vector<int>{}, {0}, {1}, {0, 1}, {1, 0}, {0, 1, 2}, {2, 0, 1}}) {
    error_group group({.limit = 1});  // in series, so that the first one is known
    int first = 0;
    for (const int number : tasks) {
      group.go([number] {
        if (number != 0) throw failure{number};
      });
      if (first == 0) first = number;
    }
    EXPECT_EQ(failure_of(group), first);
  }
}

// Goal    WithContext: an error stops the group's token, and so does the end of the wait.
TEST(error_group, the_token_stops_at_the_first_error_and_at_the_end) {
  for (const bool fails : {false, true}) {
    error_group group;
    const std::stop_token token = group.stop_token();
    group.go([&](std::stop_token own) {
      EXPECT_EQ(own, token);
      if (fails) throw failure{1};
    });
    if (fails) {
      support::eventually([&] { return token.stop_requested(); }, "the stop");
    } else {
      EXPECT_FALSE(token.stop_requested());
    }
    EXPECT_EQ(failure_of(group), fails ? 1 : 0);
    EXPECT_TRUE(token.stop_requested());
    EXPECT_FALSE(group.stop_token().stop_requested()) << "the token of the next use";
  }
}

// Goal    WithContext: a stop of the parent stops the group; a group that skipped tasks has not
//         succeeded.
TEST(error_group, the_parents_stop_is_the_groups) {
  std::stop_source parent;
  support::manual_executor queue;
  error_group group({.executor = queue, .stop = parent.get_token()});
  const std::stop_token token = group.stop_token();
  bool ran = false;
  group.go([&] { ran = true; });
  parent.request_stop();
  EXPECT_TRUE(token.stop_requested());
  EXPECT_EQ(group.wait(as_outcome).errc(), flight_errc::cancelled);
  EXPECT_FALSE(ran);
  EXPECT_EQ(group.skipped(), 1U);

  EXPECT_TRUE(group.stop_token().stop_requested()) << "the parent is still stopped";
  group.go([&] { ran = true; });
  EXPECT_EQ(code_of([&] { group.wait(); }), flight_errc::cancelled);
  EXPECT_FALSE(ran);

  error_group late({.stop = parent.get_token()});
  late.go([&] { ran = true; });
  EXPECT_EQ(late.wait(as_outcome).errc(), flight_errc::cancelled);
  EXPECT_FALSE(ran);
}

// Goal    TryGo: false at the limit, and the task does not run; true again once a task has ended.
TEST(error_group, try_go_refuses_at_the_limit) {
  error_group group({.limit = 42});
  support::gate hold;
  std::atomic<int> ran{0};
  for (int i = 0; i < 42; ++i) {
    EXPECT_TRUE(group.try_go([&] {
      hold.wait();
      ++ran;
    }));
  }
  EXPECT_FALSE(group.try_go([&] { ran = 1'000; }));
  hold.open();
  group.wait();
  EXPECT_EQ(ran, 42);
  EXPECT_TRUE(group.try_go([&] { ++ran; }));
  group.wait();
  EXPECT_EQ(ran, 43);

  error_group one({.limit = 1});
  support::gate inside;
  EXPECT_TRUE(one.try_go([&] { inside.wait(); }));
  inside.await_arrivals();
  EXPECT_FALSE(one.try_go([] {}));
  inside.open();
  one.wait();
}

// Goal    TryGo without a limit always starts the task; in a stopped group it never does, and
//         nothing is counted.
TEST(error_group, try_go_without_a_limit_and_after_a_stop) {
  error_group group;
  std::atomic<int> ran{0};
  for (int i = 0; i < 100; ++i) EXPECT_TRUE(group.try_go([&] { ++ran; }));
  group.wait();
  EXPECT_EQ(ran, 100);
  EXPECT_TRUE(group.request_stop());
  EXPECT_FALSE(group.try_go([&] { ++ran; }));
  EXPECT_EQ(group.skipped(), 0U);
  group.wait();
  EXPECT_EQ(ran, 100);
}

// Goal    GoLimit: no more tasks run at a time than the limit, waiters that help included, and that
//         many do run at a time.
// Method  The first ten tasks wait at a gate until all of them have arrived.
TEST(error_group, the_limit_bounds_what_runs) {
  constexpr int limit = 10;
  error_group group({.limit = limit});
  support::gate full;
  std::atomic<int> running{0};
  std::atomic<int> most{0};
  for (int i = 0; i < 200; ++i) {
    group.go([&] {
      const int now = ++running;
      int seen = most.load();
      while (seen < now && !most.compare_exchange_weak(seen, now)) {
      }
      full.wait();
      --running;
    });
  }
  std::jthread opener([&] {
    full.await_arrivals(limit);
    full.open();
  });
  group.wait();
  EXPECT_EQ(most, limit);
}

// ---- scenario 29 --------------------------------------------------------------------------------

// Scenario 29.
// Goal    A limit of 0, and a queue without capacity, are refused with a message that names the
//         option.
TEST(error_group, senseless_bounds_are_refused) {
  try {
    const error_group group({.limit = 0});
    ADD_FAILURE() << "no throw";
  } catch (const std::invalid_argument& error) {
    EXPECT_NE(std::string(error.what()).find("error_group: limit 0"), std::string::npos);
  }
  EXPECT_THROW(error_group({.max_queued = 0}), std::invalid_argument);
  EXPECT_NO_THROW(error_group({.limit = 1, .max_queued = 0}));
}

// Scenario 29.
// Goal    At a limit of 1 a task may call go on its own group, even many levels deep: go never
//         blocks, and all tasks run in order.
TEST(error_group, go_within_a_task_at_the_limit_does_not_block) {
  error_group group({.limit = 1});
  std::vector<int> order;
  std::function<void(int)> descend = [&](int level) {
    order.push_back(level);
    if (level < 100) group.go([&descend, level] { descend(level + 1); });
  };
  group.go([&] { descend(0); });
  group.wait();
  ASSERT_EQ(order.size(), 101U);
  EXPECT_TRUE(std::ranges::is_sorted(order));
}

// Scenario 29.
// Goal    go after the stop skips the task: it is counted and never called.
TEST(error_group, go_after_the_stop_skips) {
  error_group group;
  group.go([] { throw failure{1}; });
  const std::stop_token token = group.stop_token();
  EXPECT_TRUE(support::eventually([&] { return token.stop_requested(); }));
  bool ran = false;
  for (int i = 0; i < 3; ++i) group.go([&] { ran = true; });
  EXPECT_EQ(failure_of(group), 1);
  EXPECT_FALSE(ran);
  EXPECT_EQ(group.skipped(), 3U);
}

// Scenario 29.
// Goal    A task that had not begun at the first error is skipped, and its callable is destroyed
//         before the wait returns; running tasks continue to their end.
// Method  Three tasks wait at a gate, the fourth fails, and the others are queued behind the limit.
TEST(error_group, the_first_error_skips_what_has_not_begun) {
  error_group group({.limit = 4});
  support::gate hold;
  std::atomic<int> ended{0};
  for (int i = 0; i < 3; ++i) {
    group.go([&] {
      hold.wait();
      ++ended;
    });
  }
  hold.await_arrivals(3);
  support::gate fail;
  group.go([&] {
    fail.wait();
    throw failure{4};
  });
  auto alive = std::make_shared<int>();
  std::atomic<bool> ran{false};
  for (int i = 0; i < 5; ++i) group.go([&ran, alive] { ran = true; });
  EXPECT_EQ(alive.use_count(), 6);
  const std::stop_token token = group.stop_token();
  fail.open();
  EXPECT_TRUE(support::eventually([&] { return token.stop_requested(); }));
  EXPECT_EQ(ended, 0);
  hold.open();
  EXPECT_EQ(failure_of(group), 4);
  EXPECT_EQ(ended, 3) << "the wait did not cover a running task";
  EXPECT_FALSE(ran);
  EXPECT_EQ(group.skipped(), 5U);
  EXPECT_EQ(alive.use_count(), 1);
}

// Scenario 29.
// Goal    After a wait the group is like new: no error, no count, a fresh token; until the next go,
//         errors() returns the errors of the use that was waited for.
TEST(error_group, an_error_does_not_stick_to_the_next_use) {
  error_group group({.limit = 1});
  const std::stop_token first = group.stop_token();
  group.go([] { throw failure{1}; });
  group.go([] {});
  EXPECT_EQ(failure_of(group), 1);
  EXPECT_EQ(group.errors().size(), 1U);
  EXPECT_EQ(group.skipped(), 1U);
  EXPECT_EQ(failure_of(group), 0) << "a wait without tasks";
  EXPECT_EQ(group.errors().size(), 1U);

  const std::stop_token second = group.stop_token();
  EXPECT_NE(first, second);
  EXPECT_FALSE(second.stop_requested());
  bool ran = false;
  group.go([&] { ran = true; });
  EXPECT_EQ(failure_of(group), 0);
  EXPECT_TRUE(ran);
  EXPECT_TRUE(group.errors().empty());
  EXPECT_EQ(group.skipped(), 0U);
  group.go([] { throw failure{2}; });
  EXPECT_EQ(failure_of(group), 2);
  EXPECT_EQ(numbers(group.errors()), (std::vector<std::pair<std::size_t, int>>{{0, 2}}));
}

// Scenario 29.
// Goal    Exceptions keep their type; all are kept in the order in which their tasks failed, each
//         with the index of its go.
// Method  Each task fails once its gate opens; the gates open in a different order than that of go.
TEST(error_group, errors_in_the_order_of_failure) {
  error_group group;
  std::array<support::gate, 4> gates;
  for (std::size_t i = 0; i < 4; ++i) {
    group.go([&gate = gates[i], i] {
      gate.wait();
      if (i != 2) throw failure{static_cast<int>(i) + 10};
    });
  }
  for (support::gate& gate : gates) gate.await_arrivals();
  std::size_t failed = 0;
  for (const std::size_t i : {3U, 0U, 1U}) {
    gates[i].open();
    ++failed;
    support::eventually([&] { return group.errors().size() == failed; });
  }
  gates[2].open();
  EXPECT_EQ(failure_of(group), 13);
  EXPECT_EQ(numbers(group.errors()),
            (std::vector<std::pair<std::size_t, int>>{{3, 13}, {0, 10}, {1, 11}}));
}

// ---- where tasks run ----------------------------------------------------------------------------

// Scenario 21.
// Goal    Nested groups on a pool of one thread end: the waiter runs the tasks that its executor
//         cannot.
TEST(error_group, nested_groups_on_a_pool_of_one_thread) {
  sf::thread_pool pool({.max_threads = 1});
  std::atomic<int> leaves{0};
  std::function<void(int)> fan_out = [&](int levels) {
    if (levels == 0) {
      ++leaves;
      return;
    }
    error_group group({.executor = pool});
    for (int i = 0; i < 3; ++i) group.go([&fan_out, levels] { fan_out(levels - 1); });
    group.wait();
  };
  error_group outer({.executor = pool});
  support::gate done;
  outer.go([&] {  // on the pool's only thread: no thread waits yet
    fan_out(4);
    done.open();
  });
  done.wait();
  EXPECT_EQ(leaves, 81);
  outer.wait();
}

// Scenario 28a.
// Goal    A waiter runs tasks of its own group, and never those of another group.
// Method  Neither group's executor runs anything; only waiters do.
TEST(error_group, a_waiter_runs_only_its_own_groups_tasks) {
  support::manual_executor queue;
  error_group mine({.executor = queue});
  error_group strange({.executor = queue});
  const std::thread::id here = std::this_thread::get_id();
  std::thread::id ran_on;
  bool strange_ran = false;
  strange.go([&] { strange_ran = true; });
  mine.go([&] { ran_on = std::this_thread::get_id(); });
  mine.wait();
  EXPECT_EQ(ran_on, here);
  EXPECT_FALSE(strange_ran);
  strange.wait();
  EXPECT_TRUE(strange_ran);
}

// Goal    Without a limit each task begins while the others block, as long as there are threads.
TEST(error_group, tasks_that_wait_for_each_other_all_begin) {
  constexpr std::size_t tasks = 20;
  sf::thread_pool pool({.max_threads = tasks});
  error_group group({.executor = pool});
  support::gate all;
  for (std::size_t i = 0; i < tasks; ++i) group.go([&] { all.wait(); });
  all.await_arrivals(tasks);  // no thread waits for the group yet
  all.open();
  group.wait();
}

// Goal    A sleeping waiter is woken for a task that no other thread can run.
// Method  The pool's only thread runs a task that waits until the system reports that the waiter is
//         asleep, then submits another task and waits for it.
TEST(error_group, a_sleeping_waiter_is_called_for_a_late_task) {
  sf::thread_pool pool({.max_threads = 1});
  error_group group({.executor = pool});
  support::gate begun;
  support::gate second_ran;
  const support::asleep waiter;
  std::thread::id ran_on;
  group.go([&] {
    begun.wait();
    support::eventually([&] { return waiter(); }, "the waiter's sleep");
    group.go([&] {
      ran_on = std::this_thread::get_id();
      second_ran.open();
    });
    second_ran.wait();
  });
  begun.await_arrivals();  // on the pool
  begun.open();
  group.wait();
  EXPECT_EQ(ran_on, std::this_thread::get_id());
}

// Goal    An executor that refuses or drops all tickets does no harm: the waiter runs the tasks.
TEST(error_group, executors_that_take_nothing) {
  const auto use = [](const sf::any_executor& executor) {
    error_group group({.executor = executor});
    int ran = 0;
    for (int i = 0; i < 5; ++i) group.go([&] { ++ran; });
    EXPECT_EQ(ran, 0);
    group.wait();
    EXPECT_EQ(ran, 5);
    group.go([&] { throw failure{++ran}; });
    EXPECT_EQ(failure_of(group), 6);
  };
  use(support::refusing_executor{});
  use(support::dropping_executor{});
  use(support::manual_executor{});
}

// Goal    A ticket is bound to no task: the executor holds one, for any number of tasks; a late one
//         finds nothing to run; one that is dropped later is replaced by the next go.
TEST(error_group, one_ticket_for_many_tasks) {
  support::manual_executor queue;
  std::optional<error_group> group(std::in_place, sf::error_group_options{.executor = queue});
  int ran = 0;
  for (int i = 0; i < 1'000; ++i) group->go([&] { ++ran; });
  EXPECT_EQ(queue.size(), 1U);
  EXPECT_TRUE(queue.run_one());
  EXPECT_EQ(ran, 1'000);
  EXPECT_EQ(queue.size(), 1U) << "there must be one ticket, for a second thread";
  EXPECT_TRUE(queue.drop_one());
  group->go([&] { ++ran; });
  EXPECT_EQ(queue.size(), 1U);
  group->wait();
  EXPECT_EQ(ran, 1'001);
  group.reset();
  EXPECT_TRUE(queue.run_one()) << "the ticket of a destroyed group is still queued";
  EXPECT_EQ(ran, 1'001);
}

// Goal    inline_executor: tasks run as the outermost call returns, and do not nest.
TEST(error_group, on_the_calling_thread) {
  error_group group({.executor = sf::inline_executor});
  std::vector<int> order;
  group.go([&] {
    order.push_back(1);
    group.go([&] { order.push_back(3); });
    order.push_back(2);
  });
  EXPECT_EQ(order, (std::vector<int>{1, 2, 3}));
  group.wait();
}

// Goal    inline_executor: a task that another task submits on a waiter's thread begins after that
//         task, in the order of go.
// Method  The group's first task holds its thread until the end, so the waiter runs the others.
TEST(error_group, a_waiter_keeps_the_order_of_inline_tasks) {
  error_group group({.executor = sf::inline_executor});
  support::gate begun;
  support::gate waiting;
  support::gate over;
  const support::asleep waiter;
  std::vector<int> order;  // written by the waiter only
  std::jthread other([&] {
    group.go([&] {
      begun.open();
      waiting.wait();
      support::eventually([&] { return waiter(); }, "the waiter's sleep");
      group.go([&] {
        group.go([&] { order.push_back(2); });
        group.go([&] {
          order.push_back(3);
          over.open();
        });
        order.push_back(1);
      });
      over.wait();
    });
  });
  begun.wait();
  waiting.open();
  group.wait();
  EXPECT_EQ(order, (std::vector<int>{1, 2, 3}));
}

// Goal    inline_executor: a chain of tasks on a waiter's thread takes constant stack.
TEST(error_group, inline_tasks_of_a_waiter_do_not_nest) {
  error_group group({.executor = sf::inline_executor});
  int left = 100'000;
  std::function<void()> next = [&] {
    if (--left > 0) group.go(next);
  };
  support::gate begun;
  support::gate waiting;
  support::gate over;
  const support::asleep waiter;
  std::jthread other([&] {
    group.go([&] {
      begun.open();
      waiting.wait();
      support::eventually([&] { return waiter(); }, "the waiter's sleep");
      group.go([&] {
        next();
        group.go([&] { over.open(); });
      });
      over.wait();
    });
  });
  begun.wait();
  waiting.open();
  group.wait();
  EXPECT_EQ(left, 0);
}

// ---- bounds -------------------------------------------------------------------------------------

// Goal    Beyond max_queued go throws overloaded, and the refused task is not counted.
TEST(error_group, the_queue_is_bounded) {
  support::manual_executor queue;
  int ran = 0;
  {
    error_group group({.executor = queue, .limit = 2, .max_queued = 3});
    for (int i = 0; i < 5; ++i) group.go([&] { ++ran; });
    EXPECT_EQ(code_of([&] { group.go([&] { ran = 100; }); }), flight_errc::overloaded);
    group.wait();
    EXPECT_EQ(ran, 5);
    group.go([&] { throw failure{++ran}; });
    EXPECT_EQ(failure_of(group), 6);
    EXPECT_EQ(group.errors().at(0).index, 0U);
  }
  error_group unlimited({.executor = queue, .max_queued = 1});
  unlimited.go([&] { ++ran; });
  EXPECT_EQ(code_of([&] { unlimited.go([&] { ran = 100; }); }), flight_errc::overloaded);
  EXPECT_FALSE(unlimited.try_go([&] { ran = 100; }));
  unlimited.wait();
  EXPECT_EQ(ran, 7);
  EXPECT_TRUE(unlimited.try_go([&] { ++ran; }));
  EXPECT_FALSE(unlimited.try_go([&] { ran = 100; }));
  unlimited.wait();
  EXPECT_EQ(ran, 8);
}

// ---- stops --------------------------------------------------------------------------------------

// Goal    request_stop: running tasks see the stop, tasks that have not begun are skipped; without
//         an error the wait throws cancelled. The first call returns true.
TEST(error_group, request_stop) {
  error_group group({.limit = 1});
  support::gate begun;
  group.go([&](std::stop_token stop) {
    begun.wait();
    support::eventually([&] { return stop.stop_requested(); });
  });
  bool ran = false;
  group.go([&] { ran = true; });
  begun.await_arrivals();
  EXPECT_TRUE(group.request_stop());
  EXPECT_FALSE(group.request_stop());
  begun.open();
  EXPECT_EQ(code_of([&] { group.wait(); }), flight_errc::cancelled);
  EXPECT_FALSE(ran);
  EXPECT_EQ(group.skipped(), 1U);
  EXPECT_TRUE(group.errors().empty());
}

// Goal    A stop after all tasks have begun is not an error.
TEST(error_group, a_stop_that_skips_nothing) {
  error_group group;
  support::gate begun;
  group.go([&](std::stop_token stop) {
    begun.open();
    support::eventually([&] { return stop.stop_requested(); });
  });
  begun.wait();
  group.request_stop();
  EXPECT_NO_THROW(group.wait());
}

// Goal    Stop callbacks run without holding a lock of the group: they may use it.
TEST(error_group, a_stop_callback_may_use_the_group) {
  error_group group;
  std::size_t errors = 0;
  std::optional<flight_errc> waited;
  bool ran = false;
  const std::stop_callback callback(group.stop_token(), [&] {
    errors = group.errors().size();
    group.go([&] { ran = true; });
    waited = group.wait(as_outcome).errc();
  });
  group.go([] { throw failure{1}; });
  EXPECT_EQ(failure_of(group), 1);
  EXPECT_EQ(errors, 1U);
  EXPECT_EQ(waited, flight_errc::recursive) << "within the task that failed";
  EXPECT_FALSE(ran);
  EXPECT_EQ(group.skipped(), 1U);
}

// Goal    A skipped callable is destroyed without holding a lock of the group: its destructor may
//         use it.
TEST(error_group, a_skipped_callable_may_use_the_group_in_its_destructor) {
  support::manual_executor queue;
  error_group group({.executor = queue});
  struct asks {
    error_group* group;
    std::size_t* skipped;
    asks(error_group* g, std::size_t* s) : group(g), skipped(s) {}
    asks(asks&& other) noexcept
        : group(std::exchange(other.group, nullptr)), skipped(other.skipped) {}
    ~asks() {
      if (group != nullptr) *skipped = group->skipped();
    }
    void operator()() const {}
  };
  std::size_t skipped = 0;
  group.go(asks(&group, &skipped));
  group.request_stop();
  EXPECT_EQ(skipped, 1U);
  EXPECT_EQ(group.wait(as_outcome).errc(), flight_errc::cancelled);
}

// Goal    A wait within the group's own stop would wait for itself and gets recursive, on whatever
//         thread the stop is requested, even in the destructor of a skipped callable; once the stop
//         is over, it does not.
TEST(error_group, a_wait_within_the_groups_own_stop_is_refused) {
  struct waits {
    error_group* group;
    std::vector<std::optional<flight_errc>>* answers;
    waits(error_group* g, std::vector<std::optional<flight_errc>>* a) : group(g), answers(a) {}
    waits(waits&& other) noexcept
        : group(std::exchange(other.group, nullptr)), answers(other.answers) {}
    ~waits() {
      if (group != nullptr) answers->push_back(group->wait(as_outcome).errc());
    }
    void operator()() const {}
  };
  std::vector<std::optional<flight_errc>> answers;
  std::stop_source parent;
  for (const bool from_parent : {false, true}) {
    answers.clear();
    error_group group({.executor = support::dropping_executor(), .stop = parent.get_token()});
    group.go(waits(&group, &answers));
    const std::stop_callback callback(group.stop_token(), [&] {
      answers.push_back(group.wait(as_outcome).errc());
      error_group another({.executor = support::dropping_executor()});
      another.go([] {});
      EXPECT_TRUE(another.wait(as_outcome));
    });
    from_parent ? parent.request_stop() : group.request_stop();
    EXPECT_EQ(answers, (std::vector<std::optional<flight_errc>>{flight_errc::recursive,
                                                                flight_errc::recursive}));
    EXPECT_EQ(group.wait(as_outcome).errc(), flight_errc::cancelled);
  }
}

// ---- waiting ------------------------------------------------------------------------------------

// Goal    A wait within a task of the group would wait for itself and gets recursive, even through
//         a group in between; a wait for another group is allowed.
TEST(error_group, a_wait_for_itself_is_refused) {
  error_group group;
  group.go([&] { group.wait(); });
  EXPECT_EQ(code_of([&] { group.wait(); }), flight_errc::recursive);

  group.go([&] {
    error_group inner({.executor = support::manual_executor()});  // its waiter runs its tasks
    inner.go([&] { EXPECT_EQ(group.wait(as_outcome).errc(), flight_errc::recursive); });
    inner.wait();
  });
  EXPECT_NO_THROW(group.wait());
}

// Goal    All threads that wait at the same time get the use's error.
// Method  Only waiters run tasks here, and two tasks meet at a gate, so both threads are in wait.
TEST(error_group, every_waiter_gets_the_error) {
  error_group group({.executor = support::manual_executor()});  // only waiters run tasks
  support::gate both;
  for (int i = 0; i < 2; ++i) {
    group.go([&, i] {
      both.wait();
      if (i == 0) throw failure{7};
    });
  }
  std::atomic<int> sum{0};
  {
    std::vector<std::jthread> waiters;
    for (int i = 0; i < 2; ++i) waiters.emplace_back([&] { sum += failure_of(group); });
    both.await_arrivals(2);
    both.open();
  }
  EXPECT_EQ(sum, 14);
}

// Goal    After a go during a wait, the wait ends only after that task too.
TEST(error_group, a_wait_ends_after_tasks_that_are_added_meanwhile) {
  error_group group;
  std::atomic<int> ran{0};
  std::function<void(int)> chain = [&](int left) {
    ++ran;
    if (left > 0) group.go([&chain, left] { chain(left - 1); });
  };
  group.go([&] { chain(50); });
  group.wait();
  EXPECT_EQ(ran, 51);
}

// Goal    The task's effects, and the destruction of its captures, happen before the wait returns.
TEST(error_group, captures_end_before_the_wait) {
  error_group group;
  int plain = 0;
  auto alive = std::make_shared<int>();
  group.go([&plain, alive] { plain = 1; });
  group.wait();
  EXPECT_EQ(plain, 1);
  EXPECT_EQ(alive.use_count(), 1);
}

// ---- the ends of threads and groups -------------------------------------------------------------

// Goal    A task that ends its thread has failed as broken; the group continues without that
//         thread, and stops as for any error.
TEST(error_group, a_task_that_ends_its_thread) {
  if (!support::threads_can_end) GTEST_SKIP() << "this unwinder cannot end a thread in a task";
  sf::thread_pool pool({.max_threads = 2});
  error_group group({.executor = pool});
  support::gate others;
  group.go([&] {
    others.wait();
    pthread_exit(nullptr);
  });
  others.await_arrivals();  // on the pool, not on the thread that will wait
  std::atomic<bool> ended{false};
  group.go([&](std::stop_token stop) {
    others.open();
    support::eventually([&] { return stop.stop_requested(); });
    ended = true;
  });
  EXPECT_EQ(code_of([&] { group.wait(); }), flight_errc::broken);
  EXPECT_TRUE(ended);
  const auto errors = group.errors();
  ASSERT_EQ(errors.size(), 1U);
  EXPECT_EQ(errors[0].index, 0U);
  EXPECT_EQ(code_of([&] { std::rethrow_exception(errors[0].error); }), flight_errc::broken);
}

// Goal    The destructor of a group that was never waited for stops and awaits running tasks; tasks
//         that have not begun never do.
TEST(error_group, the_destructor_stops_and_drains) {
  std::atomic<bool> ended{false};
  bool ran = false;
  {
    support::gate begun;
    error_group group({.limit = 1});
    group.go([&](std::stop_token stop) {
      begun.open();
      support::eventually([&] { return stop.stop_requested(); });
      ended = true;
    });
    group.go([&] { ran = true; });
    begun.wait();
  }
  EXPECT_TRUE(ended);
  EXPECT_FALSE(ran);
}

// Goal    A group whose errors were never read is destroyed without throwing.
TEST(error_group, the_destructor_throws_nothing) {
  support::gate failed;
  {
    error_group group;
    group.go([&] {
      failed.open();
      throw failure{1};
    });
    failed.wait();
  }
}

// Goal    A group cannot be destroyed within one of its own tasks: that would wait for itself.
TEST(error_group_death, destroyed_within_its_own_task) {
  support::die_apart();
  EXPECT_DEATH(
      {
        auto* const group = new error_group({.executor = support::manual_executor()});
        group->go([group] { delete group; });
        group->wait();
      },
      "error_group: destroyed within one of its own tasks");
}

// Goal    Nor can it be destroyed within its own stop, whether or not that would have ended.
TEST(error_group_death, destroyed_within_its_own_stop) {
  support::die_apart();
  EXPECT_DEATH(
      {
        auto* const group = new error_group({.executor = support::manual_executor()});
        const std::stop_callback callback(group->stop_token(), [group] { delete group; });
        group->request_stop();
      },
      "error_group: destroyed within one of its own tasks or stop callbacks");
}

// Goal    The destructor of a group wakes the threads that sleep in wait; they do not touch the
//         group after that.
// Method  The group's only task ends when it sees the stop, which the destructor requests once the
//         system reports that the waiter is asleep.
TEST(error_group, destroyed_while_a_waiter_sleeps) {
  for (int i = 0; i < 100; ++i) {
    auto group = std::make_unique<error_group>();
    support::gate begun;
    group->go([&](std::stop_token stop) {
      begun.open();
      support::eventually([&] { return stop.stop_requested(); });
    });
    begun.wait();  // on the pool
    std::optional<support::asleep> waiter;
    support::gate made;
    std::jthread other([&, use = group.get()] {
      waiter.emplace();
      made.open();
      EXPECT_TRUE(use->wait(as_outcome));
    });
    made.wait();
    support::eventually([&] { return (*waiter)(); }, "the waiter's sleep");
    group.reset();
  }
}

// Goal    When a group is destroyed, a go whose task has ended may still be submitting the ticket;
//         its executor lives until that returns.
// Method  The executor drops the ticket, and holds the call until the group is destroyed.
TEST(error_group, destroyed_while_go_submits_a_ticket) {
  struct slow {
    std::shared_ptr<int> life;
    support::gate* inside;
    support::gate* destroyed;
    void execute(sf::task work) const {
      { const sf::task dropped(std::move(work)); }
      const std::weak_ptr<int> seen = life;
      auto* const in = inside;
      auto* const out = destroyed;
      in->open();
      out->wait();
      EXPECT_FALSE(seen.expired());
    }
  };
  support::gate inside;
  support::gate destroyed;
  auto group = std::make_unique<error_group>(
      sf::error_group_options{.executor = slow{std::make_shared<int>(), &inside, &destroyed}});
  bool ran = false;
  std::jthread other([&, use = group.get()] { use->go([&] { ran = true; }); });
  inside.wait();
  group->wait();
  EXPECT_TRUE(ran);
  group.reset();
  destroyed.open();
}

// Goal    Tasks may be a move-only callable, a function, or a member function that takes a token.
TEST(error_group, callables_of_all_sorts) {
  static std::atomic<int> ran;
  ran = 0;
  struct plain {
    static void function() { ++ran; }
  };
  error_group group;
  group.go([owned = std::make_unique<int>(1)] { ran += *owned; });
  group.go(&plain::function);
  group.go([](const std::stop_token& token) { ran += token.stop_possible() ? 1 : 0; });
  const auto kept = [] { ++ran; };
  group.go(kept);
  group.wait();
  EXPECT_EQ(ran, 4);
}

// ---- collect ------------------------------------------------------------------------------------

// Goal    The values are in the order of the calls, whatever the order in which the calls ended.
// Method  Each call ends only after the next one has.
TEST(collect, values_in_the_order_of_the_calls) {
  constexpr std::size_t count = 8;
  sf::thread_pool pool({.max_threads = count});
  std::array<support::gate, count + 1> ended;
  ended[count].open();
  std::vector<std::function<std::string()>> calls;
  for (std::size_t i = 0; i < count; ++i) {
    calls.emplace_back([&ended, i] {
      ended[i + 1].wait();
      ended[i].open();
      return std::to_string(i);
    });
  }
  EXPECT_EQ(sf::collect<std::string>(calls, {.executor = pool}),
            (std::vector<std::string>{"0", "1", "2", "3", "4", "5", "6", "7"}));
}

// Goal    The first error is thrown with its own type; calls that had not begun never begin.
TEST(collect, the_first_error) {
  int ran = 0;
  std::vector<std::function<int()>> calls(10, [&] { return ++ran; });
  calls[3] = []() -> int { throw failure{3}; };
  try {
    (void)sf::collect<int>(calls, {.limit = 1});
    ADD_FAILURE() << "no throw";
  } catch (const failure& thrown) {
    EXPECT_EQ(thrown.number, 3);
  }
  EXPECT_EQ(ran, 3);
}

// Goal    A range that throws leaves nothing behind: running calls are stopped and awaited, calls
//         that have not begun never begin.
TEST(collect, a_range_that_throws) {
  support::gate begun;
  std::atomic<int> ended{0};
  auto alive = std::make_shared<int>();
  const auto make = [&](int i) {
    if (i == 3) {
      begun.await_arrivals();
      begun.open();
      throw failure{i};
    }
    return [&, i, alive](const std::stop_token& stop) {
      begun.wait();
      support::eventually([&] { return stop.stop_requested(); });
      ++ended;
      return i;
    };
  };
  try {
    (void)sf::collect<int>(std::views::iota(0, 5) | std::views::transform(make), {.limit = 1});
    ADD_FAILURE() << "no throw";
  } catch (const failure& thrown) {
    EXPECT_EQ(thrown.number, 3);
  }
  EXPECT_EQ(ended, 1);
  EXPECT_EQ(alive.use_count(), 1);
}

// Goal    Calls may be move-only and made while the range is traversed.
TEST(collect, move_only_calls_made_by_the_range) {
  const auto make = [](int i) { return [owned = std::make_unique<int>(i)] { return *owned; }; };
  EXPECT_EQ(sf::collect<int>(std::views::iota(0, 3) | std::views::transform(make)),
            (std::vector<int>{0, 1, 2}));
}

// Goal    Ranges that make their calls, calls that take a token, move-only values, bool, and no
//         call at all.
TEST(collect, ranges_and_values_of_all_sorts) {
  const std::vector<int> ids{3, 1, 2};
  EXPECT_EQ(
      sf::collect<int>(ids | std::views::transform([](int id) { return [id] { return id * 2; }; })),
      (std::vector<int>{6, 2, 4}));
  EXPECT_EQ(sf::collect<bool>(ids | std::views::transform([](int id) {
                                return [id](const std::stop_token& stop) {
                                  return stop.stop_possible() && id > 1;
                                };
                              })),
            (std::vector<bool>{true, false, true}));
  std::vector<std::unique_ptr<int>> owned =
      sf::collect<std::unique_ptr<int>>(ids | std::views::transform([](int id) {
                                          return [id] { return std::make_unique<int>(id); };
                                        }));
  EXPECT_EQ(*owned.at(2), 2);
  EXPECT_TRUE(sf::collect<int>(std::vector<std::function<int()>>{}).empty());
}

// Goal    A stop of the parent, before or during the calls, throws cancelled: there are no values
//         to return.
TEST(collect, the_parents_stop) {
  std::stop_source parent;
  int ran = 0;
  std::vector<std::function<int()>> calls(5, [&] {
    parent.request_stop();
    return ++ran;
  });
  EXPECT_EQ(
      code_of([&] { (void)sf::collect<int>(calls, {.limit = 1, .stop = parent.get_token()}); }),
      flight_errc::cancelled);
  EXPECT_EQ(ran, 1);
}

}  // namespace
