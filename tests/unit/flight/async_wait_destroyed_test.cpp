// SPDX-License-Identifier: Apache-2.0

// Coroutines that are destroyed while they wait for a flight, or while they load one.

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <optional>
#include <stop_token>
#include <thread>
#include <utility>
#include <vector>

#include "support/eventually.hpp"
#include "support/executors.hpp"
#include "support/gate.hpp"
#include "support/task.hpp"
#include <singleflight/core/manual_timer.hpp>
#include <singleflight/flight.hpp>

namespace {

using namespace std::chrono_literals;
using singleflight::flight_errc;
using group = singleflight::group<int, int>;

/// How a coroutine waits.
enum class spelling { plain, outcome, bounded, elsewhere, all };
constexpr spelling spellings[] = {spelling::plain, spelling::outcome, spelling::bounded,
                                  spelling::elsewhere, spelling::all};

struct fixture {
  singleflight::manual_timer time;
  support::manual_executor groups;
  support::manual_executor named;
  std::stop_source stop;
  int resumed = 0;
  int unwound = 0;
  group g{singleflight::group_options{.executor = groups, .timer = &time}};

  /// Where a wait of this spelling resumes.
  support::manual_executor& place(spelling how) {
    return how == spelling::elsewhere || how == spelling::all ? named : groups;
  }

