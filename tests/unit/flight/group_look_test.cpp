// SPDX-License-Identifier: Apache-2.0
//
// forget, in_flight, what the loads themselves can query, the observer, and the checks of
// group_options.

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <mutex>
#include <optional>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "support/eventually.hpp"
#include "support/executors.hpp"
#include "support/gate.hpp"
#include <singleflight/core.hpp>
#include <singleflight/flight.hpp>

namespace sf = singleflight;
using namespace std::chrono_literals;
using ints = sf::group<int, int>;

namespace {

// Goal    Negative durations are refused; the message names the option and how to fix it.
TEST(group_options, negative_durations_are_refused) {
  EXPECT_THROW(ints({.join_window = -1ns}), std::invalid_argument);
  EXPECT_THROW(ints({.load_timeout = -1ns}), std::invalid_argument);
  try {
    ints({.load_timeout = -1h});
  } catch (const std::invalid_argument& e) {
    EXPECT_NE(std::string(e.what()).find("load_timeout"), std::string::npos);
  }
}

// Goal    The longest durations mean "never", not "at once".
TEST(group_options, the_longest_durations) {
  sf::manual_timer time;
  support::manual_executor queue;
  ints flights({.executor = queue,
                .timer = &time,
                .join_window = std::chrono::nanoseconds::max(),
                .load_timeout = std::chrono::nanoseconds::max()});
  auto f = flights.start(1, [] { return 1; });
  auto g = flights.start(1, [] { return 2; });
  time.advance(1h);
  queue.run_all();
  time.advance(1h);
  EXPECT_EQ(*f.get(), 1);
  EXPECT_EQ(*g.get(), 1);
  auto h = flights.start(1, [] { return 3; });
  std::jthread load([&] {
    support::eventually([&] { return flights.stats().calls == 3; });
    queue.run_all();
  });
  EXPECT_TRUE(h.wait_for(std::chrono::hours::max()));
}

// Goal    in_flight shows key, id, callers and (with an observer or a window) age; forgotten
//         flights are not listed.
TEST(in_flight, shows_what_newcomers_would_find) {
  sf::manual_timer time;
  support::manual_executor queue;
  sf::group<std::string, int> flights({.executor = queue, .timer = &time, .join_window = 1h});
  support::gate hold;
  std::uint64_t id = 0;
  std::jthread leader([&] {
    (void)flights.run("slow", [&](sf::flight_context& context) {
      id = context.flight_id();
      hold.wait();
      return 1;
    });
  });
  hold.await_arrivals();
  time.advance(3s);
  auto seen = flights.in_flight();
  ASSERT_EQ(seen.size(), 1U);
  EXPECT_EQ(seen[0].key, "slow");
  EXPECT_EQ(seen[0].flight_id, id);
  EXPECT_EQ(seen[0].callers, 1U);
  EXPECT_EQ(seen[0].age, 3s);
  auto joiner = flights.start("slow", [] { return 0; });
  EXPECT_EQ(flights.in_flight().at(0).callers, 2U);
  EXPECT_TRUE(flights.forget("slow"));
  EXPECT_TRUE(flights.in_flight().empty());
  hold.open();
  EXPECT_EQ(*joiner.get(), 1);
}

// Goal    A load that has not begun has no age, and is not too old to join.
TEST(in_flight, a_queued_load_has_no_age) {
  sf::manual_timer time;
  support::manual_executor queue;
  ints flights({.executor = queue, .timer = &time, .join_window = 1s});
  auto a = flights.start(1, [] { return 1; });
  EXPECT_EQ(flights.in_flight().at(0).age, 0ns);
  auto b = flights.start(1, [] { return 2; });
  EXPECT_EQ(flights.stats().joined, 1U) << "the load has not begun: it cannot be too old";
  queue.run_all();
  EXPECT_EQ(*a.get(), 1);
  EXPECT_EQ(*b.get(), 1);
  EXPECT_EQ(flights.stats().loads, 1U);
}

// Goal    forget_all forgets every flight once, returns how many, and lets the callers inside
//         finish; the successors behind the flights begin, and newcomers join those.
TEST(forget, all_at_once) {
  support::manual_executor queue;
  ints flights({.executor = queue});
  std::vector<sf::flight<int>> inside;
  for (int key = 0; key < 10; ++key) inside.push_back(flights.start(key, [key] { return key; }));
  EXPECT_EQ(flights.forget_all(), 10U);
  EXPECT_EQ(flights.forget_all(), 0U);
  EXPECT_TRUE(flights.in_flight().empty());
  queue.run_all();
  for (int key = 0; key < 10; ++key) EXPECT_EQ(*inside[static_cast<std::size_t>(key)].get(), key);

  auto old = flights.start(1, [] { return 1; });
  auto fresh = flights.start_fresh(1, [] { return 2; });
  EXPECT_EQ(flights.forget_all(), 1U);
  ASSERT_EQ(flights.in_flight().size(), 1U)
      << "the successor takes its place, as after forget(key)";
  auto newcomer = flights.start(1, [] { return 3; });
  queue.run_all();
  EXPECT_EQ(*old.get(), 1);
  EXPECT_EQ(*fresh.get(), 2);
  EXPECT_EQ(*newcomer.get(), 2);
}

// Goal    forget does the same for one key.
TEST(forget, one_with_a_successor) {
  support::manual_executor queue;
  ints flights({.executor = queue});
  auto old = flights.start(1, [] { return 1; });
  auto fresh = flights.start_fresh(1, [] { return 2; });
  EXPECT_TRUE(flights.forget(1));
  auto newcomer = flights.start(1, [] { return 3; });
  queue.run_all();
  EXPECT_EQ(*old.get(), 1);
  EXPECT_EQ(*fresh.get(), 2);
  EXPECT_EQ(*newcomer.get(), 2);
  EXPECT_FALSE(flights.forget(2));
}

// Goal    A load can query its id, its callers, its deadline (the latest among them) and whether it
//         is forgotten.
TEST(flight_context, tells_a_load_about_its_flight) {
  sf::manual_timer time;
  ints flights({.timer = &time});
  support::gate joined;
  const auto soon = time.now() + 1s;
  const auto later = time.now() + 5s;
  std::jthread joiner;
  const auto r = flights.run(
      1,
      [&](sf::flight_context& context) {
        EXPECT_NE(context.flight_id(), 0U);
        EXPECT_EQ(context.flight_id(), flights.in_flight().at(0).flight_id);
        EXPECT_EQ(context.callers(), 1U);
        EXPECT_EQ(context.deadline(), soon);
        EXPECT_FALSE(context.forgotten());
        joiner = std::jthread([&] { (void)flights.run(1, [] { return 2; }, {.deadline = later}); });
        support::eventually([&] { return context.deadline() == later; }, "the later deadline");
        EXPECT_EQ(context.callers(), 2U);
        auto unbounded = flights.start(1, [] { return 3; });
        EXPECT_EQ(context.deadline(), std::chrono::steady_clock::time_point::max());
        { const auto leaves = std::move(unbounded); }
        EXPECT_EQ(context.deadline(), later);
        EXPECT_FALSE(context.stop_token().stop_requested());
        flights.forget(1);
        EXPECT_TRUE(context.forgotten());
        return 1;
      },
      {.deadline = soon});
  EXPECT_EQ(*r, 1);
}

// Goal    The deadline is seen on the default timer too, where the kernel times a blocked thread.
TEST(flight_context, sees_a_blocked_joiners_deadline_on_the_default_timer) {
  ints flights;
  const auto own = std::chrono::steady_clock::now() + 1h;
  const auto later = own + 1h;
  std::jthread joiner;
  (void)flights.run(
      1,
      [&](sf::flight_context& context) {
        joiner = std::jthread([&] { (void)flights.run(1, [] { return 2; }, {.deadline = later}); });
        support::until_callers(flights, 2);
        support::eventually([&] { return context.deadline() == later; }, "the joiner's deadline");
        return 1;
      },
      {.deadline = own});
}

/// Records every call.
struct recorder : sf::observer {
  struct ended {
    std::uint64_t id;
    std::chrono::nanoseconds took;
    sf::load_result result;
  };
  void load_began(std::uint64_t id) noexcept override {
    const std::lock_guard hold(lock);
    begans.push_back(id);
  }
  void load_ended(std::uint64_t id, std::chrono::nanoseconds took,
                  sf::load_result result) noexcept override {
    const std::lock_guard hold(lock);
    ends.push_back({id, took, result});
  }
  void joined(std::uint64_t) noexcept override { ++joins; }
  void left(std::uint64_t) noexcept override { ++lefts; }
  std::mutex lock;
  std::vector<std::uint64_t> begans;
  std::vector<ended> ends;
  std::atomic<int> joins{0};
  std::atomic<int> lefts{0};
};

// Goal    Every load that begins also ends, once, with its duration and result; joins and leavings
//         are reported.
TEST(observer, is_notified_of_loads_joins_and_leavers) {
  sf::manual_timer time;
  support::manual_executor queue;
  recorder seen;
  ints flights({.executor = queue, .timer = &time, .observer = &seen});
  (void)flights.run(1, [&] {
    time.advance(2s);
    return 1;
  });
  (void)flights.run(sf::as_outcome, 1, []() -> int { throw std::runtime_error("x"); });
  auto a = flights.start(1, [&] {
    time.advance(3s);
    return 1;
  });
  auto b = flights.start(1, [] { return 2; });
  {
    const auto leaves = flights.start(1, [] { return 3; });
  }
  queue.run_all();
  ASSERT_EQ(seen.begans.size(), 3U);
  ASSERT_EQ(seen.ends.size(), 3U);
  EXPECT_EQ(std::set<std::uint64_t>(seen.begans.begin(), seen.begans.end()).size(), 3U);
  for (std::size_t i = 0; i < 3; ++i) EXPECT_EQ(seen.begans[i], seen.ends[i].id);
  EXPECT_EQ(seen.ends[0].took, 2s);
  EXPECT_EQ(seen.ends[0].result, sf::load_result::value);
  EXPECT_EQ(seen.ends[1].result, sf::load_result::error);
  EXPECT_EQ(seen.ends[2].took, 3s);
  EXPECT_EQ(seen.joins, 2);
  EXPECT_EQ(seen.lefts, 1);
}

// Goal    A load that never began does not end either.
TEST(observer, is_not_notified_of_a_load_that_never_began) {
  support::manual_executor queue;
  recorder seen;
  ints flights({.executor = queue, .observer = &seen});
  auto dropped = flights.start(1, [] { return 1; });
  queue.drop_one();
  EXPECT_EQ(dropped.get_outcome().errc(), sf::flight_errc::broken);
  {
    const auto abandoned = flights.start(1, [] { return 1; });
  }
  queue.run_all();
  EXPECT_TRUE(seen.begans.empty());
  EXPECT_TRUE(seen.ends.empty()) << "ended without having begun";
}

// Goal    A failed attempt that is handed over is reported as ended, and the next one as begun.
TEST(observer, is_notified_of_every_attempt) {
  support::manual_executor queue;
  recorder seen;
  ints flights({.executor = queue, .on_error = sf::error_policy::hand_over(1), .observer = &seen});
  std::optional<sf::flight<int>> joiner;
  EXPECT_THROW((void)flights.run(1,
                                 [&]() -> int {
                                   joiner.emplace(flights.start(1, [] { return 2; }));
                                   throw std::runtime_error("first");
                                 }),
               std::runtime_error);
  queue.run_all();
  EXPECT_EQ(*joiner->get(), 2);
  EXPECT_EQ(seen.begans.size(), 2U);
  EXPECT_EQ(seen.ends.size(), 2U);
}

}  // namespace
