// SPDX-License-Identifier: Apache-2.0

// Callers whose wait has been cancelled while the executor that is to resume them stalls: from the
// verdict on they count nowhere (P4, scenario 52).

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <coroutine>
#include <memory>
#include <optional>
#include <stop_token>
#include <thread>
#include <utility>
#include <vector>

#include "support/death.hpp"
#include "support/eventually.hpp"
#include "support/executors.hpp"
#include "support/gate.hpp"
#include "support/task.hpp"
#include <singleflight/core/manual_timer.hpp>
#include <singleflight/flight.hpp>

namespace {

using namespace std::chrono_literals;
using singleflight::abandon;
using singleflight::flight_errc;
using singleflight::limits;
using group = singleflight::group<int, int>;
using result = singleflight::outcome<singleflight::shared_result<int>>;

enum class form { coroutine, on_home, callback, callback_on_home };
constexpr form forms[] = {form::coroutine, form::on_home, form::callback, form::callback_on_home};

/// A group, and executors that keep the loads and the resumptions until the test runs them.
struct stalled_fixture {
  explicit stalled_fixture(singleflight::group_options options = {}) {
    options.timer = &time;
    options.executor = stalled;
    g.emplace(std::move(options));
  }
  /// A caller that waits in form `how`, until a second has passed or `stop` is requested.
  template <class Load>
  void wait(form how, int key, Load load) {
    ++waiting;
    auto f = g->start(key, std::move(load));
    const auto keep = [this](const result& got) { ended.push_back(got.errc()); };
    const auto deadline = time.now() + 1s;
    switch (how) {
      case form::coroutine: frames.push_back(on(std::move(f), true)); break;
      case form::on_home: frames.push_back(on(std::move(f), false)); break;
      case form::callback: f.until(deadline, stop.get_token()).on(named).on_ready(keep); break;
      case form::callback_on_home: f.until(deadline, stop.get_token()).on_ready(keep); break;
    }
  }
  support::owned on(singleflight::flight<int> f, bool elsewhere) {
    auto mine = std::move(f);
    const auto deadline = time.now() + 1s;
    if (elsewhere) {
      ended.push_back(
          (co_await mine.until(deadline, stop.get_token()).on(named).as_outcome()).errc());
    } else {
      ended.push_back((co_await mine.until(deadline, stop.get_token()).as_outcome()).errc());
    }
  }
  flight_errc cancel(bool by_deadline) {
    if (by_deadline) {
      time.advance(1s);
      return flight_errc::timed_out;
    }
    stop.request_stop();
    return flight_errc::cancelled;
  }
  void resume() {
    named.run_all();
    stalled.run_all();
  }

