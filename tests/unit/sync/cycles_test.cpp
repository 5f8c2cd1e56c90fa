// SPDX-License-Identifier: Apache-2.0
//
// Loads that wait for tasks and retries, which in turn wait for loads.

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <functional>
#include <optional>
#include <stdexcept>
#include <stop_token>
#include <thread>
#include <utility>
#include <vector>

#include "support/eventually.hpp"
#include "support/executors.hpp"
#include "support/gate.hpp"
#include "support/task.hpp"
#include <singleflight/core.hpp>
#include <singleflight/flight.hpp>
#include <singleflight/sync.hpp>

namespace sf = singleflight;
using namespace std::chrono_literals;
using key_group = sf::group<int, int>;

namespace {

/// Counts arms: a blocked thread with a deadline arms the timer after its wait was recorded.
struct counting_timer final : sf::timer {
  time_point now() const noexcept override { return inner.now(); }
  void arm(sf::timer_node& node, time_point when) override {
    inner.arm(node, when);
    ++armed;
  }
  void cancel(sf::timer_node& node) noexcept override { inner.cancel(node); }
  sf::manual_timer inner;
  std::atomic<int> armed{0};
};

/// A load of key 1, and tasks that wait for it on threads of a pool.
struct cycles {
  bool is_recursive() {
    const auto got =
        flights.run(sf::as_outcome, 1, [] { return 0; }, {.deadline = time.now() + 1h});
    return got.errc() == sf::flight_errc::recursive;
  }
  /// Returns once `n` tasks wait for the load.
  void until_waiting(int n) {
    support::eventually([&] { return time.armed >= n; });
  }
  template <class Load>
  void load(Load what) {
    (void)flights.run(1, [&] {
      what();
      return 1;
    });
    EXPECT_EQ(flights.stats().loads, 1U);
    EXPECT_TRUE(flights.in_flight().empty());
  }
  counting_timer time;
  key_group flights{{.timer = &time}};
  sf::thread_pool pool{{.max_threads = 4}};
};

// Scenario 13
// Goal    Tasks that already wait for a load when it begins to wait for them each get `recursive`;
//         the load's wait for the tasks succeeds and lasts until they end.
TEST(cycles, a_load_waits_for_tasks_that_wait_for_it) {
  cycles c;
  std::atomic<int> recursive{0};
  c.load([&] {
    sf::error_group group({.executor = c.pool});
    for (int i = 0; i < 3; ++i) group.go([&] { recursive += c.is_recursive() ? 1 : 0; });
    c.until_waiting(3);
    group.wait();
    EXPECT_EQ(recursive, 3);
  });
  EXPECT_EQ(c.flights.stats().recursive, 3U);
}

// Scenario 13
// Goal    The same where the group is destroyed without a wait, where the group's error comes from
//         a task, in collect, and in run_all, even when run_all is nested.
TEST(cycles, every_form_of_waiting_for_tasks) {
  cycles c;
  c.load([&] {
    std::atomic<int> recursive{0};
    {
      sf::error_group group({.executor = c.pool});
      group.go([&] { recursive += c.is_recursive() ? 1 : 0; });
      c.until_waiting(1);
    }
    EXPECT_EQ(recursive, 1);
    const std::vector<std::function<int()>> calls(
        2, [&] { return *c.flights.run(1, [] { return 0; }); });
    EXPECT_THROW((void)sf::collect<int>(calls, {.executor = c.pool}), sf::flight_error);
    const auto each = [&] {
      const auto all = sf::run_all(calls, {.executor = c.pool});
      for (const auto& one : all) EXPECT_FALSE(one.has_value());
      return static_cast<int>(all.size());
    };
    EXPECT_EQ(each(), 2);
    const std::vector<std::function<int()>> nested(2, each);
    for (const auto& one : sf::run_all(nested, {.executor = c.pool})) EXPECT_EQ(*one, 2);
    sf::error_group fails({.executor = c.pool});
    fails.go([&] { (void)c.flights.run(1, [] { return 0; }); });
    EXPECT_THROW(fails.wait(), sf::flight_error);
  });
}

// Scenario 13
// Goal    A started load on a third thread is part of a cycle too; one wait of the cycle gets
//         `recursive`.
TEST(cycles, a_cycle_through_tasks_and_another_load) {
  std::atomic<int> recursive{0};
  key_group others;
  cycles c;
  c.load([&] {
    sf::error_group group({.executor = c.pool});
    group.go([&] {
      auto other = others.start(2, [&] {
        recursive += c.is_recursive() ? 1 : 0;
        return 2;
      });
      const auto how = other.get_outcome();
      recursive += how.errc() == sf::flight_errc::recursive ? 1 : 0;
    });
    group.wait();
    EXPECT_EQ(recursive, 1);
  });
  others.close();
}

// Scenario 13
// Goal    If the attempt of a retry waits for the load that waits for the retry, one of the two
//         waits gets `recursive`, whichever is the last.
TEST(cycles, a_load_waits_for_a_retry_that_waits_for_it) {
  for (const bool attempt_first : {true, false}) {
    std::atomic<bool> recursive{false};
    support::gate asks;
    cycles c;
    c.load([&] {
      auto all = sf::start_retry(
          {.max_attempts = 1},
          [&] {
            asks.wait();
            recursive = c.is_recursive();
            return 7;
          },
          {}, c.pool);
      if (attempt_first) {
        asks.open();
        c.until_waiting(1);
      }
      std::jthread opens([&] { asks.open(); });
      const auto how = all.get_outcome();
      if (attempt_first) {
        EXPECT_EQ(how.errc(), sf::flight_errc::recursive);
      } else {
        EXPECT_TRUE(how ? recursive.load() : how.errc() == sf::flight_errc::recursive);
      }
    });
  }
}

// Scenario 13
// Goal    A wait for a retry can be made to fail like one for a load: the load waits for a task
//         that waits for a retry whose attempt waits for the load.
TEST(cycles, a_cycle_through_tasks_and_a_retry) {
  cycles c;
  c.load([&] {
    sf::error_group group({.executor = c.pool});
    std::atomic<int> ended{0};
    group.go([&] {
      auto all = sf::start_retry(
          {.max_attempts = 1}, [&] { return c.is_recursive(); }, {}, c.pool);
      const auto how = all.get_outcome();
      EXPECT_TRUE(how ? *how : how.errc() == sf::flight_errc::recursive);
      ++ended;
    });
    c.until_waiting(1);
    group.wait();
    EXPECT_EQ(ended, 1);
  });
}

// Scenario 13
// Goal    The cycle is found when a load awaits a retry in its own name (within); the attempt calls
//         from another thread.
TEST(cycles, a_load_awaits_a_retry_in_its_own_name) {
  support::gate asks;
  std::atomic<bool> recursive{false};
  cycles c;
  auto f = c.flights.start(1, [&](sf::flight_context& context) -> support::lazy<int> {
    auto all = sf::start_retry(
        {.max_attempts = 1},
        [&] {
          asks.open();
          recursive = c.is_recursive();
          return 7;
        },
        {}, c.pool);
    asks.wait();
    const auto how = co_await all.within(context).as_outcome();
    EXPECT_TRUE(how ? recursive.load() : how.errc() == sf::flight_errc::recursive);
    co_return 3;
  });
  EXPECT_EQ(*f.get(), 3);
}

// Scenario 13
// Goal    When tasks of two groups each wait for the other group, the last wait gets `recursive`.
TEST(cycles, tasks_that_wait_for_each_others_groups) {
  sf::thread_pool pool({.max_threads = 4});
  sf::error_group a({.executor = pool});
  sf::error_group b({.executor = pool});
  std::atomic<int> recursive{0};
  std::atomic<int> running{0};
  const auto wait_for = [&](sf::error_group& other) {
    ++running;
    support::eventually([&] { return running == 2; });
    if (other.wait(sf::as_outcome).errc() == sf::flight_errc::recursive) ++recursive;
  };
  a.go([&] { wait_for(b); });
  b.go([&] { wait_for(a); });
  a.wait();
  b.wait();
  EXPECT_EQ(recursive, 1);
}

// Goal    A task of a group that the load does not wait for forms no cycle, however often and
//         wherever the group is waited for later.
TEST(cycles, a_task_that_outlives_the_load_is_no_cycle) {
  cycles c;
  sf::error_group group({.executor = c.pool});
  std::atomic<int> got{0};
  c.load([&] {
    group.go([&] { got = *c.flights.run(1, [] { return 0; }, {.deadline = c.time.now() + 1h}); });
    c.until_waiting(1);
  });
  group.wait();
  EXPECT_EQ(got, 1);
  EXPECT_EQ(c.flights.stats().recursive, 0U);
}

// Goal    A stop callback of a group that skipped nothing is not waited for and forms no cycle, so
//         it may wait for the load that waits for the group.
TEST(cycles, a_stop_callback_is_no_task) {
  cycles c;
  sf::error_group group({.executor = c.pool});
  support::gate begun;
  support::gate stops;
  support::gate leaves;
  std::optional<bool> recursive;
  const std::function<void()> asks = [&] { recursive = c.is_recursive(); };
  std::jthread stopper([&] {
    stops.wait();
    group.request_stop();
  });
  const auto token = group.stop_token();
  const std::stop_callback<std::function<void()>> callback(token, asks);
  c.load([&] {
    group.go([&] {
      begun.open();
      leaves.wait();
    });
    begun.wait();
    stops.open();
    c.until_waiting(1);
    std::jthread lets_go([&] { leaves.open(); });
    EXPECT_TRUE(group.wait(sf::as_outcome).has_value());
  });
  stopper.join();
  EXPECT_EQ(recursive, false);
  EXPECT_EQ(c.flights.stats().recursive, 0U);
}

// Scenario 46
// Goal    When a loader loses its promise to an exception that it catches, the promise is broken
//         before the loader waits for anything in the library: for a permit, for tasks, for a
//         retry, within a retry, or for the end of another group or of a pool.
TEST(cycles, a_lost_promise_is_broken_before_its_loader_waits) {
  struct full {};
  sf::thread_pool pool{{.max_threads = 12}};
  key_group flights({.executor = pool});
  support::gate hold;
  sf::semaphore permits(1);
  std::optional<sf::permit> taken = permits.acquire();
  std::stop_source tired;
  const std::function<void()> waits[] = {
      [&] { (void)permits.acquire(); },
      [&] {
        sf::error_group tasks({.executor = pool});
        tasks.go([&] { hold.wait(); });
        (void)tasks.wait(sf::as_outcome);
      },
      [&] {
        auto tries = sf::start_retry(
            {.max_attempts = 1}, [&] { return hold.wait(), 1; }, {}, pool);
        (void)tries.get();
      },
      [&] {
        key_group others({.executor = pool});
        auto held = others.start(1, [&] { return hold.wait(), 1; });
        hold.await_arrivals(3);
        others.close();
      },
      [&] {
        sf::thread_pool other{{.max_threads = 1}};
        other.execute(sf::task([&] { hold.wait(); }));
      },
      [&] {
        const auto fails = []() -> int { throw std::runtime_error("busy"); };
        EXPECT_THROW(sf::retry({.max_attempts = 2, .base = 1h, .cap = 1h}, fails,
                               {.stop = tired.get_token()}),
                     sf::flight_error);
      },
  };
  std::atomic<int> ended{0};
  int key = 0;
  for (const auto& wait : waits) {
    auto f = flights.start(++key, [&](sf::flight_promise<int> p) {
      try {
        const auto mine = std::move(p);
        throw full();
      } catch (const full&) {
      }
      wait();
      ++ended;
    });
    const auto patient = std::chrono::steady_clock::now() + support::patience;
    EXPECT_EQ(f.until(patient).get_outcome().errc(), sf::flight_errc::broken) << key;
  }
  EXPECT_EQ(ended, 0);
  taken.reset();
  hold.open();
  tired.request_stop();
  flights.close();
  EXPECT_TRUE(support::eventually([&] { return ended == 6; }, "the loaders"));
}

// Goal    The promise is broken before its loader enters a queue: a caller that this resumes, and
//         that also wants a permit, does not find the loader ahead of it.
TEST(cycles, a_lost_promise_is_broken_before_its_loader_queues) {
  struct full {};
  struct watching {  // records the length of the queue when it is passed a coroutine
    void execute(sf::task work) const {
      *seen = permits->waiters_approx();
      later.execute(std::move(work));
    }
    const sf::semaphore* permits;
    std::optional<std::size_t>* seen;
    mutable support::manual_executor later;
  };
  key_group flights({.executor = sf::inline_executor});
  sf::semaphore permits(1);
  std::optional<sf::permit> taken = permits.acquire();
  std::optional<std::size_t> seen;
  const support::manual_executor later;
  support::gate joined;
  std::jthread leader([&] {
    auto f = flights.start(1, [&](sf::flight_promise<int> p) {
      joined.wait();
      try {
        const auto mine = std::move(p);
        throw full();
      } catch (const full&) {
      }
      (void)permits.acquire();
    });
  });
  joined.await_arrivals();
  std::optional<sf::flight_errc> outcome;
  const watching watches{&permits, &seen, later};
  const auto caller = [&]() -> support::detached {
    auto f = flights.start(1, [] { return 0; });
    outcome = (co_await f.on(watches).as_outcome()).errc();
  };
  caller();
  joined.open();
  support::manual_executor runs = later;
  ASSERT_TRUE(support::eventually([&] { return runs.run_one(); }));
  EXPECT_EQ(outcome, sf::flight_errc::broken);
  EXPECT_EQ(seen, 0U);
  taken.reset();
}

}  // namespace