  support::owned waiting(spelling how) {
    struct unwinding {
      int& count;
      ~unwinding() { ++count; }
    } const mark{unwound};
    auto f = g.start(1, [] { return 1; });
    switch (how) {
      case spelling::plain: (void)co_await f; break;
      case spelling::outcome: (void)co_await f.as_outcome(); break;
      case spelling::bounded: (void)co_await f.until(time.now() + 1s, stop.get_token()); break;
      case spelling::elsewhere: (void)co_await f.on(named); break;
      case spelling::all:
        (void)co_await f.until(time.now() + 1s, stop.get_token()).on(named).as_outcome();
        break;
    }
    ++resumed;
  }
};

// Goal    A coroutine that is destroyed while it waits has left: it is not touched later, other
//         callers are unharmed, and its interest has ended (P8).
TEST(destroyed_waiter, while_it_waits) {  // Scenario 28b
  for (const spelling how : spellings) {
    fixture at;
    std::optional<support::owned> first(at.waiting(how));
    std::optional<support::owned> second(at.waiting(how));
    std::optional<support::owned> third(at.waiting(how));
    EXPECT_EQ(support::callers_inside(at.g), 3u);
    second.reset();
    EXPECT_EQ(at.unwound, 1);
    EXPECT_EQ(support::callers_inside(at.g), 2u);
    first.reset();
    EXPECT_EQ(support::callers_inside(at.g), 1u);
    at.groups.run_all();
    at.named.run_all();
    EXPECT_EQ(at.resumed, 1);
    EXPECT_EQ(at.unwound, 3);
    at.time.advance(2s);
    at.stop.request_stop();
    at.named.run_all();
    EXPECT_EQ(at.resumed, 1);
  }
}

// Goal    The destruction of the last waiter abandons the flight like any other leaving (P6).
TEST(destroyed_waiter, last_one_abandons) {
  for (const spelling how : spellings) {
    fixture at;
    std::optional<support::owned> only(at.waiting(how));
    only.reset();
    EXPECT_TRUE(at.g.in_flight().empty());
    EXPECT_EQ(at.g.stats().abandoned, 1u);
    at.groups.run_all();
    EXPECT_EQ(at.g.stats().loads, 0u);
    EXPECT_EQ(at.resumed, 0);
  }
}

// Goal    A coroutine that is destroyed after the outcome was published and before its turn is not
//         resumed; the coroutines before and behind it are.
// Method  The executor holds the resumption until the test has destroyed the waiter in the middle.
TEST(destroyed_waiter, after_ready_before_resumed) {  // Scenario 28b
  for (const spelling how : spellings) {
    fixture at;
    std::optional<support::owned> first(at.waiting(how));
    std::optional<support::owned> second(at.waiting(how));
    std::optional<support::owned> third(at.waiting(how));
    ASSERT_TRUE(at.groups.run_one());  // the load
    EXPECT_EQ(at.resumed, 0);
    second.reset();
    at.place(how).run_all();
    EXPECT_EQ(at.resumed, 2);
    EXPECT_EQ(at.unwound, 3);
  }
}

// Goal    When all of them are destroyed after publication, the queued resumption finds no
//         coroutine, even after the group is destroyed.
TEST(destroyed_waiter, all_after_ready) {
  for (const spelling how : spellings) {
    singleflight::manual_timer time;
    support::manual_executor ex;
    auto g = std::make_unique<group>(singleflight::group_options{.executor = ex, .timer = &time});
    int resumed = 0;
    {
      std::vector<support::owned> all;
      for (int i = 0; i < 3; ++i) {
        all.push_back(
            [](group& in, support::manual_executor on, bool named, int& count) -> support::owned {
              auto f = in.start(1, [] { return 1; });
              if (named) {
                (void)co_await f.on(on);
              } else {
                (void)co_await f;
              }
              ++count;
            }(*g, ex, how == spelling::elsewhere, resumed));
      }
      ASSERT_TRUE(ex.run_one());
      g.reset();
    }
    ex.run_all();
    EXPECT_EQ(resumed, 0);
  }
}

// Goal    The same for a coroutine that a limit had made ready: cancelled or timed out, and
//         destroyed before its turn; the flight continues for the others.
TEST(destroyed_waiter, after_its_limit_expired) {
  for (const bool stopped : {false, true}) {
    for (const spelling how : {spelling::bounded, spelling::all}) {
      fixture at;
      std::optional<support::owned> expired(at.waiting(how));
      std::optional<support::owned> stays(at.waiting(spelling::outcome));
      if (stopped) {
        at.stop.request_stop();
      } else {
        at.time.advance(1s);
      }
      expired.reset();
      EXPECT_EQ(support::callers_inside(at.g), 1u);
      at.named.run_all();
      at.groups.run_all();
      at.named.run_all();
      EXPECT_EQ(at.resumed, 1);
    }
  }
}

// Goal    A waiter may be destroyed by another's resumption in the same batch.
TEST(destroyed_waiter, by_another_waiter) {
  support::manual_executor ex;
  group g({.executor = ex});
  std::vector<support::owned> victim;
  bool victim_resumed = false;
  bool killer_resumed = false;
  const support::owned killer = [](group& in, auto& other, bool& done) -> support::owned {
    auto f = in.start(1, [] { return 1; });
    (void)co_await f;
    other.clear();
    done = true;
  }(g, victim, killer_resumed);
  victim.push_back([](group& in, bool& done) -> support::owned {
    auto f = in.start(1, [] { return 1; });
    (void)co_await f;
    done = true;
  }(g, victim_resumed));
  ex.run_all();
  EXPECT_TRUE(killer_resumed);
  EXPECT_FALSE(victim_resumed);
}

// Goal    A coroutine may be destroyed on its own executor while its deadline and its stop token
//         fire on other threads (P8).
// Method  The destruction, the clock and the stop race, many times.
TEST(destroyed_waiter, races_its_limits) {
  singleflight::manual_timer time;
  support::manual_executor ex;
  for (int turn = 0; turn < 2000; ++turn) {
    group g({.executor = ex, .timer = &time});
    std::stop_source stop;
    auto stays = g.start(1, [] { return 1; });
    std::optional<support::owned> waiter(
        [](group& in, auto when, std::stop_token token) -> support::owned {
          auto f = in.start(1, [] { return 1; });
          (void)co_await f.until(when, token).as_outcome();
        }(g, time.now() + 1s, stop.get_token()));
    std::jthread stopper([&] { stop.request_stop(); });
    std::jthread clock([&] { time.advance(1s); });
    waiter.reset();
    stopper.join();
    clock.join();
    ex.run_all();
    EXPECT_EQ(*stays.get(), 1);
  }
}

// Goal    An awaitable loader whose coroutine is destroyed before its end is `broken` (P5), and the
//         key is free.
TEST(destroyed_loader, coroutine_destroyed_while_it_loads) {  // Scenarios 6 and 9
  group g({.executor = singleflight::inline_executor});
  support::suspension place;
  auto f = g.start(1, [&place]() -> support::lazy<int> {
    co_await place;
    co_return 1;
  });
  ASSERT_TRUE(place.taken());
  EXPECT_FALSE(f.ready());
  // The loader's frame belongs to the lazy<> that is stored in the library's own frame, which is
  // suspended in it.
  place.resume();
  EXPECT_EQ(*f.get(), 1);
  struct destroys_awaiter {  // an awaitable that destroys the coroutine that awaits it
    bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<> frame) const { frame.destroy(); }
    int await_resume() const noexcept { return 1; }
  };
  auto broken = g.start(1, [] { return destroys_awaiter{}; });
  EXPECT_EQ(broken.get_outcome().errc(), flight_errc::broken);
  EXPECT_EQ(*g.run(1, [] { return 5; }), 5);
}

// Goal    Dropping a handle after its flight is done, and after the group is destroyed, is
//         harmless.
TEST(destroyed_waiter, handle_outlives_the_group) {
  std::vector<singleflight::flight<int>> handles;
  {
    group g;
    for (int i = 0; i < 10; ++i) handles.push_back(g.start(i, [i] { return i; }));
  }
  EXPECT_TRUE(handles[3].ready());
  const auto o = handles[3].get_outcome();
  EXPECT_TRUE(o.has_value() || o.errc() == flight_errc::closed);
}

}  // namespace
