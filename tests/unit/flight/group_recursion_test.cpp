// SPDX-License-Identifier: Apache-2.0
//
// Loads that would wait for themselves.

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <optional>
#include <thread>
#include <vector>

#include "support/death.hpp"
#include "support/eventually.hpp"
#include "support/executors.hpp"
#include "support/gate.hpp"
#include "support/task.hpp"
#include <singleflight/core.hpp>
#include <singleflight/flight.hpp>

namespace sf = singleflight;
using namespace std::chrono_literals;
using ints = sf::group<int, int>;

namespace {

std::optional<sf::flight_errc> errc_of(const sf::outcome<sf::shared_result<int>>& o) {
  return o.errc();
}

// Scenario 13
// Goal    A load that calls for its own key fails at that wait, at once, in every form of call.
TEST(recursion, a_load_that_calls_for_its_own_key) {
  sf::manual_timer time;  // does not advance: no deadline can end a wait
  ints flights({.timer = &time});
  const auto load = [] { return 2; };
  const auto many = [](std::span<const int> keys) {
    return std::vector<sf::outcome<int>>(keys.size(), sf::outcome<int>(2));
  };
  const auto r = flights.run(1, [&] {
    EXPECT_EQ(errc_of(flights.run(sf::as_outcome, 1, load)), sf::flight_errc::recursive);
    EXPECT_EQ(errc_of(flights.run(sf::as_outcome, 1, load, {.deadline = time.now() + 1h})),
              sf::flight_errc::recursive);
    EXPECT_EQ(errc_of(flights.run_fresh(sf::as_outcome, 1, load)), sf::flight_errc::recursive);
    EXPECT_EQ(errc_of(flights.start(1, load).get_outcome()), sf::flight_errc::recursive);
    EXPECT_EQ(errc_of(flights.start_fresh(1, load).get_outcome()), sf::flight_errc::recursive);
    auto waits = flights.start(1, load);
    EXPECT_THROW(waits.wait(), sf::flight_error);
    EXPECT_THROW((void)waits.wait_for(1h), sf::flight_error);
    EXPECT_EQ(errc_of(flights.run_many(std::vector{1}, many).at(0)), sf::flight_errc::recursive);
    EXPECT_EQ(errc_of(flights.start_many(std::vector{1}, many).at(0).get_outcome()),
              sf::flight_errc::recursive);
    try {
      (void)flights.run(1, load);
      ADD_FAILURE();
    } catch (const sf::flight_error& e) {
      EXPECT_EQ(e.errc(), sf::flight_errc::recursive);
    }
    return 1;
  });
  EXPECT_EQ(*r, 1);
  EXPECT_EQ(r.callers(), 1U);
  EXPECT_EQ(flights.stats().loads, 1U);
  EXPECT_EQ(flights.stats().recursive, 8U) << "wait and wait_for end no call";
  EXPECT_TRUE(flights.in_flight().empty());
}

// Scenario 13
// Goal    The same in a started load, wherever it runs, and for a key further down the same thread.
TEST(recursion, a_started_load_that_calls_for_its_own_key) {
  sf::thread_pool pool({.max_threads = 1});
  ints flights({.executor = pool});
  auto f = flights.start(1, [&flights] {
    return *flights.run(2, [&flights] {
      EXPECT_EQ(errc_of(flights.run(sf::as_outcome, 1, [] { return 0; })),
                sf::flight_errc::recursive);
      EXPECT_EQ(errc_of(flights.start(1, [] { return 0; }).get_outcome()),
                sf::flight_errc::recursive);
      return 2;
    });
  });
  EXPECT_EQ(*f.get(), 2);
}

// Scenario 13
// Goal    When A waits for B in one thread while B waits for A in another, exactly one of them gets
//         recursive, and both calls end.
// Method  Neither load calls for the other key before both run. The one that gets recursive returns
//         a value, which then serves the other.
TEST(recursion, two_threads_that_wait_for_each_other) {
  for (int round = 0; round < 50; ++round) {
    ints flights;
    std::atomic<int> running{0};
    std::atomic<int> recursive{0};
    std::atomic<int> served{0};
    const auto lead = [&](int own, int other) {
      const auto r = flights.run(own, [&] {
        ++running;
        support::eventually([&] { return running == 2; });
        const auto o = flights.run(sf::as_outcome, other, [] { return -1; });
        if (o.has_value()) {
          EXPECT_EQ(**o, other);
          ++served;
        } else {
          EXPECT_EQ(o.errc(), sf::flight_errc::recursive);
          ++recursive;
        }
        return own;
      });
      EXPECT_EQ(*r, own);
    };
    std::jthread a(lead, 1, 2);
    std::jthread b(lead, 2, 1);
    a.join();
    b.join();
    EXPECT_EQ(recursive, 1);
    EXPECT_EQ(served, 1);
    EXPECT_EQ(flights.stats().loads, 2U);
  }
}

// Scenario 13
// Goal    In a cycle of five threads, over two groups, one of them gets recursive and the others
//         are served.
TEST(recursion, a_cycle_of_threads_and_groups) {
  constexpr int members = 5;
  ints even;
  ints odd;
  const auto of = [&](int key) -> ints& { return key % 2 == 0 ? even : odd; };
  std::atomic<int> running{0};
  std::atomic<int> recursive{0};
  {
    std::vector<std::jthread> threads;
    for (int own = 0; own < members; ++own) {
      threads.emplace_back([&, own] {
        (void)of(own).run(own, [&] {
          ++running;
          support::eventually([&] { return running == members; });
          const int next = (own + 1) % members;
          const auto o = of(next).run(sf::as_outcome, next, [] { return -1; });
          if (!o.has_value()) {
            EXPECT_EQ(o.errc(), sf::flight_errc::recursive);
            ++recursive;
          }
          return own;
        });
      });
    }
  }
  EXPECT_EQ(recursive, 1);
}

// Scenario 13
// Goal    forget(k), then run(k), inside the load of k works: that is another flight.
TEST(recursion, forgetting_breaks_the_cycle) {
  ints flights;
  const auto r = flights.run(1, [&] {
    EXPECT_TRUE(flights.forget(1));
    return *flights.run(1, [] { return 10; }) + 1;
  });
  EXPECT_EQ(*r, 11);
  EXPECT_EQ(flights.stats().loads, 2U);
  EXPECT_EQ(flights.stats().recursive, 0U);
  EXPECT_TRUE(flights.in_flight().empty());
}

// Goal    Loads that wait for others without a cycle never get recursive: a diamond, and a long
//         chain.
TEST(recursion, no_false_alarm) {
  ints flights;
  std::function<int(int)> depth = [&](int n) -> int {
    return *flights.run(n, [&] { return n == 0 ? 0 : depth(n - 1) + 1; });
  };
  EXPECT_EQ(depth(40), 40);

  support::gate bottom;
  std::atomic<int> bottom_loads{0};
  const auto side = [&](int key) {
    (void)flights.run(key, [&] {
      return *flights.run(100, [&] {
        bottom.wait();
        return ++bottom_loads;
      });
    });
  };
  std::jthread left(side, 101);
  std::jthread right(side, 102);
  support::until_callers(flights, 4);
  bottom.open();
  left.join();
  right.join();
  EXPECT_EQ(bottom_loads, 1);
  EXPECT_EQ(flights.stats().recursive, 0U);
}

// Goal    A load that changes threads is recognised when it names itself with .within, blocking and
//         awaiting.
// Method  The load of 1 runs on one thread and calls on another one, in its own name.
TEST(recursion, a_load_that_hops_threads_names_itself) {
  ints flights;
  const auto r = flights.run(1, [&](sf::flight_context& context) {
    std::jthread([&] {
      EXPECT_EQ(errc_of(flights.run(sf::as_outcome, 1, [] { return 0; }, {.within = context})),
                sf::flight_errc::recursive);
      auto f = flights.start(1, [] { return 0; });
      EXPECT_EQ(errc_of(f.within(context).get_outcome()), sf::flight_errc::recursive);
    }).join();
    return 7;
  });
  EXPECT_EQ(*r, 7);
  EXPECT_EQ(flights.stats().recursive, 2U);
}

// Goal    The same for a coroutine that awaits within a load.
TEST(recursion, an_awaiting_load_names_itself) {
  ints flights({.executor = sf::inline_executor});
  auto f = flights.start(1, [&flights](sf::flight_context& context) -> support::lazy<int> {
    auto again = flights.start(1, [] { return 0; });
    const auto o = co_await again.within(context).as_outcome();
    EXPECT_EQ(o.errc(), sf::flight_errc::recursive);
    co_return 3;
  });
  EXPECT_EQ(*f.get(), 3);
}

// Goal    A bulk load that calls for one of its own keys gets recursive, run or started.
// Method  The inner call's deadline is on a manual clock; a watchdog advances it only if the inner
//         call waits, so a load that hangs fails the test instead.
TEST(recursion, a_bulk_load_that_calls_for_its_own_key) {
  sf::manual_timer time;
  ints flights({.timer = &time});
  std::optional<sf::flight_errc> inner;
  const auto many = [&](std::span<const int> keys) {
    inner = flights.run(sf::as_outcome, 2, [] { return 0; }, {.deadline = time.now() + 1h}).errc();
    return std::vector<sf::outcome<int>>(keys.size(), sf::outcome<int>(2));
  };
  for (const auto& o : flights.run_many(std::vector{1, 2}, many)) EXPECT_TRUE(o.has_value());
  EXPECT_EQ(inner, sf::flight_errc::recursive);

  inner.reset();
  std::atomic<bool> over{false};
  std::jthread watchdog([&] {
    for (int i = 0; i < 2'000'000 && !over; ++i) std::this_thread::yield();
    if (!over) time.advance(2h);
  });
  auto started = flights.start_many(std::vector{1, 2}, many);
  for (auto& f : started) EXPECT_TRUE(f.get_outcome().has_value());
  over = true;
  EXPECT_EQ(inner, sf::flight_errc::recursive) << "a started bulk load waits for itself undetected";
}

// Goal    close() within a load of the same group would wait for itself: it is refused as
//         recursive, and nothing is closed.
TEST(recursion, closing_within_a_load) {
  ints flights;
  EXPECT_EQ(*flights.run(1,
                         [&] {
                           EXPECT_THROW(flights.close(), sf::flight_error);
                           EXPECT_THROW((void)flights.close_for(1s), sf::flight_error);
                           return 1;
                         }),
            1);
  EXPECT_EQ(*flights.run(1, [] { return 2; }), 2);
}

// Goal    Destroying a group within one of its loads aborts with a message, in every build type.
TEST(recursion_death_test, destroying_the_group_within_a_load) {
  support::die_apart();
  EXPECT_DEATH(
      {
        auto flights = std::make_unique<ints>();
        (void)flights->run(1, [&] {
          flights.reset();
          return 1;
        });
      },
      "destroyed within one of its own loads");
}

/// Opens a gate when it is armed: a blocked thread arms it after it has recorded its wait.
struct reporting_timer final : sf::timer {
  time_point now() const noexcept override { return inner.now(); }
  void arm(sf::timer_node& node, time_point when) override {
    inner.arm(node, when);
    armed.open();
  }
  void cancel(sf::timer_node& node) noexcept override { inner.cancel(node); }
  sf::manual_timer inner;
  support::gate armed;
};

// Goal    A flight that is over is not part of a cycle, though its load still runs and waits: its
//         outcome is available.
// Method  x's load waits for y; within y's load, x expires and is then asked for its outcome. The
//         deadline of x's wait for y shows that the wait has been recorded.
TEST(recursion, a_flight_that_is_over_is_no_cycle) {
  sf::manual_timer time;
  reporting_timer reporting;
  ints x({.timer = &time, .load_timeout = 1s});
  ints y({.timer = &reporting});
  support::gate x_runs;
  support::gate y_runs;
  std::jthread leads_x([&] {
    (void)x.run(sf::as_outcome, 1, [&] {
      x_runs.open();
      y_runs.wait();
      return *y.run(2, [] { return 0; }, {.deadline = reporting.now() + 1h});
    });
  });
  x_runs.wait();
  std::optional<sf::flight_errc> errc;
  (void)y.run(2, [&](sf::flight_context& context) {
    auto over = x.start(1, [] { return 0; });
    y_runs.open();
    reporting.armed.wait();
    time.advance(2s);
    support::eventually([&] { return over.ready(); }, "the timeout");
    support::gate called;
    std::move(over.within(context)).on_ready([&](const auto& got) {
      errc = got.errc();
      called.open();
    });
    called.wait();
    return 1;
  });
  EXPECT_EQ(errc, sf::flight_errc::timed_out);
}

}  // namespace
