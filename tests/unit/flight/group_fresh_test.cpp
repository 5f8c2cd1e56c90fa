// SPDX-License-Identifier: Apache-2.0

// run_fresh, start_fresh and drain: loads that begin after the call, behind a running one.

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <optional>
#include <stop_token>
#include <thread>
#include <utility>
#include <vector>

#include "support/eventually.hpp"
#include "support/executors.hpp"
#include "support/gate.hpp"
#include "support/held_leader.hpp"
#include "support/task.hpp"
#include <singleflight/core/manual_timer.hpp>
#include <singleflight/flight.hpp>

namespace {

using namespace std::chrono_literals;
using singleflight::abandon;
using singleflight::as_outcome;
using singleflight::flight_context;
using singleflight::flight_errc;
using singleflight::flight_role;
using support::held_leader;
using group = singleflight::group<int, int>;

/// Counts the loads that run at once.
struct open_loads {
  std::atomic<int> now{0};
  std::atomic<int> most{0};
  std::atomic<int> total{0};

  struct one {
    explicit one(open_loads& a) : all(a) {
      ++all.total;
      const int open = ++all.now;
      int seen = all.most;
      while (seen < open && !all.most.compare_exchange_weak(seen, open)) {
      }
    }
    one(const one&) = delete;
    one& operator=(const one&) = delete;
    ~one() { --all.now; }
    open_loads& all;
  };
};

bool until_calls(const group& g, std::uint64_t n) {
  return support::eventually([&] { return g.stats().calls == n; }, "the calls");
}

// Goal    Read your writes: a load of run_fresh sees what was written before the call, though an
//         older load was running; M such callers share one load, which never overlaps the old one.
// Method  The old load has read the old value and is held until all M callers are inside, in every
//         form.
TEST(fresh, sees_an_earlier_write_and_is_shared) {  // Scenario 19
  group g;
  open_loads loads;
  std::atomic<int> database{1};
  support::gate hold;
  std::jthread old([&] {
    const auto read = [&] {
      const open_loads::one open(loads);
      const int before = database;
      hold.wait();
      return before;
    };
    EXPECT_EQ(*g.run(1, read), 1);
  });
  hold.await_arrivals();
  database = 2;
  const auto read = [&] {
    const open_loads::one open(loads);
    return database.load();
  };
  std::atomic<int> twos{0};
  std::atomic<int> leaders{0};
  std::vector<std::jthread> blocked;
  for (int i = 0; i < 4; ++i) {
    blocked.emplace_back([&] {
      const auto r = g.run_fresh(1, read);
      twos += *r == 2;
      leaders += r.role() == flight_role::leader;
      EXPECT_EQ(r.callers(), 7u);
    });
  }
  auto f = g.start_fresh(1, read);
  auto f2 = g.start_fresh(1, read);
  [](group& in, auto load, std::atomic<int>& sum) -> support::detached {
    auto mine = in.start_fresh(1, load);
    sum += *co_await mine == 2;
  }(g, read, twos);
  ASSERT_TRUE(until_calls(g, 8));
  EXPECT_EQ(loads.total, 1);
  hold.open();
  blocked.clear();
  old.join();
  EXPECT_EQ(*f.get(), 2);
  EXPECT_EQ(*f2.get(), 2);
  EXPECT_TRUE(support::eventually([&] { return twos == 5; }, "the coroutine"));
  EXPECT_EQ(loads.total, 2);
  EXPECT_EQ(loads.most, 1) << "two loads of one key at once";
  EXPECT_LE(leaders, 1);
  EXPECT_TRUE(g.in_flight().empty());
}

// Goal    With no flight on the key, run_fresh and start_fresh lead like run and start.
TEST(fresh, alone_leads_at_once) {
  group g;
  const auto r = g.run_fresh(1, [] { return 3; });
  EXPECT_EQ(*r, 3);
  EXPECT_EQ(r.role(), flight_role::leader);
  auto f = g.start_fresh(1, [] { return 4; });
  EXPECT_EQ(*f.get(), 4);
  EXPECT_EQ(g.stats().loads, 2u);
}

// Goal    A plain run that arrives while a successor is pending joins the running load (P1).
TEST(fresh, plain_callers_still_join_the_running_load) {
  group g;
  held_leader old(g);
  auto fresh = g.start_fresh(1, [] { return 2; });
  auto plain = g.start(1, [] { return 3; });
  EXPECT_EQ(plain.wait_for(0ns), false);
  old.finish.open();
  EXPECT_EQ(*plain.get(), 1);
  EXPECT_EQ(*fresh.get(), 2);
  EXPECT_EQ(g.stats().loads, 2u);
}

// Goal    forget lets the callers behind begin at once: their load runs concurrently with the
//         forgotten one.
TEST(fresh, forget_lets_the_successor_begin) {
  group g;
  held_leader old(g);
  auto fresh = g.start_fresh(1, [] { return 2; });
  EXPECT_FALSE(fresh.ready());
  EXPECT_TRUE(g.forget(1));
  EXPECT_EQ(*fresh.get(), 2);
  EXPECT_FALSE(old.got.has_value());
  old.finish.open();
  old.thread.join();
  EXPECT_EQ(old.got, 1);
}

// Goal    forget_all forgets the flights that were there when it was called, and not their
//         successors as well.
TEST(fresh, forget_all_spares_the_promoted_successor) {
  group g;
  held_leader old(g);
  support::gate running;
  support::gate finish;
  auto fresh = g.start_fresh(1, [&] {
    running.open();
    finish.wait();
    return 2;
  });
  EXPECT_EQ(g.forget_all(), 1u);
  running.wait();
  auto joined = g.start(1, [] { return 3; });
  EXPECT_EQ(support::callers_inside(g), 2u) << "the successor was forgotten too";
  finish.open();
  EXPECT_EQ(*joined.get(), 2);
  EXPECT_EQ(*fresh.get(), 2);
  old.finish.open();
}

// Goal    A successor survives the failure of the load ahead of it.
TEST(fresh, load_ahead_fails) {
  group g;
  support::gate running;
  support::gate fail;
  std::jthread old([&] {
    EXPECT_THROW((void)g.run(1,
                             [&]() -> int {
                               running.open();
                               fail.wait();
                               throw 5;
                             }),
                 int);
  });
  running.wait();
  auto fresh = g.start_fresh(1, [] { return 2; });
  std::jthread blocked([&] { EXPECT_EQ(*g.run_fresh(1, [] { return 2; }), 2); });
  ASSERT_TRUE(until_calls(g, 3));
  fail.open();
  EXPECT_EQ(*fresh.get(), 2);
  blocked.join();
  EXPECT_EQ(g.stats().loads, 2u);
}

// Goal    Candidates that leave before their turn pass it on; when all have left, nothing is
//         loaded.
TEST(fresh, leaving_candidates_pass_the_turn_on) {
  for (const bool all_leave : {false, true}) {
    support::manual_executor later;
    group g({.executor = later});
    held_leader old(g);
    std::atomic<int> wrong{0};
    std::stop_source stop;
    std::jthread stopped([&] {
      EXPECT_EQ(
          g.run_fresh(as_outcome, 1, [&] { return ++wrong; }, {.stop = stop.get_token()}).errc(),
          flight_errc::cancelled);
    });
    ASSERT_TRUE(until_calls(g, 2));
    std::optional dropped(g.start_fresh(1, [&] { return ++wrong; }));
    std::optional<singleflight::flight<int>> stays;
    if (!all_leave) stays.emplace(g.start_fresh(1, [] { return 8; }));
    stop.request_stop();
    stopped.join();
    dropped.reset();
    old.finish.open();
    old.thread.join();
    later.run_all();
    if (stays) {
      EXPECT_EQ(*stays->get(), 8);
    }
    EXPECT_EQ(wrong, 0);
    EXPECT_TRUE(g.in_flight().empty());
    EXPECT_EQ(g.stats().loads, all_leave ? 1u : 2u);
  }
}

// Goal    A fresh call within the load that it would wait behind can never begin: `recursive`.
TEST(fresh, within_the_load_ahead_is_recursive) {
  group g;
  EXPECT_EQ(*g.run(1,
                   [&] {
                     const auto o = g.run_fresh(as_outcome, 1, [] { return 9; });
                     return o.errc() == flight_errc::recursive ? 1 : 2;
                   }),
            1);
  EXPECT_TRUE(g.in_flight().empty());
}

// Goal    With `drain`, an abandoned load is asked to stop and stays as a barrier: a newcomer's
//         load begins only after the old one has ended.
TEST(drain, newcomers_wait_for_the_abandoned_load) {  // Scenario 4
  group g({.on_abandon = abandon::drain});
  open_loads loads;
  support::gate running;
  support::gate finish;
  auto f = g.start(1, [&](flight_context& context) {
    const open_loads::one open(loads);
    running.open();
    finish.wait();
    EXPECT_TRUE(context.stop_token().stop_requested());
    EXPECT_TRUE(context.forgotten()) << "newcomers no longer join it";
    return 1;
  });
  running.wait();
  { const auto dropped = std::move(f); }
  EXPECT_EQ(g.stats().abandoned, 1u);
  const auto load = [&] {
    const open_loads::one open(loads);
    return 2;
  };
  std::atomic<int> twos{0};
  std::jthread blocked([&] { twos += *g.run(1, load) == 2; });
  std::jthread blocked2([&] { twos += *g.run_fresh(1, load) == 2; });
  ASSERT_TRUE(until_calls(g, 3));
  auto started = g.start(1, load);
  EXPECT_FALSE(started.ready());
  EXPECT_EQ(loads.total, 1);
  finish.open();
  EXPECT_EQ(*started.get(), 2);
  blocked.join();
  blocked2.join();
  EXPECT_EQ(twos, 2);
  EXPECT_EQ(loads.total, 2);
  EXPECT_EQ(loads.most, 1);
  EXPECT_TRUE(g.in_flight().empty());
}

// Goal    With `drain`, callers behind a barrier that all leave again leave no trace; the barrier
//         ends and the key is free.
TEST(drain, successor_without_callers_ends) {
  group g({.on_abandon = abandon::drain});
  support::gate running;
  support::gate finish;
  auto f = g.start(1, [&] {
    running.open();
    finish.wait();
    return 1;
  });
  running.wait();
  { const auto dropped = std::move(f); }
  std::atomic<int> wrong{0};
  {
    const auto left = g.start(1, [&] { return ++wrong; });
  }
  {
    const auto left = g.start(1, [&] { return ++wrong; });
  }
  finish.open();
  ASSERT_TRUE(support::until_flights(g, 0));
  EXPECT_EQ(*g.run(1, [] { return 5; }), 5);
  EXPECT_EQ(wrong, 0);
}

// Goal    With `finish`, an abandoned load continues undisturbed, and a newcomer joins it.
TEST(finish, newcomer_joins_the_abandoned_load) {  // Scenario 4
  group g({.on_abandon = abandon::finish});
  support::gate running;
  support::gate finish;
  auto f = g.start(1, [&](flight_context& context) {
    running.open();
    finish.wait();
    EXPECT_FALSE(context.stop_token().stop_requested());
    EXPECT_FALSE(context.forgotten());
    return 1;
  });
  running.wait();
  { const auto dropped = std::move(f); }
  EXPECT_EQ(support::callers_inside(g), 0u);
  auto joined = g.start(1, [] { return 2; });
  EXPECT_EQ(support::callers_inside(g), 1u);
  finish.open();
  EXPECT_EQ(*joined.get(), 1);
  EXPECT_EQ(g.stats().loads, 1u);
}

// Goal    With `finish`, a load still in the executor's queue is loaded even though its caller has
//         left; with `stop` and `drain` it never begins.
TEST(finish, queued_load_without_callers) {
  for (const abandon policy : {abandon::finish, abandon::stop, abandon::drain}) {
    support::manual_executor later;
    group g({.executor = later, .on_abandon = policy});
    int loads = 0;
    {
      const auto dropped = g.start(1, [&] { return ++loads; });
    }
    later.run_all();
    EXPECT_EQ(loads, policy == abandon::finish ? 1 : 0);
    EXPECT_TRUE(g.in_flight().empty());
    EXPECT_EQ(g.stats().loads, policy == abandon::finish ? 1u : 0u);
  }
}

// Goal    A start_fresh that is called just as a bucket stops being empty gets a turn.
// Method  Two threads, one key, many times: the thread that finds the bucket empty may lose it to
//         the other.
TEST(fresh, start_fresh_races_another_leader) {
  for (int turn = 0; turn < 3000; ++turn) {
    group g;
    std::atomic<int> ready{0};
    const auto meet = [&ready] {
      ++ready;
      while (ready < 2) std::this_thread::yield();
    };
    std::jthread other([&] {
      meet();
      (void)g.run(1, [] { return 1; });
    });
    meet();
    auto f = g.start_fresh(1, [] { return 2; });
    ASSERT_TRUE(f.wait_for(support::patience)) << "turn " << turn;
    EXPECT_EQ(*f.get(), 2);
  }
}

}  // namespace