  singleflight::manual_timer time;
  support::manual_executor stalled;
  support::manual_executor named;
  std::stop_source stop;
  int waiting = 0;
  std::vector<std::optional<flight_errc>> ended;
  std::optional<group> g;
  std::vector<support::owned> frames;
};

/// A thread that leads key 1 by run() until it is released.
struct leader {
  explicit leader(group& in)
      : thread([this, &in] {
          auto got = in.run(1, [this] {
            hold.wait();
            return 1;
          });
          callers = got.callers();
          shared = got.shared();
          taken = std::move(got).try_take().has_value();
        }) {
    hold.await_arrivals();
  }
  void finish() {
    hold.open();
    thread.join();
  }
  support::gate hold;
  std::size_t callers = 0;
  bool shared = true;
  bool taken = false;
  std::thread thread;
};

// Goal    The outcome does not count cancelled callers: not in callers(), shared() or try_take() of
//         the caller that has it.
TEST(cancelled_waiter, is_not_in_the_outcome) {
  for (const form how : forms) {
    for (const bool by_deadline : {false, true}) {
      stalled_fixture at;
      leader leads(*at.g);
      at.wait(how, 1, [] { return 2; });
      EXPECT_EQ(at.g->in_flight().at(0).callers, 2U);
      const flight_errc why = at.cancel(by_deadline);
      EXPECT_EQ(at.g->in_flight().at(0).callers, 1U);
      leads.finish();
      EXPECT_EQ(leads.callers, 1U);
      EXPECT_FALSE(leads.shared);
      EXPECT_TRUE(leads.taken);
      EXPECT_TRUE(at.ended.empty());
      at.resume();
      ASSERT_EQ(at.ended.size(), 1U);
      EXPECT_EQ(at.ended[0], why);
    }
  }
}

// Goal    A cancelled caller gives its place in max_waiters back.
TEST(cancelled_waiter, leaves_its_place_to_another) {
  for (const form how : forms) {
    for (const bool by_deadline : {false, true}) {
      stalled_fixture at({.max_waiters = 1});
      leader leads(*at.g);
      at.wait(how, 1, [] { return 2; });
      EXPECT_EQ(at.g->start(1, [] { return 3; }).get_outcome().errc(), flight_errc::overloaded);
      at.cancel(by_deadline);
      auto another = at.g->start(1, [] { return 3; });
      EXPECT_FALSE(another.ready());
      leads.finish();
      EXPECT_EQ(*another.get(), 1);
      at.resume();
    }
  }
}

// Goal    A load whose last caller is cancelled is asked to stop, and its key is free (P6); after a
//         deadline, stop callbacks do not run on the thread that advances the clock.
// Method  The load runs on a thread of the test, and returns when it is asked to stop.
TEST(cancelled_waiter, keeps_no_load_running) {
  for (const abandon policy : {abandon::stop, abandon::drain}) {
    for (const form how : forms) {
      for (const bool by_deadline : {false, true}) {
        stalled_fixture at({.on_abandon = policy});
        support::gate begun;
        std::atomic<std::thread::id> stopped_on{};
        at.wait(how, 1, [&](std::stop_token token) {
          support::gate stopped;
          const std::stop_callback on_stop(token, [&] {
            stopped_on = std::this_thread::get_id();
            stopped.open();
          });
          begun.open();
          stopped.wait();
          return 1;
        });
        std::thread load([&] { at.stalled.run_one(); });
        begun.wait();
        at.cancel(by_deadline);
        load.join();
        EXPECT_TRUE(at.g->in_flight().empty());
        EXPECT_EQ(stopped_on.load() == std::this_thread::get_id(), !by_deadline);
        at.resume();
        EXPECT_EQ(at.ended.size(), 1U);
      }
    }
  }
}

// Goal    The load has been asked to stop when its last caller returns (P6), however busy the pool
//         is that timeouts use.
// Method  All threads of that pool are blocked in other tasks.
TEST(cancelled_waiter, returns_after_its_load_is_stopped) {
  support::gate busy;
  for (int i = 0; i < 16; ++i) {
    singleflight::detail::timeout_pool().execute(singleflight::task([&] { busy.wait(); }));
  }
  busy.await_arrivals(16);
  stalled_fixture at;
  support::gate hold;
  std::stop_token seen;
  at.wait(form::coroutine, 1, [&](std::stop_token token) {
    seen = std::move(token);
    hold.wait();
    return 1;
  });
  std::thread load([&] { at.stalled.run_one(); });
  hold.await_arrivals();
  at.cancel(true);
  at.named.run_all();
  ASSERT_EQ(at.ended.size(), 1U);
  EXPECT_TRUE(seen.stop_requested());
  hold.open();
  load.join();
  busy.open();
}

// Goal    An abandoned load does not begin; the group can be destroyed before its cancelled callers
//         are resumed (I6, P10).
TEST(cancelled_waiter, outlives_the_group) {
  for (const form how : forms) {
    for (const bool by_deadline : {false, true}) {
      stalled_fixture at;
      bool began = false;
      at.wait(how, 1, [&] {
        began = true;
        return 1;
      });
      support::manual_executor& loads = at.stalled;
      const flight_errc why = at.cancel(by_deadline);
      EXPECT_TRUE(at.g->in_flight().empty());
      EXPECT_EQ(at.g->stats().loads, 0U);
      at.g.reset();
      loads.run_all();
      at.named.run_all();
      EXPECT_FALSE(began);
      ASSERT_EQ(at.ended.size(), 1U);
      EXPECT_EQ(at.ended[0], why);
    }
  }
}

// Goal    A call that arrives before they are resumed starts a new load (P6, stop).
TEST(cancelled_waiter, is_not_joined) {
  stalled_fixture at;
  at.wait(form::coroutine, 1, [] { return 1; });
  at.cancel(true);
  EXPECT_EQ(*at.g->run(1, [] { return 2; }), 2);
  at.resume();
}

// Goal    A load that a caller has left with a flight is destroyed with the caller's verdict: it
//         does not lead after a failure.
TEST(cancelled_waiter, lends_no_load) {
  stalled_fixture at({.on_error = singleflight::error_policy::hand_over(1)});
  support::gate hold;
  std::thread fails([&] {
    EXPECT_THROW((void)at.g->run(1,
                                 [&]() -> int {
                                   hold.wait();
                                   throw 1;
                                 }),
                 int);
  });
  hold.await_arrivals();
  bool led = false;
  const auto load = std::make_shared<int>(2);
  at.wait(form::coroutine, 1, [&led, load] {
    led = true;
    return *load;
  });
  EXPECT_EQ(load.use_count(), 2);
  at.cancel(true);
  EXPECT_TRUE(support::eventually([&] { return load.use_count() == 1; }, "the load's destruction"));
  hold.open();
  fails.join();
  EXPECT_TRUE(at.g->in_flight().empty());
  at.resume();
  EXPECT_FALSE(led);
}

// Goal    The latest deadline of the interested callers is the latest of those that still wait.
TEST(cancelled_waiter, bounds_no_load) {
  stalled_fixture at;
  const auto later = at.time.now() + 5s;
  support::gate hold;
  std::chrono::steady_clock::time_point seen{};
  std::thread leads([&] {
    (void)at.g->run(1,
                    [&](singleflight::flight_context& context) {
                      hold.wait();
                      seen = context.deadline();
                      return 1;
                    },
                    {.deadline = later});
  });
  hold.await_arrivals();
  at.wait(form::coroutine, 1, [] { return 2; });
  at.cancel(true);
  hold.open();
  leads.join();
  EXPECT_EQ(seen, later);
  at.resume();
}

// Goal    A wait that would never end is over with its verdict as well: a load that waits for
//         itself by `within`, on an executor that stalls.
TEST(cancelled_waiter, recursive_counts_no_more) {
  stalled_fixture at;
  std::size_t callers = 0;
  std::optional<flight_errc> how;
  std::optional<support::owned> waits;
  EXPECT_EQ(*at.g->run(1,
                       [&](singleflight::flight_context& context) {
                         waits.emplace(
                             [](auto f, auto& on, const auto& ctx, auto& out) -> support::owned {
                               auto mine = std::move(f);
                               const auto got = co_await mine.within(ctx).on(on).as_outcome();
                               out = got.errc();
                             }(at.g->start(1, [] { return 2; }), at.named, context, how));
                         callers = context.callers();
                         return 1;
                       }),
            1);
  EXPECT_EQ(callers, 1U);
  EXPECT_FALSE(how);
  at.named.run_all();
  EXPECT_EQ(how, flight_errc::recursive);
}

// Goal    When a coroutine is destroyed after its verdict, its handle, which outlives it, is over
//         with that verdict, and counts once as having left.
TEST(cancelled_waiter, destroyed_leaves_a_handle_that_is_over) {
  for (const bool by_deadline : {false, true}) {
    for (const int use : {0, 1, 2, 3}) {
      stalled_fixture at;
      leader leads(*at.g);
      auto f = at.g->start(1, [] { return 2; });
      std::optional<support::owned> waits([](auto& of, auto& fixture) -> support::owned {
        (void)co_await of.until(fixture.time.now() + 1s, fixture.stop.get_token())
            .on(fixture.named)
            .as_outcome();
      }(f, at));
      const flight_errc why = at.cancel(by_deadline);
      waits.reset();
      at.named.run_all();
      EXPECT_EQ(at.g->in_flight().at(0).callers, 1U);
      EXPECT_TRUE(f.ready());
      if (use == 0) {
        EXPECT_EQ(f.get_outcome().errc(), why);
      } else if (use == 1) {
        std::optional<flight_errc> again;
        const auto other = [](auto& of, auto& out) -> support::owned {
          const auto got = co_await of.as_outcome();
          out = got.errc();
        }(f, again);
        EXPECT_EQ(again, why);
      } else if (use == 2) {
        std::optional<flight_errc> again;
        std::move(f).on_ready([&](const result& got) { again = got.errc(); });
        at.stalled.run_all();
        EXPECT_EQ(again, why);
      }
      leads.finish();
      EXPECT_EQ(leads.callers, 1U);
    }
  }
}

// Goal    A blocked thread counts until it has found its limit expired, and no longer: the outcome
//         counts exactly the callers that get it.
// Method  A caller's limit races the end of the load, many times.
TEST(cancelled_waiter, a_thread_counts_with_its_verdict) {
  group g;
  for (int turn = 0; turn < 500; ++turn) {
    std::stop_source stop;
    leader leads(g);
    std::optional<flight_errc> how;
    std::thread joins([&] {
      how = g.run(singleflight::as_outcome, 1, [] { return 2; }, {.stop = stop.get_token()}).errc();
    });
    ASSERT_TRUE(support::eventually([&] { return g.in_flight().at(0).callers == 2; },
                                    "a caller that joins"));
    std::thread stops([&] { stop.request_stop(); });
    leads.finish();
    stops.join();
    joins.join();
    EXPECT_EQ(leads.callers, how ? 1U : 2U);
  }
}

// Goal    max_waiters does not count the leader, but only as long as the leader is there.
TEST(cancelled_waiter, a_leader_that_is_cancelled_frees_no_place) {
  stalled_fixture at({.max_waiters = 2});
  at.wait(form::coroutine, 1, [] { return 1; });  // leads
  auto second = at.g->start(1, [] { return 2; });
  auto third = at.g->start(1, [] { return 3; });
  EXPECT_TRUE(at.g->start(1, [] { return 4; }).ready());  // refused
  at.cancel(true);
  EXPECT_TRUE(at.g->start(1, [] { return 4; }).ready());
  { const auto leaves = std::move(third); }
  auto fourth = at.g->start(1, [] { return 4; });
  EXPECT_FALSE(fourth.ready());
  at.stalled.run_all();
  EXPECT_EQ(*second.get(), 1);
  at.resume();
}

// Goal    Destroying a coroutine while another thread resumes it is refused (P8).
// Method  Its wait resumes another coroutine instead, which destroys it: so it is destroyed after a
//         runner has removed it from the list, and before it continues.
template <class Wait>
struct waiting_in_place_of {
  Wait& wait;
  std::coroutine_handle<> resumed;
  bool await_ready() { return wait.await_ready(); }
  bool await_suspend(std::coroutine_handle<>) { return wait.await_suspend(resumed); }
  auto await_resume() { return wait.await_resume(); }
};
/// Suspends, and stores the handle of the suspended coroutine.
struct named_as {
  std::coroutine_handle<>& name;
  bool await_ready() const noexcept { return false; }
  void await_suspend(std::coroutine_handle<> frame) const noexcept { name = frame; }
  void await_resume() const noexcept {}
};
void destroy_while_it_is_resumed() {
  support::manual_executor ex;
  group g({.executor = ex});
  std::optional<support::owned> victim;
  std::coroutine_handle<> other;
  const auto destroys = [&]() -> support::owned {
    co_await named_as{other};
    victim.reset();
  };
  const support::owned kept = destroys();
  const auto waits = [&]() -> support::owned {
    auto f = g.start(1, [] { return 1; });
    auto wait = f.as_outcome();
    (void)co_await waiting_in_place_of<decltype(wait)>{wait, other};
  };
  victim.emplace(waits());
  ex.run_all();
}
TEST(cancelled_waiter_death, destroyed_while_it_is_resumed) {
  support::die_apart();
  EXPECT_DEATH(destroy_while_it_is_resumed(), "destroyed on one thread while another resumes it");
}

}  // namespace
