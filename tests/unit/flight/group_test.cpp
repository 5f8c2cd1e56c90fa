// SPDX-License-Identifier: Apache-2.0
//
// run(): which call loads, which calls share, when a flight ends.

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <string>
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

namespace {

// Goal    A call alone runs its load on its own thread and leaves nothing behind.
TEST(group, alone_runs_its_load_inline) {
  sf::group<std::string, std::string> flights;
  std::thread::id where;
  auto r = flights.run("k", [&] {
    where = std::this_thread::get_id();
    return std::string("value");
  });
  EXPECT_EQ(*r, "value");
  EXPECT_EQ(r->size(), 5U);
  EXPECT_FALSE(r.shared());
  EXPECT_EQ(r.callers(), 1U);
  EXPECT_EQ(r.role(), sf::flight_role::leader);
  EXPECT_EQ(where, std::this_thread::get_id());
  EXPECT_TRUE(flights.in_flight().empty());
  EXPECT_EQ(flights.stats().calls, 1U);
  EXPECT_EQ(flights.stats().loads, 1U);
  EXPECT_EQ(flights.stats().joined, 0U);
}

// Goal    Overlapping callers share one load and one object (P1).
// Method  The leader does not return until every joiner is in, so the overlap is forced, not hoped
//         for.
TEST(group, overlapping_callers_share_one_load) {
  constexpr std::size_t callers = 9;
  sf::group<std::string, std::string> flights;
  std::atomic<int> loads{0};
  std::atomic<int> leaders{0};
  std::atomic<const std::string*> object{nullptr};
  std::atomic<int> different{0};
  {
    std::vector<std::jthread> threads;
    for (std::size_t i = 0; i < callers; ++i) {
      threads.emplace_back([&] {
        auto r = flights.run("k", [&] {
          ++loads;
          support::until_callers(flights, callers);
          return std::string("one object for all of them, too long to be kept inline");
        });
        const std::string* expected = nullptr;
        if (!object.compare_exchange_strong(expected, &*r) && expected != &*r) ++different;
        if (r.role() == sf::flight_role::leader) ++leaders;
        EXPECT_TRUE(r.shared());
        EXPECT_EQ(r.callers(), callers);
      });
    }
  }
  EXPECT_EQ(loads, 1);
  EXPECT_EQ(leaders, 1);
  EXPECT_EQ(different, 0);
  EXPECT_EQ(flights.stats().calls, callers);
  EXPECT_EQ(flights.stats().loads, 1U);
  EXPECT_EQ(flights.stats().joined, callers - 1);
  EXPECT_TRUE(flights.in_flight().empty());
}

// Goal    Different keys do not wait for each other.
// Method  No load returns before the loads of all keys have begun.
TEST(group, different_keys_load_concurrently) {
  sf::group<int, int> flights;
  std::vector<std::jthread> threads;
  for (int key = 0; key < 4; ++key) {
    threads.emplace_back([&flights, key] {
      auto r = flights.run(key, [&] {
        support::eventually([&] { return flights.stats().loads == 4; }, "four loads");
        return key * 10;
      });
      EXPECT_EQ(*r, key * 10);
      EXPECT_FALSE(r.shared());
    });
  }
}

// Goal    Calls in series never share: no call that begins after an outcome was delivered receives
//         it (P3).
TEST(group, calls_in_series_each_load) {
  sf::group<int, int> flights;
  int loads = 0;
  for (int i = 1; i <= 100; ++i) EXPECT_EQ(*flights.run(7, [&] { return ++loads; }), i);
}

// Scenario 1
// Goal    A forgotten leader that ends late does not remove its successor from the table (P2).
// Method  L1 is held in its load; forget; L2 is held in its own; L1 ends; L3 joins while L2 still
//         runs.
TEST(group, a_forgotten_flight_that_ends_does_not_remove_the_one_after_it) {
  sf::group<std::string, int> flights;
  std::atomic<int> loads{0};
  support::gate first;
  support::gate second;
  std::atomic<int> l1{0};
  std::atomic<int> l2{0};
  std::jthread t1([&] {
    auto r = flights.run("k", [&] {
      const int mine = ++loads;
      first.wait();
      return mine;
    });
    EXPECT_FALSE(r.shared());
    l1 = *r;
  });
  first.await_arrivals();
  EXPECT_TRUE(flights.forget("k"));
  EXPECT_FALSE(flights.forget("k"));
  EXPECT_TRUE(flights.in_flight().empty());
  std::jthread t2([&] {
    auto r = flights.run("k", [&] {
      const int mine = ++loads;
      second.wait();
      return mine;
    });
    EXPECT_EQ(r.callers(), 2U);
    EXPECT_EQ(r.role(), sf::flight_role::leader);
    l2 = *r;
  });
  second.await_arrivals();
  const auto second_id = flights.in_flight().at(0).flight_id;
  first.open();
  t1.join();
  EXPECT_EQ(l1, 1);
  ASSERT_EQ(flights.in_flight().size(), 1U) << "L1's end removed L2's flight";
  EXPECT_EQ(flights.in_flight()[0].flight_id, second_id);
  std::jthread t3([&] {
    auto r = flights.run("k", [&] { return ++loads; });
    EXPECT_EQ(*r, 2);
    EXPECT_EQ(r.role(), sf::flight_role::joiner);
  });
  support::until_callers(flights, 2);
  second.open();
  t3.join();
  t2.join();
  EXPECT_EQ(l2, 2);
  EXPECT_EQ(loads, 2);
  EXPECT_TRUE(flights.in_flight().empty());
}

/// A key whose copies and comparisons a test can block.
struct hooked_key {
  struct hooks {
    std::function<void()> on_copy;
    std::function<void()> on_compare;
  };
  hooked_key(int number, hooks& what) : id(number), hook(&what) {}
  hooked_key(const hooked_key& other) : id(other.id), hook(other.hook) {
    if (hook->on_copy) hook->on_copy();
  }
  friend bool operator==(const hooked_key& a, const hooked_key& b) {
    if (a.hook->on_compare) a.hook->on_compare();
    return a.id == b.id;
  }
  int id;
  hooks* hook;
};
struct hooked_hash {
  std::size_t operator()(const hooked_key& key) const { return static_cast<std::size_t>(key.id); }
};

// Scenario 2
// Goal    A call that finds a flight in the table joins it, even when its load has returned
//         already.
// Method  The joiner is held in the comparison of keys, which is its look into the table, until the
//         leader's load has returned.
TEST(group, a_late_joiner_that_finds_the_flight_gets_its_outcome) {
  hooked_key::hooks hooks;
  const hooked_key key(1, hooks);
  sf::group<hooked_key, int, hooked_hash> flights;
  support::gate load_may_end;
  support::gate look;
  std::atomic<int> loads{0};
  std::atomic<bool> returning{false};
  std::jthread leader([&] {
    auto r = flights.run(key, [&] {
      load_may_end.wait();
      returning = true;
      return ++loads;
    });
    EXPECT_EQ(r.callers(), 3U);
  });
  load_may_end.await_arrivals();
  const auto join = [&] {
    auto r = flights.run(key, [&] { return ++loads; });
    EXPECT_EQ(*r, 1);
    EXPECT_EQ(r.role(), sf::flight_role::joiner);
  };
  std::jthread early(join);  // so that the flight can be joined in one step
  support::until_callers(flights, 2);
  hooks.on_compare = [&] { look.wait(); };
  std::jthread late(join);
  look.await_arrivals();
  load_may_end.open();
  support::eventually([&] { return returning.load(); });
  look.open();
  leader.join();
  early.join();
  late.join();
  EXPECT_EQ(loads, 1);
}

// Scenario 2
// Goal    A call that has seen a flight but is too late to join it leads a new one; it never waits
//         for a finished one.
// Method  The joiner is held in the copy of its key, between its two looks into the table, until
//         the leader has returned.
TEST(group, a_joiner_that_is_too_late_leads_a_new_flight) {
  hooked_key::hooks hooks;
  const hooked_key key(1, hooks);
  sf::group<hooked_key, int, hooked_hash> flights({.on_error = sf::error_policy::hand_over(1)});
  support::gate load_may_end;
  support::gate copy;
  std::atomic<int> loads{0};
  std::jthread leader([&] {
    EXPECT_EQ(*flights.run(key,
                           [&] {
                             load_may_end.wait();
                             return ++loads;
                           }),
              1);
  });
  load_may_end.await_arrivals();
  hooks.on_copy = [&] { copy.wait(); };
  std::jthread late([&] {
    auto r = flights.run(key, [&] { return ++loads; });
    EXPECT_EQ(*r, 2);
    EXPECT_EQ(r.role(), sf::flight_role::leader);
    EXPECT_FALSE(r.shared());
  });
  copy.await_arrivals();
  load_may_end.open();
  leader.join();
  EXPECT_EQ(loads, 1);
  copy.open();
  late.join();
  EXPECT_EQ(loads, 2);
}

// Scenario 2
// Goal    However entering and leaving meet, every call gets an outcome, as a leader or as a
//         joiner.
// Method  Two threads call for one key again and again. (A hang is the failure.)
TEST(group, entering_and_leaving_meet_in_every_order) {
  sf::group<int, int> flights;
  constexpr std::uint64_t rounds = 20'000;
  std::atomic<std::uint64_t> loads{0};
  std::atomic<std::uint64_t> joined{0};
  {
    std::vector<std::jthread> threads;
    for (int t = 0; t < 2; ++t) {
      threads.emplace_back([&] {
        for (std::uint64_t i = 0; i < rounds; ++i) {
          auto r = flights.run(1, [&] {
            ++loads;
            return 1;
          });
          if (r.role() == sf::flight_role::joiner) ++joined;
        }
      });
    }
  }
  EXPECT_EQ(loads + joined, 2 * rounds);
  EXPECT_EQ(flights.stats().loads, loads);
  EXPECT_EQ(flights.stats().joined, joined);
  EXPECT_TRUE(flights.in_flight().empty());
}

// Goal    A flight leaves the table before any of its waiters is notified (P2).
// Method  A callback, which is notified like every waiter, finds the table empty and leads the next
//         flight.
TEST(group, a_flight_leaves_the_table_before_its_waiters_are_notified) {
  support::manual_executor queue;
  sf::group<int, int> flights({.executor = queue});
  std::size_t seen = 99;
  auto f = flights.start(1, [] { return 1; });
  std::move(f).on_ready([&](const auto&) { seen = flights.in_flight().size(); });
  queue.run_all();
  EXPECT_EQ(seen, 0U);
}

// Scenario 6
// Goal    A leading coroutine that is destroyed between its load's end and its resumption leaves no
//         stuck key, and its joiner has the value.
// Method  The executor runs only the load; the resumption is queued behind it when the coroutine is
//         destroyed.
TEST(group, a_leading_coroutine_destroyed_after_its_load) {
  support::manual_executor queue;
  sf::group<int, int> flights({.executor = queue});
  const auto lead = [](sf::group<int, int>& from) -> support::owned {
    auto f = from.start(1, [] { return 1; });
    (void)co_await f;
    ADD_FAILURE() << "resumed";
  };
  auto leader = lead(flights);
  auto joiner = flights.start(1, [] { return 2; });
  EXPECT_TRUE(queue.run_one());
  EXPECT_TRUE(joiner.ready());
  EXPECT_EQ(queue.size(), 1U) << "the resumption";
  leader.reset();
  EXPECT_TRUE(flights.in_flight().empty());
  queue.run_all();
  EXPECT_EQ(*joiner.get(), 1);
  EXPECT_EQ(*flights.run(1, [] { return 3; }), 3);
  EXPECT_EQ(flights.stats().loads, 2U);
}

// Goal    The leader's effects before its load returned are visible to every joiner (P7).
// Method  A plain int, written by the load and read by the joiners: ThreadSanitizer would report a
//         race.
TEST(group, the_loads_effects_are_visible_to_all) {
  sf::group<int, int> flights;
  for (int round = 0; round < 50; ++round) {
    int plain = 0;
    std::vector<std::jthread> threads;
    for (int i = 0; i < 3; ++i) {
      threads.emplace_back([&] {
        auto r = flights.run(1, [&] {
          support::until_callers(flights, 3);
          plain = 42;
          return 1;
        });
        EXPECT_EQ(plain, 42);
        EXPECT_EQ(r.callers(), 3U);
      });
    }
  }
}

// Goal    void, move-only, non-default-constructible and reference-returning loads all work, alone
//         and shared.
TEST(group, values_of_every_kind) {
  struct exact {
    explicit exact(int n) : number(n) {}
    exact(const exact&) = delete;
    exact(exact&&) = default;
    int number;
  };
  sf::group<int, void> nothing;
  int calls = 0;
  auto done = nothing.run(1, [&] { ++calls; });
  EXPECT_EQ(calls, 1);
  EXPECT_EQ(done.callers(), 1U);
  auto ignored = nothing.run(1, [&] { return ++calls; });
  EXPECT_EQ(calls, 2);
  EXPECT_FALSE(ignored.shared());

  sf::group<int, std::unique_ptr<int>> unique;
  EXPECT_EQ(**unique.run(1, [] { return std::make_unique<int>(5); }), 5);
  EXPECT_EQ(**unique.start(1, [] { return std::make_unique<int>(6); }).get(), 6);

  sf::group<int, exact> exacts;
  EXPECT_EQ(exacts.run(1, [] { return exact(3); })->number, 3);
  EXPECT_EQ(
      exacts.start(1, [](sf::flight_promise<exact> p) { p.set_value(exact(4)); }).get()->number, 4);

  const std::string kept = "kept";
  sf::group<int, std::string> strings;
  EXPECT_EQ(*strings.run(1, [&]() -> const std::string& { return kept; }), "kept");
  EXPECT_EQ(*strings.run(1, [] { return "a literal"; }), "a literal");
}

// Goal    The same kinds of values reach a joiner.
TEST(group, values_of_every_kind_are_shared) {
  sf::group<int, void> nothing;
  sf::group<int, std::unique_ptr<int>> unique;
  const auto twice = [](auto& flights, auto load, auto look) {
    std::atomic<int> loads{0};
    std::vector<std::jthread> threads;
    for (int i = 0; i < 2; ++i) {
      threads.emplace_back([&] {
        auto r = flights.run(1, [&] {
          ++loads;
          support::until_callers(flights, 2);
          return load();
        });
        EXPECT_TRUE(r.shared());
        look(r);
      });
    }
    threads.clear();
    EXPECT_EQ(loads, 1);
  };
  twice(
      nothing, [] {}, [](auto&) {});
  twice(
      unique, [] { return std::make_unique<int>(8); }, [](auto& r) { EXPECT_EQ(**r, 8); });
}

// Goal    run may borrow everything: a value on the stack, by reference, from a loader that cannot
//         be moved.
TEST(group, run_borrows_its_arguments) {
  struct immovable {
    immovable() = default;
    immovable(const immovable&) = delete;
    immovable& operator=(const immovable&) = delete;
    int operator()() { return ++count; }
    int count = 0;
  } load;
  sf::group<int, int> flights;
  EXPECT_EQ(*flights.run(1, load), 1);
  EXPECT_EQ(*flights.run(1, load, {}), 2);
  EXPECT_EQ(*flights.run_fresh(1, load), 3);
  EXPECT_EQ(**flights.run(sf::as_outcome, 1, load), 4);
}

// Goal    Limits that have expired already end the call at once, in either role, and nothing is
//         loaded.
TEST(group, expired_limits_load_nothing) {
  sf::manual_timer time;
  sf::group<int, int> flights({.timer = &time});
  std::stop_source stopped;
  stopped.request_stop();
  int loads = 0;
  const auto load = [&] { return ++loads; };
  EXPECT_EQ(flights.run(sf::as_outcome, 1, load, {.deadline = time.now()}).errc(),
            sf::flight_errc::timed_out);
  EXPECT_EQ(flights.run(sf::as_outcome, 1, load, {.stop = stopped.get_token()}).errc(),
            sf::flight_errc::cancelled);
  EXPECT_EQ(flights.run_fresh(sf::as_outcome, 1, load, {.deadline = time.now() - 1h}).errc(),
            sf::flight_errc::timed_out);
  try {
    (void)flights.run(1, load, {.deadline = time.now()});
    ADD_FAILURE();
  } catch (const sf::flight_error& e) {
    EXPECT_EQ(e.errc(), sf::flight_errc::timed_out);
  }
  EXPECT_EQ(loads, 0);
  EXPECT_EQ(flights.stats().calls, 4U);
  EXPECT_EQ(flights.stats().timed_out, 3U);
  EXPECT_EQ(flights.stats().cancelled, 1U);
  EXPECT_EQ(*flights.run(1, load, {.deadline = time.now() + 1ns}), 1);
}

// Goal    A joiner's deadline ends only its own wait; it is counted once; the leader is not
//         affected.
TEST(group, a_joiner_leaves_at_its_deadline) {
  sf::manual_timer time;
  sf::group<int, int> flights({.timer = &time});
  support::gate hold;
  std::jthread leader([&] {
    auto r = flights.run(1, [&] {
      hold.wait();
      return 5;
    });
    EXPECT_EQ(*r, 5);
    EXPECT_EQ(r.callers(), 1U);
    EXPECT_FALSE(r.shared());
  });
  hold.await_arrivals();
  const auto deadline = time.now() + 1s;
  std::jthread joiner([&] {
    EXPECT_EQ(flights.run(sf::as_outcome, 1, [] { return 6; }, {.deadline = deadline}).errc(),
              sf::flight_errc::timed_out);
  });
  support::until_callers(flights, 2);
  time.advance(999ms);
  EXPECT_EQ(support::callers_inside(flights), 2U);
  time.advance(1ms);
  joiner.join();
  EXPECT_EQ(support::callers_inside(flights), 1U);
  EXPECT_EQ(flights.stats().timed_out, 1U);
  EXPECT_EQ(flights.stats().abandoned, 0U);
  hold.open();
}

// Goal    A joiner's stop token ends only its own wait.
TEST(group, a_joiner_leaves_when_its_token_fires) {
  sf::group<int, int> flights;
  support::gate hold;
  std::jthread leader([&] {
    EXPECT_EQ(*flights.run(1,
                           [&] {
                             hold.wait();
                             return 5;
                           }),
              5);
  });
  hold.await_arrivals();
  std::stop_source stop;
  std::jthread joiner([&] {
    EXPECT_EQ(flights.run(sf::as_outcome, 1, [] { return 6; }, {.stop = stop.get_token()}).errc(),
              sf::flight_errc::cancelled);
  });
  support::until_callers(flights, 2);
  stop.request_stop();
  joiner.join();
  EXPECT_EQ(support::callers_inside(flights), 1U);
  EXPECT_EQ(flights.stats().cancelled, 1U);
  hold.open();
}

// Goal    stats() counts every call once, whatever its form and role.
TEST(group, stats_count_every_call_once) {
  support::manual_executor queue;
  sf::manual_timer time;
  sf::group<int, int> flights({.executor = queue, .timer = &time});
  std::stop_source never;
  const auto load = [] { return 1; };
  std::uint64_t calls = 0;
  const auto expect = [&](const char* form) {
    const auto s = flights.stats();
    EXPECT_EQ(s.calls, ++calls) << form;
    EXPECT_EQ(s.loads, calls) << form;
    EXPECT_EQ(s.joined, 0U) << form;
  };
  (void)flights.run(1, load);
  expect("run");
  (void)flights.run(1, load, {.deadline = time.now() + 1s});
  expect("run with a deadline");
  (void)flights.run(1, load, {.stop = never.get_token()});
  expect("run with a stop token");
  (void)flights.run(sf::as_outcome, 1, load);
  expect("run as_outcome");
  (void)flights.run_fresh(1, load);
  expect("run_fresh");
  auto f = flights.start(1, load);
  queue.run_all();
  (void)f.get();
  expect("start");
  auto g = flights.start_fresh(1, load);
  queue.run_all();
  (void)g.get();
  expect("start_fresh");
  (void)flights.run_many(std::vector{1},
                         [](std::span<const int>) { return std::vector<sf::outcome<int>>{1}; });
  expect("run_many");
  auto h = flights.start_many(
      std::vector{1}, [](std::span<const int>) { return std::vector<sf::outcome<int>>{1}; });
  queue.run_all();
  (void)h[0].get();
  expect("start_many");
}

// Goal    The same where an option needs a block or a clock for every load.
TEST(group, stats_count_every_call_once_with_a_load_timeout) {
  sf::manual_timer time;
  sf::group<int, int> flights({.timer = &time, .load_timeout = 1s});
  (void)flights.run(1, [] { return 1; });
  EXPECT_EQ(flights.stats().calls, 1U);
  EXPECT_EQ(flights.stats().loads, 1U);
  (void)flights.run_many(std::vector{1, 2}, [](std::span<const int>) {
    return std::vector<sf::outcome<int>>{1, 2};
  });
  EXPECT_EQ(flights.stats().calls, 3U);
  EXPECT_EQ(flights.stats().loads, 3U);
}

// Goal    observe() visits every counter of stats() by its name.
TEST(group, observe_visits_every_counter) {
  sf::group<int, int> flights;
  (void)flights.run(1, [] { return 1; });
  struct collector : sf::metric_visitor {
    void visit(std::string_view name, sf::metric_kind kind, double value) override {
      EXPECT_EQ(kind, sf::metric_kind::counter);
      seen.emplace_back(name, value);
    }
    std::vector<std::pair<std::string, double>> seen;
  } all;
  static_cast<const sf::observable&>(flights).observe(all);
  const std::vector<std::pair<std::string, double>> expected{
      {"calls", 1},     {"loads", 1},     {"joined", 0},    {"handed_over", 0},
      {"abandoned", 0}, {"timed_out", 0}, {"cancelled", 0}, {"overloaded", 0},
      {"recursive", 0}, {"broken", 0},    {"closed", 0},    {"rejected", 0}};
  EXPECT_EQ(all.seen, expected);
}

}  // namespace
