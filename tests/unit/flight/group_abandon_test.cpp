// SPDX-License-Identifier: Apache-2.0
//
// What happens to a load when its callers leave (P6).

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <optional>
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

namespace sf = singleflight;
using namespace std::chrono_literals;
using ints = sf::group<int, int>;

namespace {

// Scenario 3
// Goal    The only caller cancels, its load ignores the stop token, and a new call arrives: it does
//         not get the cancellation, but leads a flight of its own (P6, stop).
// Method  The abandoned load is held until the newcomer has its value, which also proves that the
//         two loads overlap, as `stop` allows (scenario 4).
TEST(abandon, a_newcomer_never_joins_a_doomed_flight) {
  support::thread_per_task threads;
  ints flights({.executor = threads});
  support::gate doomed;
  std::stop_source stop;
  std::atomic<int> loads{0};
  auto first = flights.start(1, [&](std::stop_token token) {
    ++loads;
    doomed.wait();
    EXPECT_TRUE(token.stop_requested());
    return 1;
  });
  doomed.await_arrivals();
  std::jthread caller([&] {
    EXPECT_EQ(first.until(std::chrono::steady_clock::time_point::max(), stop.get_token())
                  .get_outcome()
                  .errc(),
              sf::flight_errc::cancelled);
  });
  stop.request_stop();
  caller.join();
  EXPECT_TRUE(flights.in_flight().empty());
  EXPECT_EQ(flights.stats().abandoned, 1U);
  const auto second = flights.run(1, [&] {
    ++loads;
    EXPECT_FALSE(doomed.is_open());
    return 2;
  });
  EXPECT_EQ(*second, 2);
  EXPECT_EQ(second.role(), sf::flight_role::leader);
  EXPECT_EQ(loads, 2);
  doomed.open();
}

// Scenario 4
// Goal    With drain, the newcomers' load begins only after the abandoned one has ended, and
//         several newcomers share it (P6, P1).
// Method  The test sees the newcomers wait (the table holds only the barrier, and their load has
//         not begun) before it releases the old load.
TEST(abandon, drain_waits_for_the_old_load) {
  support::thread_per_task threads;
  ints flights({.executor = threads, .on_abandon = sf::abandon::drain});
  support::gate old_load;
  std::atomic<bool> old_ended{false};
  std::atomic<int> new_loads{0};
  std::optional<sf::flight<int>> first(flights.start(1, [&](std::stop_token token) {
    old_load.wait();
    EXPECT_TRUE(token.stop_requested());
    old_ended = true;
    return 1;
  }));
  old_load.await_arrivals();
  first.reset();
  EXPECT_EQ(flights.stats().abandoned, 1U);
  std::vector<std::jthread> newcomers;
  for (int i = 0; i < 3; ++i) {
    newcomers.emplace_back([&] {
      const auto r = flights.run(1, [&] {
        EXPECT_TRUE(old_ended) << "two loads overlap";
        return ++new_loads + 10;
      });
      EXPECT_EQ(*r, 11);
      EXPECT_EQ(r.callers(), 4U);
    });
  }
  auto started = flights.start(1, [&] { return ++new_loads + 10; });
  support::eventually([&] { return flights.stats().calls == 5; },
                      "all newcomers behind the barrier");
  EXPECT_EQ(new_loads, 0);
  EXPECT_FALSE(started.ready());
  EXPECT_EQ(flights.stats().loads, 1U);
  old_load.open();
  EXPECT_EQ(*started.get(), 11);
  newcomers.clear();
  EXPECT_EQ(new_loads, 1);
  support::until_flights(flights, 0);
}

// Scenario 4
// Goal    With finish, the newcomer joins the abandoned load, which is not asked to stop (P6).
TEST(abandon, finish_lets_newcomers_join) {
  support::thread_per_task threads;
  ints flights({.executor = threads, .on_abandon = sf::abandon::finish});
  support::gate hold;
  std::optional<sf::flight<int>> first(flights.start(1, [&](std::stop_token token) {
    hold.wait();
    EXPECT_FALSE(token.stop_requested());
    return 1;
  }));
  hold.await_arrivals();
  first.reset();
  ASSERT_EQ(flights.in_flight().size(), 1U);
  EXPECT_EQ(flights.in_flight()[0].callers, 0U);
  auto second = flights.start(1, [] { return 2; });
  EXPECT_EQ(flights.in_flight().at(0).callers, 1U);
  hold.open();
  const auto r = second.get();
  EXPECT_EQ(*r, 1);
  EXPECT_EQ(r.role(), sf::flight_role::joiner);
  EXPECT_EQ(flights.stats().loads, 1U);
  EXPECT_EQ(flights.stats().abandoned, 1U);
}

// Goal    A stop is requested before the last caller that leaves returns, and not while another
//         caller is left (P6).
TEST(abandon, stop_is_requested_before_the_last_leaver_returns) {
  for (const auto policy : {sf::abandon::stop, sf::abandon::drain}) {
    support::thread_per_task threads;
    ints flights({.executor = threads, .on_abandon = policy});
    support::gate hold;
    std::stop_token token;
    auto a = flights.start(1, [&](std::stop_token load_token) {
      token = load_token;
      hold.wait();
      return 1;
    });
    hold.await_arrivals();
    auto b = flights.start(1, [] { return 2; });
    { const auto leaving = std::move(a); }
    EXPECT_FALSE(token.stop_requested());
    EXPECT_EQ(flights.in_flight().at(0).callers, 1U);
    { const auto leaving = std::move(b); }
    EXPECT_TRUE(token.stop_requested());
    hold.open();
  }
}

// Goal    A flight that all callers left before its load began never loads, and its key is free at
//         once.
TEST(abandon, a_load_that_nobody_waits_for_does_not_begin) {
  support::manual_executor queue;
  ints flights({.executor = queue});
  int loads = 0;
  {
    const auto f = flights.start(1, [&] { return ++loads; });
  }
  EXPECT_TRUE(flights.in_flight().empty());
  EXPECT_EQ(queue.run_all(), 1U);
  EXPECT_EQ(loads, 0);
  EXPECT_EQ(flights.stats().loads, 0U);
}

// Goal    With drain, a successor whose only caller leaves ends too; the next one takes its place.
TEST(abandon, an_abandoned_successor_frees_its_place) {
  support::manual_executor queue;
  support::gate hold;
  support::thread_per_task threads;
  ints flights({.executor = threads, .on_abandon = sf::abandon::drain});
  {
    const auto f = flights.start(1, [&] {
      hold.wait();
      return 1;
    });
    hold.await_arrivals();
  }
  std::atomic<int> dropped_loads{0};
  {
    const auto left = flights.start(1, [&] { return ++dropped_loads; });
  }
  auto stays = flights.start(1, [] { return 3; });
  hold.open();
  EXPECT_EQ(*stays.get(), 3);
  EXPECT_EQ(dropped_loads, 0);
}

// Scenario 15
// Goal    When the first caller of a started flight leaves first, at its deadline, the joiners
//         still get the value.
TEST(abandon, the_first_caller_leaves_first) {
  sf::manual_timer time;
  support::manual_executor queue;
  ints flights({.executor = queue, .timer = &time});
  auto first = flights.start(1, [] { return 1; });
  auto joiner = flights.start(1, [] { return 2; });
  std::jthread caller([&first, deadline = time.now() + 1s] {
    EXPECT_EQ(first.until(deadline).get_outcome().errc(), sf::flight_errc::timed_out);
  });
  time.advance(1s);
  caller.join();
  EXPECT_EQ(support::callers_inside(flights), 1U);
  queue.run_all();
  const auto r = joiner.get();
  EXPECT_EQ(*r, 1);
  EXPECT_EQ(r.callers(), 1U);
  EXPECT_EQ(r.role(), sf::flight_role::joiner);
  EXPECT_EQ(flights.stats().abandoned, 0U);
}

// Scenario 15
// Goal    A run leader whose stop fires stays until its load returns, but no longer counts as
//         interest: when the last joiner leaves, the load is asked to stop, and a new call starts a
//         new load.
TEST(abandon, a_stopped_run_leader_stays_without_interest) {
  ints flights;
  support::gate hold;
  std::stop_source stop;
  std::stop_token token;
  std::jthread leader([&] {
    const auto r = flights.run(1,
                               [&](sf::flight_context& context) {
                                 token = context.stop_token();
                                 EXPECT_EQ(context.callers(), 1U);
                                 hold.wait();
                                 EXPECT_TRUE(context.forgotten());
                                 return 5;
                               },
                               {.stop = stop.get_token()});
    EXPECT_EQ(*r, 5) << "the leader has its own load's value";
  });
  hold.await_arrivals();
  auto joiner = flights.start(1, [] { return 0; });
  EXPECT_EQ(support::callers_inside(flights), 2U);
  stop.request_stop();
  EXPECT_EQ(support::callers_inside(flights), 1U);
  EXPECT_FALSE(token.stop_requested());
  { const auto leaves = std::move(joiner); }
  EXPECT_TRUE(token.stop_requested());
  EXPECT_TRUE(flights.in_flight().empty());
  EXPECT_EQ(*flights.run(1, [] { return 6; }), 6);
  hold.open();
  leader.join();
  EXPECT_EQ(flights.stats().abandoned, 1U);
  EXPECT_EQ(flights.stats().loads, 2U);
}

// Scenario 15
// Goal    A stopped leader's load still serves the joiner, as if the stop had not fired.
TEST(abandon, a_stopped_run_leader_still_serves_its_joiners) {
  ints flights;
  support::gate hold;
  std::stop_source stop;
  std::jthread leader([&] {
    const auto r = flights.run(1,
                               [&] {
                                 hold.wait();
                                 return 5;
                               },
                               {.stop = stop.get_token()});
    EXPECT_EQ(*r, 5);
    EXPECT_TRUE(r.shared());
  });
  hold.await_arrivals();
  auto joiner = flights.start(1, [] { return 0; });
  stop.request_stop();
  hold.open();
  const auto r = joiner.get();
  EXPECT_EQ(*r, 5);
  EXPECT_EQ(r.callers(), 2U) << "the leader took part";
}

// Goal    After detach the load continues: a detached caller does not count as one that left.
TEST(abandon, a_detached_caller_has_not_left) {
  support::manual_executor queue;
  ints flights({.executor = queue});
  int loads = 0;
  flights
      .start(1,
             [&](std::stop_token token) {
               EXPECT_FALSE(token.stop_requested());
               return ++loads;
             })
      .detach();
  EXPECT_EQ(support::callers_inside(flights), 1U);
  auto joiner = flights.start(1, [] { return 9; });
  { const auto leaves = std::move(joiner); }
  EXPECT_EQ(flights.stats().abandoned, 0U);
  queue.run_all();
  EXPECT_EQ(loads, 1);
  EXPECT_TRUE(flights.in_flight().empty());
}

// Goal    A coroutine that is destroyed while it waits counts as having left: the last one stops
//         the load.
TEST(abandon, a_destroyed_coroutine_has_left) {
  support::thread_per_task threads;
  ints flights({.executor = threads});
  support::gate hold;
  std::stop_token token;
  const auto wait = [](ints& from, auto load) -> support::owned {
    auto f = from.start(1, load);
    co_await f;
    ADD_FAILURE() << "resumed";
  };
  auto waiting = wait(flights, [&](std::stop_token load_token) {
    token = load_token;
    hold.wait();
    return 1;
  });
  hold.await_arrivals();
  EXPECT_EQ(support::callers_inside(flights), 1U);
  waiting.reset();
  EXPECT_TRUE(token.stop_requested());
  EXPECT_TRUE(flights.in_flight().empty());
  hold.open();
}

}  // namespace
