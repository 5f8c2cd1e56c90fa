// SPDX-License-Identifier: Apache-2.0

// Bounds: on one wait (deadline, stop token) and on a group (max_waiters, max_flights).

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <limits>
#include <memory>
#include <optional>
#include <stdexcept>
#include <stop_token>
#include <thread>
#include <utility>
#include <vector>

#include "support/eventually.hpp"
#include "support/executors.hpp"
#include "support/gate.hpp"
#include "support/held_leader.hpp"
#include "support/sanitizers.hpp"
#include "support/task.hpp"
#include <singleflight/core/manual_timer.hpp>
#include <singleflight/flight.hpp>

namespace {

using namespace std::chrono_literals;
using singleflight::as_outcome;
using singleflight::flight_context;
using singleflight::flight_errc;
using singleflight::flight_role;
using support::held_leader;
using group = singleflight::group<int, int>;
using outcome = singleflight::outcome<singleflight::shared_result<int>>;

constexpr int many_times = support::instrumented ? 500 : 2000;

// Goal    Limits that have expired already end the call at once, in either role and every form, and
//         nothing is loaded.
TEST(limits, expired_already) {
  singleflight::manual_timer time;
  group g({.timer = &time});
  int loads = 0;
  const auto load = [&loads] { return ++loads; };
  std::stop_source stop;
  stop.request_stop();
  const singleflight::limits late{.deadline = time.now()};
  const singleflight::limits stopped{.stop = stop.get_token()};
  EXPECT_EQ(g.run(as_outcome, 1, load, late).errc(), flight_errc::timed_out);
  EXPECT_EQ(g.run(as_outcome, 1, load, stopped).errc(), flight_errc::cancelled);
  EXPECT_EQ(g.run_fresh(as_outcome, 1, load, late).errc(), flight_errc::timed_out);
  EXPECT_THROW((void)g.run(1, load, stopped), singleflight::flight_error);
  const auto load_many = [&loads](std::span<const int> keys) {
    ++loads;
    return std::vector<singleflight::outcome<int>>(keys.size(), 1);
  };
  for (const auto& o : g.run_many(std::vector{1, 2}, load_many, late)) {
    EXPECT_EQ(o.errc(), flight_errc::timed_out);
  }
  {
    const held_leader leader(g);
    EXPECT_EQ(g.run(as_outcome, 1, load, late).errc(), flight_errc::timed_out);
    EXPECT_EQ(g.run(as_outcome, 1, load, stopped).errc(), flight_errc::cancelled);
    EXPECT_EQ(support::callers_inside(g), 1u);
    auto f = g.start(1, load);
    EXPECT_EQ(f.until(time.now()).get_outcome().errc(), flight_errc::timed_out);
    auto f2 = g.start(1, load);
    EXPECT_EQ(f2.until(time.now() + 1h, stop.get_token()).get_outcome().errc(),
              flight_errc::cancelled);
    EXPECT_EQ(support::callers_inside(g), 1u);
  }
  EXPECT_EQ(loads, 0);
  EXPECT_EQ(g.stats().timed_out, 6u);
  EXPECT_EQ(g.stats().cancelled, 4u);
}

// Goal    A limit that expires ends only its own wait, in every form of waiting (P6, P8).
// Method  Manual time; the callers without a limit stay and get the value.
TEST(limits, end_their_own_wait_only) {
  singleflight::manual_timer time;
  group g({.timer = &time});
  std::atomic<int> timed_out{0};
  std::atomic<int> cancelled{0};
  std::atomic<int> values{0};
  const auto count = [&](const outcome& o) {
    timed_out += o.errc() == flight_errc::timed_out;
    cancelled += o.errc() == flight_errc::cancelled;
    values += o.has_value();
  };
  const auto never = [] { return -1; };
  std::stop_source stop;
  const auto deadline = time.now() + 1min;
  std::vector<std::jthread> blocked;
  std::optional<held_leader> leader(std::in_place, g);
  for (int i = 0; i < 3; ++i) {
    blocked.emplace_back([&, i] {
      const std::array bounds{singleflight::limits{.deadline = deadline},
                              singleflight::limits{.stop = stop.get_token()},
                              singleflight::limits{.deadline = time.now() + 1h}};
      count(g.run(as_outcome, 1, never, bounds[static_cast<std::size_t>(i)]));
    });
    [](group& in, int which, auto when, std::stop_token token, auto tell) -> support::detached {
      auto f = in.start(1, [] { return -1; });
      if (which == 0) tell(co_await f.until(when).as_outcome());
      if (which == 1) tell(co_await f.until(when + 1h, token).as_outcome());
      if (which == 2) tell(co_await f.as_outcome());
    }(g, i, deadline, stop.get_token(), count);
    auto f = g.start(1, never);
    if (i == 0) f.until(deadline).on_ready(count);
    if (i == 1) f.until(deadline + 1h, stop.get_token()).on_ready(count);
    if (i == 2) std::move(f).on_ready(count);
  }
  blocked.emplace_back([&] {
    auto f = g.start(1, never);
    count(f.until(deadline).get_outcome());
  });
  blocked.emplace_back([&] {
    auto f = g.start(1, never);
    count(f.until(deadline + 1h, stop.get_token()).get_outcome());
  });
  ASSERT_TRUE(support::until_callers(g, 12));
  time.advance(1min);
  EXPECT_TRUE(support::eventually([&] { return timed_out == 4; }, "four deadlines"));
  stop.request_stop();
  EXPECT_TRUE(support::eventually([&] { return cancelled == 4; }, "four stops"));
  EXPECT_EQ(support::callers_inside(g), 4u);
  EXPECT_EQ(values, 0);
  leader.reset();
  blocked.clear();
  EXPECT_TRUE(support::eventually([&] { return values == 3; }, "three values"));
  EXPECT_EQ(g.stats().timed_out, 4u);
  EXPECT_EQ(g.stats().cancelled, 4u);
  EXPECT_EQ(g.stats().abandoned, 0u);
}

// Goal    A run leader's stop token ends its interest: the last joiner that leaves then stops the
//         load; the leader stays and gets its value (P6).
TEST(limits, leaders_stop_ends_its_interest) {  // Scenario 15
  group g;
  std::stop_source stop;
  support::gate running;
  std::jthread leader([&] {
    const auto r = g.run(1,
                         [&](flight_context& context) {
                           running.open();
                           const std::stop_token token = context.stop_token();
                           support::eventually([&] { return token.stop_requested(); }, "the stop");
                           return 6;
                         },
                         {.stop = stop.get_token()});
    EXPECT_EQ(*r, 6);
    EXPECT_EQ(r.role(), flight_role::leader);
  });
  running.wait();
  std::optional joined(g.start(1, [] { return 0; }));
  EXPECT_EQ(support::callers_inside(g), 2u);
  stop.request_stop();
  EXPECT_EQ(support::callers_inside(g), 1u);
  EXPECT_EQ(g.stats().abandoned, 0u);
  joined.reset();
  EXPECT_EQ(g.stats().abandoned, 1u);
  EXPECT_TRUE(g.in_flight().empty());
}

// Goal    When a cancellation races the completion, there is exactly one outcome, the value or the
//         cancellation; a cancellation that lost is not counted in the statistics, and one that won
//         gets no value (P4).
TEST(limits, cancel_races_completion_blocked) {  // Scenario 16
  group g;
  std::uint64_t cancelled = 0;
  for (int turn = 0; turn < many_times; ++turn) {
    std::stop_source stop;
    std::optional<singleflight::flight_promise<int>> promise;
    support::gate given;
    auto held = g.start(1, [&](singleflight::flight_promise<int> p) {
      promise.emplace(std::move(p));
      given.open();
    });
    given.wait();
    std::atomic<int> here{0};
    const auto meet = [&here] {
      ++here;
      while (here < 3) std::this_thread::yield();  // there may be two processors only
    };
    std::jthread waiter([&] {
      auto f = g.start(1, [] { return 0; });
      meet();
      const auto o =
          f.until(std::chrono::steady_clock::time_point::max(), stop.get_token()).get_outcome();
      if (o.has_value()) {
        EXPECT_EQ(**o, turn);
      } else {
        EXPECT_EQ(o.errc(), flight_errc::cancelled);
        ++cancelled;
      }
    });
    std::jthread stopper([&] {
      meet();
      stop.request_stop();
    });
    meet();
    promise->set_value(turn);
    waiter.join();
    EXPECT_EQ(*held.get(), turn);
  }
  EXPECT_EQ(g.stats().cancelled, cancelled);
  EXPECT_TRUE(g.in_flight().empty());
}

// Goal    The same for coroutines and callbacks, with a deadline and a stop token at once; a
//         cancellation that lost never hides an error of the load.
TEST(limits, cancel_races_completion_async) {  // Scenario 16
  singleflight::manual_timer time;
  for (int turn = 0; turn < many_times; ++turn) {
    auto g = std::make_unique<group>(singleflight::group_options{.timer = &time});
    std::stop_source stop;
    std::optional<singleflight::flight_promise<int>> promise;
    std::atomic<bool> given{false};
    auto held = g->start(1, [&](singleflight::flight_promise<int> p) {
      promise.emplace(std::move(p));
      given = true;
    });
    support::eventually([&] { return given.load(); });
    std::atomic<int> ended{0};
    std::atomic<int> cancelled{0};
    const auto tell = [&](outcome o) {
      if (!o.has_value() && !o.errc()) {
        EXPECT_THROW((void)std::move(o).value(), std::logic_error);
      } else {
        EXPECT_TRUE(o.errc() == flight_errc::cancelled || o.errc() == flight_errc::timed_out);
        ++cancelled;
      }
      ++ended;
    };
    const auto deadline = time.now() + 1s;
    for (int i = 0; i < 2; ++i) {
      [](group& in, auto when, std::stop_token token, auto report) -> support::detached {
        auto f = in.start(1, [] { return 0; });
        report(co_await f.until(when, token).as_outcome());
      }(*g, deadline, stop.get_token(), tell);
    }
    auto called = g->start(1, [] { return 0; });
    called.until(deadline, stop.get_token()).on(singleflight::default_pool()).on_ready(tell);
    std::jthread stopper([&] { stop.request_stop(); });
    std::jthread clock([&] { time.advance(2s); });
    promise->set_error(std::make_exception_ptr(std::logic_error("no")));
    EXPECT_THROW((void)held.get(), std::logic_error);
    ASSERT_TRUE(support::eventually([&] { return ended == 3; }, "three ends"));
    stopper.join();
    clock.join();
    EXPECT_EQ(g->stats().cancelled + g->stats().timed_out,
              static_cast<std::uint64_t>(cancelled.load()));
    EXPECT_TRUE(g->in_flight().empty());
  }
}

// Goal    With more than max_waiters on a flight, a call gets `overloaded` at once, in every form;
//         the callers inside are unharmed, and the place of one that left is free again.
TEST(limits, max_waiters) {  // Scenario 28
  group g({.max_waiters = 2});
  std::optional<held_leader> leader(std::in_place, g);
  const auto never = [] { return -1; };
  auto first = g.start(1, never);
  std::optional second(g.start(1, never));
  EXPECT_EQ(g.run(as_outcome, 1, never).errc(), flight_errc::overloaded);
  EXPECT_THROW((void)g.run(1, never), singleflight::flight_error);
  auto third = g.start(1, never);
  EXPECT_TRUE(third.ready());
  EXPECT_EQ(third.get_outcome().errc(), flight_errc::overloaded);
  const auto many = g.run_many(std::vector{1, 2}, [](std::span<const int> keys) {
    return std::vector<singleflight::outcome<int>>(keys.size(), 7);
  });
  EXPECT_EQ(many[0].errc(), flight_errc::overloaded);
  EXPECT_EQ(**many[1], 7) << "another key is not affected";
  EXPECT_EQ(g.stats().overloaded, 4u);
  second.reset();
  auto again = g.start(1, never);
  EXPECT_FALSE(again.ready());
  leader.reset();
  EXPECT_EQ(*first.get(), 1);
  EXPECT_EQ(*again.get(), 1);
}

// Goal    The largest bound means no bound.
TEST(limits, max_waiters_without_end) {
  support::manual_executor queue;
  group g({.executor = queue, .max_waiters = std::numeric_limits<std::size_t>::max()});
  auto leads = g.start(1, [] { return 1; });
  auto joins = g.start(1, [] { return 2; });
  g.start(1, [] { return 3; }).detach();
  auto last = g.start(1, [] { return 4; });
  queue.run_all();
  EXPECT_EQ(*last.get(), 1);
  EXPECT_EQ(*joins.get(), 1);
}

// Goal    A joiner that has detached waits for nothing, and occupies no place of a waiter.
TEST(limits, max_waiters_spares_the_detached) {
  const auto never = [] { return -1; };
  group g({.max_waiters = 1});
  std::optional<held_leader> leader(std::in_place, g);
  for (int i = 0; i < 3; ++i) g.start(1, never).detach();
  auto first = g.start(1, never);
  EXPECT_FALSE(first.ready()) << "refused although a place is free";
  auto refused = g.start(1, never);
  EXPECT_TRUE(refused.ready());
  leader.reset();
  EXPECT_EQ(refused.get_outcome().errc(), flight_errc::overloaded);
  EXPECT_EQ(*first.get(), 1);
}

// Goal    The first caller behind a load leads later: detached or not, it frees no place for one
//         more.
TEST(limits, max_waiters_counts_a_detached_leader_once) {
  group g({.max_waiters = 1});
  std::optional<held_leader> leader(std::in_place, g);
  g.start_fresh(1, [] { return 2; }).detach();
  auto waits = g.start_fresh(1, [] { return 2; });
  EXPECT_FALSE(waits.ready());
  auto refused = g.start_fresh(1, [] { return 2; });
  EXPECT_TRUE(refused.ready());
  leader.reset();
  EXPECT_EQ(refused.get_outcome().errc(), flight_errc::overloaded);
  EXPECT_EQ(*waits.get(), 2);
}

// Goal    max_waiters bounds the callers in addition to the leader even when the leader's stop has
//         fired, and also the callers of a successor.
TEST(limits, max_waiters_counts_the_same_in_every_state) {
  const auto never = [] { return -1; };
  group g({.max_waiters = 1});
  std::stop_source stop;
  std::optional<held_leader> leader(std::in_place, g, 1,
                                    singleflight::limits{.stop = stop.get_token()});
  auto first = g.start(1, never);
  stop.request_stop();
  EXPECT_EQ(g.run(as_outcome, 1, never).errc(), flight_errc::overloaded)
      << "the stopped leader freed a place for one more";
  auto ahead = g.start_fresh(1, [] { return 2; });
  auto behind = g.start_fresh(1, [] { return 2; });
  auto refused = g.start_fresh(1, [] { return 2; });
  EXPECT_TRUE(refused.ready());
  leader.reset();
  EXPECT_EQ(*first.get(), 1);
  EXPECT_EQ(*ahead.get(), 2);
  EXPECT_EQ(*behind.get(), 2);
}

// Goal    With more than max_flights at a time, a call gets `overloaded`; forgotten flights count
//         until they end, joiners do not count, and every end gives its place back, however it
//         happens.
TEST(limits, max_flights) {
  support::manual_executor later;
  group g({.executor = later, .max_flights = 2});
  const auto one = [] { return 1; };
  auto a = g.start(1, one);
  auto b = g.start(2, one);
  auto joined = g.start(2, one);
  EXPECT_FALSE(joined.ready());
  EXPECT_EQ(g.run(as_outcome, 3, one).errc(), flight_errc::overloaded);
  EXPECT_TRUE(g.forget(1));
  EXPECT_EQ(g.run(as_outcome, 3, one).errc(), flight_errc::overloaded) << "forgotten ones count";
  later.run_all();
  EXPECT_EQ(*a.get(), 1);
  EXPECT_EQ(*b.get(), 1);
  for (int i = 0; i < 10; ++i) {
    EXPECT_EQ(*g.run(3, one), 1);
    EXPECT_THROW((void)g.run(3, []() -> int { throw 1; }), int);
    { const auto dropped = g.start(4, one); }
    auto broken = g.start(5, one);
    later.run_one();  // runs the task of the handle that was dropped unread
    later.drop_one();
    EXPECT_EQ(broken.get_outcome().errc(), flight_errc::broken);
  }
  EXPECT_TRUE(g.in_flight().empty());
  EXPECT_EQ(g.stats().overloaded, 2u);
}

// Goal    A caller behind a load that is forgotten, or given up, begins concurrently with it, and
//         needs a place of its own: without one it gets `overloaded`, as a new call would. Behind a
//         load that ends it takes over that load's place.
TEST(limits, max_flights_holds_behind_a_forgotten_load) {  // Scenario 48
  support::manual_executor later;
  group g({.executor = later, .max_flights = 2});
  std::vector<singleflight::flight<int>> all;
  for (int i = 0; i < 3; ++i) {
    all.push_back(g.start_fresh(1, [] { return 1; }));
    all.push_back(g.start_fresh(1, [] { return 2; }));
    all.push_back(g.start_fresh(1, [] { return 3; }));
    g.forget(1);
  }
  EXPECT_EQ(later.size(), 2u) << "two loads have begun, and no more";
  EXPECT_TRUE(all[3].ready());
  EXPECT_EQ(all[3].get_outcome().errc(), flight_errc::overloaded);
  later.run_all();
  EXPECT_EQ(*all[0].get(), 1);
  EXPECT_EQ(*all[1].get(), 2);
  EXPECT_EQ(*all[2].get(), 2);
  auto ahead = g.start(1, [] { return 4; });
  auto behind = g.start_fresh(1, [] { return 5; });
  auto other = g.start(2, [] { return 6; });
  EXPECT_EQ(g.start(3, [] { return 7; }).get_outcome().errc(), flight_errc::overloaded);
  later.run_all();
  EXPECT_EQ(*ahead.get(), 4);
  EXPECT_EQ(*behind.get(), 5);
  EXPECT_EQ(*other.get(), 6);
  EXPECT_TRUE(g.in_flight().empty());
  auto both = g.start(1, [] { return 8; });
  auto again = g.start(2, [] { return 9; });
  later.run_all();
  EXPECT_EQ(*both.get() + *again.get(), 17) << "every place was given back";
}

// Goal    The same under load_timeout: a load that hangs keeps its place.
TEST(limits, max_flights_holds_behind_a_load_that_timed_out) {  // Scenario 48
  singleflight::manual_timer clock;
  support::manual_executor later;
  group g({.executor = later, .timer = &clock, .load_timeout = 1s, .max_flights = 1});
  support::gate runs;
  support::gate finish;
  auto hangs = g.start(1, [&] {
    runs.open();
    finish.wait();
    return 1;
  });
  std::jthread worker([&] { later.run_one(); });
  runs.wait();
  auto behind = g.start_fresh(1, [] { return 2; });
  clock.advance(2s);
  EXPECT_EQ(behind.get_outcome().errc(), flight_errc::overloaded);
  EXPECT_EQ(hangs.get_outcome().errc(), flight_errc::timed_out);
  finish.open();
}

}  // namespace
