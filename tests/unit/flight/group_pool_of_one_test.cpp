// SPDX-License-Identifier: Apache-2.0

// A pool whose only thread waits for what no other thread could run: a load that is ahead of its
// own flight, and waits with limits. (group_pool_claim_test.cpp: the load of its own flight.)

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <stop_token>
#include <thread>
#include <utility>
#include <vector>

#include "support/eventually.hpp"
#include "support/gate.hpp"
#include <singleflight/core/manual_timer.hpp>
#include <singleflight/flight.hpp>

namespace {

using namespace std::chrono_literals;
using singleflight::flight_context;
using singleflight::flight_errc;
using singleflight::group_options;
using singleflight::task;
using singleflight::thread_pool;

/// A pool of one thread, and a way to run code on it.
struct pool_of_one : ::testing::Test {
  using group = singleflight::group<int, int>;
  using flight = singleflight::flight<int>;

  /// Runs `body` on a thread of the pool and returns once it is over.
  template <class Body>
  static void on(thread_pool& pool, Body body) {
    support::gate over;
    pool.execute(task([&] {
      body();
      over.open();
    }));
    over.wait();
  }
  thread_pool pool{{.max_threads = 1}};
};

// Goal    A call that waits behind a queued load runs that load, then its own.
TEST_F(pool_of_one, fresh_behind_a_queued_load) {  // Scenario 49
  group g({.executor = pool});
  on(pool, [&] {
    auto queued = g.start(1, [] { return 1; });
    EXPECT_EQ(*g.run_fresh(1, [] { return 2; }), 2);
    EXPECT_EQ(*queued.get(), 1);
    auto ahead = g.start(2, [] { return 1; });
    auto behind = g.start_fresh(2, [] { return 2; });
    auto joined = g.start_fresh(2, [] { return 3; });
    EXPECT_EQ(*joined.get(), 2);
    EXPECT_EQ(*behind.get(), 2);
    EXPECT_EQ(*ahead.get(), 1);
  });
  EXPECT_EQ(g.stats().loads, 4u) << "each load runs once";
}

// Goal    An abandoned load that has not begun is over: no call waits behind it (P6).
TEST_F(pool_of_one, abandoned_before_it_began) {  // Scenario 49
  for (const auto policy : {singleflight::abandon::drain, singleflight::abandon::stop}) {
    group g({.executor = pool, .on_abandon = policy});
    std::atomic<int> ran{0};
    on(pool, [&] {
      {
        const auto dropped = g.start(1, [&] { return ++ran; });
      }
      EXPECT_TRUE(g.in_flight().empty());
      EXPECT_EQ(*g.run(1, [] { return 2; }), 2);
    });
    on(pool, [] {});  // the tasks that were queued have run
    EXPECT_EQ(ran, 0);
    EXPECT_EQ(g.stats().loads, 1u);
  }
}

// Goal    Under `finish` the load of a dropped handle is still wanted: it runs, and can be joined.
TEST_F(pool_of_one, finish_keeps_an_unbegun_load) {
  group g({.executor = pool, .on_abandon = singleflight::abandon::finish});
  on(pool, [&] {
    {
      const auto dropped = g.start(1, [] { return 1; });
    }
    EXPECT_EQ(*g.run(1, [] { return 2; }), 1);
  });
}

// Goal    A load fails on another thread and is handed over to a kept load, which is queued on the
//         pool whose only thread waits behind that flight: it runs on that thread.
TEST_F(pool_of_one, behind_a_load_that_is_handed_over_to_it) {  // Scenario 49
  group g({.executor = pool, .on_error = singleflight::error_policy::hand_over(1)});
  support::gate runs;
  support::gate fails;
  std::jthread leader([&] {
    EXPECT_THROW((void)g.run(1,
                             [&]() -> int {
                               runs.open();
                               fails.wait();
                               throw std::domain_error("first");
                             }),
                 std::domain_error);
  });
  runs.wait();
  on(pool, [&] {
    auto kept = g.start(1, [] { return 1; });
    std::jthread later([&] { fails.open(); });
    EXPECT_EQ(*g.run_fresh(1, [] { return 2; }), 2);
    EXPECT_EQ(*kept.get(), 1);
  });
}

/// The ways to wait with a limit.
using way_to_wait = int (*)(pool_of_one::group&, pool_of_one::flight);
struct bounded_wait : ::testing::WithParamInterface<std::pair<const char*, way_to_wait>>,
                      pool_of_one {};
std::stop_source& never() {
  static std::stop_source one;
  return one;
}
std::chrono::steady_clock::time_point in_an_hour() { return std::chrono::steady_clock::now() + 1h; }
const std::pair<const char*, way_to_wait> ways[] = {
    {"until",
     [](pool_of_one::group&, pool_of_one::flight f) { return int{*f.until(in_an_hour()).get()}; }},
    {"with_a_token",
     [](pool_of_one::group&, pool_of_one::flight f) {
       return int{*f.until(in_an_hour(), never().get_token()).get()};
     }},
    {"wait_for",
     [](pool_of_one::group&, pool_of_one::flight f) {
       EXPECT_TRUE(f.wait_for(1h));
       return f.ready() ? int{*f.get()} : 0;
     }},
    {"run",
     [](pool_of_one::group& g, pool_of_one::flight) {
       return int{*g.run(1, [] { return 9; }, {.deadline = in_an_hour()})};
     }},
    {"run_many",
     [](pool_of_one::group& g, pool_of_one::flight) {
       const std::vector<int> keys{1};
       const auto got = g.run_many(keys,
                                   [](std::span<const int> k) {
                                     return std::vector<singleflight::outcome<int>>(
                                         k.size(), singleflight::outcome<int>(9));
                                   },
                                   {.deadline = in_an_hour()});
       return int{**got[0]};
     }},
};
INSTANTIATE_TEST_SUITE_P(ways, bounded_wait, ::testing::ValuesIn(ways),
                         [](const auto& of) { return std::string(of.param.first); });

// Goal    A wait with a distant limit runs a load that no thread is free to run.
TEST_P(bounded_wait, runs_a_load_that_no_thread_is_free_for) {  // Scenario 49
  group g({.executor = pool});
  std::thread::id loaded_on;
  on(pool, [&] {
    auto f = g.start(1, [&] {
      loaded_on = std::this_thread::get_id();
      return 7;
    });
    EXPECT_EQ(GetParam().second(g, std::move(f)), 7);
    EXPECT_EQ(loaded_on, std::this_thread::get_id());
  });
}

// Goal    Nested loads on a pool that is too small for them work: the case in which every wait must
//         run the load that it waits for.
TEST_P(bounded_wait, nested_on_a_full_pool) {  // Scenario 49
  thread_pool two({.max_threads = 2});
  singleflight::group<int, int> g({.executor = two});
  struct nested {
    static int load(singleflight::group<int, int>& in, int depth) {
      if (depth == 0) return 0;
      auto f = in.start(depth - 1, [&in, depth] { return load(in, depth - 1); });
      return 1 + *f.until(in_an_hour()).get();
    }
  };
  EXPECT_EQ(nested::load(g, 20), 20);
}

// Goal    Where a thread is on its way to the queued load, a wait with a limit leaves the load to
//         that thread, and so keeps its limit.
TEST_F(pool_of_one, limit_is_kept_while_the_pool_has_threads) {
  thread_pool two({.max_threads = 2});
  singleflight::manual_timer clock;
  group g({.executor = two, .timer = &clock});
  const auto deadline = clock.now() + 1s;
  support::gate finish;
  std::thread::id loaded_on;
  on(two, [&] {
    support::gate running;
    auto f = g.start(1, [&] {
      loaded_on = std::this_thread::get_id();
      running.open();
      finish.wait();
      return 7;
    });
    std::jthread tick([&] {
      running.wait();
      clock.advance(2s);
    });
    EXPECT_EQ(f.until(deadline).get_outcome().errc(), flight_errc::timed_out);
    EXPECT_NE(loaded_on, std::this_thread::get_id());
    finish.open();
  });
}

// Goal    A limit that has expired already ends the wait; no load runs for it.
TEST_F(pool_of_one, no_load_runs_for_a_limit_that_has_passed) {
  group g({.executor = pool});
  std::atomic<int> ran{0};
  on(pool, [&] {
    auto f = g.start(1, [&] { return ++ran; });
    EXPECT_FALSE(f.wait_for(0s));
    EXPECT_FALSE(f.wait_until(std::chrono::steady_clock::now() - 1s));
    EXPECT_EQ(ran, 0);
    EXPECT_EQ(*f.get(), 1);
  });
}

// Goal    The deadline of a wait is advice to the load that it runs.
TEST_F(pool_of_one, deadline_of_the_wait_is_advice_to_the_load) {
  group g({.executor = pool});
  const auto soon = in_an_hour();
  on(pool, [&] {
    auto f = g.start(1, [&](flight_context& ctx) { return ctx.deadline() == soon ? 1 : 2; });
    EXPECT_EQ(*f.until(soon).get(), 1);
  });
}

// Goal    The same on the trampoline of inline_executor, where one of its tasks waits.
TEST_F(pool_of_one, wait_with_a_limit_on_the_trampoline) {  // Scenario 49
  group g({.executor = singleflight::inline_executor});
  int got = 0;
  auto outer = g.start(1, [&] {
    auto f = g.start(2, [] { return 2; });
    return got = *f.until(in_an_hour()).get();
  });
  EXPECT_EQ(*outer.get(), 2);
  EXPECT_EQ(got, 2);
}

}  // namespace
