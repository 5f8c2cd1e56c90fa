// SPDX-License-Identifier: Apache-2.0

// What a load can query of its own flight: stop token, deadline, callers, id, forgotten.

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <mutex>
#include <optional>
#include <set>
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
using singleflight::abandon;
using singleflight::flight_context;
using group = singleflight::group<int, int>;
constexpr auto never = std::chrono::steady_clock::time_point::max();

// Goal    Alone, a load sees one caller, that caller's deadline, a token that has not fired, an id,
//         and that it is not forgotten.
TEST(flight_context, alone) {
  singleflight::manual_timer time;
  group g({.timer = &time});
  const auto deadline = time.now() + 5s;
  std::uint64_t id = 0;
  const auto look = [&](flight_context& context) {
    EXPECT_EQ(context.callers(), 1u);
    EXPECT_FALSE(context.forgotten());
    EXPECT_FALSE(context.stop_token().stop_requested());
    EXPECT_EQ(context.callers(), 1u) << "after the token was made";
    id = context.flight_id();
    return 1;
  };
  (void)g.run(1, [&](flight_context& context) {
    EXPECT_EQ(context.deadline(), never);
    EXPECT_EQ(g.in_flight().at(0).flight_id, context.flight_id());
    return look(context);
  });
  const std::uint64_t first = id;
  EXPECT_NE(first, 0u);
  (void)g.run(1,
              [&](flight_context& context) {
                EXPECT_EQ(context.deadline(), deadline);
                look(context);
                EXPECT_EQ(context.deadline(), deadline) << "after the token was made";
                return 1;
              },
              {.deadline = deadline});
  EXPECT_NE(id, first) << "ids are never reused";
  auto f = g.start(1, [&](flight_context& context) {
    EXPECT_EQ(context.deadline(), never);
    return look(context);
  });
  (void)f.get();
}

// Goal    deadline() is the latest deadline of the interested callers, and callers() counts them,
//         both as callers come and leave (one without a deadline makes it time_point::max()).
TEST(flight_context, deadline_and_callers_follow_the_interested) {
  singleflight::manual_timer time;
  group g({.timer = &time});
  const auto at = [start = time.now()](auto after) { return start + after; };
  support::gate running;
  support::gate finish;
  const flight_context* seen = nullptr;
  std::jthread leader([&] {
    (void)g.run(1,
                [&](flight_context& context) {
                  seen = &context;
                  running.open();
                  finish.wait();
                  return 1;
                },
                {.deadline = at(5s)});
  });
  running.wait();
  const flight_context& context = *seen;
  EXPECT_EQ(context.deadline(), at(5s));
  std::stop_source stop;
  std::jthread later([&] {
    (void)g.run(singleflight::as_outcome, 1, [] { return 0; },
                {.deadline = at(9s), .stop = stop.get_token()});
  });
  ASSERT_TRUE(support::eventually([&] { return context.deadline() == at(9s); }, "9 s"));
  EXPECT_EQ(context.callers(), 2u);
  {
    std::optional unbounded(g.start(1, [] { return 0; }));
    EXPECT_EQ(context.callers(), 3u);
    EXPECT_EQ(context.deadline(), never);
    unbounded.reset();
  }
  EXPECT_EQ(context.deadline(), at(9s));
  std::optional<support::owned> awaiting([](group& in, auto when) -> support::owned {
    auto f = in.start(1, [] { return 0; });
    (void)co_await f.until(when).as_outcome();
  }(g, at(20s)));
  EXPECT_EQ(context.deadline(), at(20s));
  EXPECT_EQ(context.callers(), 3u);
  awaiting.reset();
  EXPECT_EQ(context.deadline(), at(9s));
  stop.request_stop();
  later.join();
  EXPECT_EQ(context.deadline(), at(5s));
  EXPECT_EQ(context.callers(), 1u);
  std::jthread sooner(
      [&] { (void)g.run(singleflight::as_outcome, 1, [] { return 0; }, {.deadline = at(2s)}); });
  ASSERT_TRUE(support::eventually([&] { return context.callers() == 2; }, "the second"));
  ASSERT_TRUE(support::eventually([&] { return context.deadline() == at(5s); }, "still 5 s"));
  finish.open();
}

// Goal    A leader that gives up (its stop fired) no longer counts in deadline().
TEST(flight_context, stopped_leaders_deadline_does_not_count) {
  singleflight::manual_timer time;
  group g({.timer = &time});
  const auto start = time.now();
  std::stop_source stop;
  support::gate running;
  support::gate finish;
  const flight_context* seen = nullptr;
  std::jthread leader([&] {
    (void)g.run(1,
                [&](flight_context& context) {
                  seen = &context;
                  running.open();
                  finish.wait();
                  return 1;
                },
                {.deadline = start + 50s, .stop = stop.get_token()});
  });
  running.wait();
  std::jthread joiner([&] {
    (void)g.run(singleflight::as_outcome, 1, [] { return 0; }, {.deadline = start + 5s});
  });
  ASSERT_TRUE(support::until_callers(g, 2));
  ASSERT_TRUE(support::eventually([&] { return seen->deadline() == start + 50s; }, "50 s"));
  stop.request_stop();
  EXPECT_EQ(seen->callers(), 1u);
  ASSERT_TRUE(support::eventually([&] { return seen->deadline() == start + 5s; }, "the joiner's"));
  EXPECT_FALSE(seen->stop_token().stop_requested()) << "a caller is still interested";
  finish.open();
}

// Goal    forgotten() is true for every cause (forget, forget_all, abandonment by stop or drain,
//         load_timeout) and false under finish. revoked() is true for forget and forget_all only.
TEST(flight_context, forgotten_by_every_cause) {
  enum class cause { forget, forget_all, stop, drain, finish, timeout, window };
  for (const cause why : {cause::forget, cause::forget_all, cause::stop, cause::drain,
                          cause::finish, cause::timeout, cause::window}) {
    singleflight::manual_timer time;
    singleflight::group_options options{.timer = &time};
    if (why == cause::drain) options.on_abandon = abandon::drain;
    if (why == cause::finish) options.on_abandon = abandon::finish;
    if (why == cause::timeout) options.load_timeout = 1s;
    if (why == cause::window) options.join_window = 1s;
    support::gate running;
    support::gate finish;
    group g(options);
    const flight_context* seen = nullptr;
    std::optional f(g.start(1, [&](flight_context& context) {
      seen = &context;
      running.open();
      finish.wait();
      return 1;
    }));
    running.wait();
    const std::stop_token token = seen->stop_token();
    EXPECT_FALSE(seen->forgotten());
    switch (why) {
      case cause::forget:
        EXPECT_TRUE(g.forget(1));
        EXPECT_FALSE(g.forget(1));
        break;
      case cause::forget_all: EXPECT_EQ(g.forget_all(), 1u); break;
      case cause::stop:
      case cause::drain:
      case cause::finish: f.reset(); break;
      case cause::timeout:
        time.advance(1s);
        EXPECT_EQ(f->get_outcome().errc(), singleflight::flight_errc::timed_out);
        break;
      case cause::window: time.advance(2s); EXPECT_EQ(*g.run(1, [] { return 2; }), 2);
    }
    EXPECT_EQ(seen->forgotten(), why != cause::finish);
    EXPECT_EQ(seen->revoked(), why == cause::forget || why == cause::forget_all);
    const bool stops = why == cause::stop || why == cause::drain || why == cause::timeout;
    if (stops) {  // at a timeout the waiters are woken first
      support::eventually([&] { return token.stop_requested(); }, "the stop");
    }
    EXPECT_EQ(token.stop_requested(), stops);
    EXPECT_EQ(seen->stop_token().stop_requested(), stops);
    finish.open();
  }
}

// Goal    The token has fired before the last caller that leaves returns (P6), also where it is
//         made late.
TEST(flight_context, token_fires_before_the_last_leaver_returns) {
  for (const bool early : {true, false}) {
    support::gate running;
    support::gate left;
    support::gate over;
    std::atomic<bool> stopped{false};
    group g;
    std::optional f(g.start(1, [&](flight_context& context) {
      std::stop_token token;
      if (early) token = context.stop_token();
      running.open();
      left.wait();
      if (!early) token = context.stop_token();
      stopped = token.stop_requested();
      over.open();
      return 1;
    }));
    running.wait();
    f.reset();
    left.open();
    over.wait();
    EXPECT_TRUE(stopped);
  }
}

// Goal    A loader that takes a plain stop_token gets the same token.
TEST(flight_context, loader_that_takes_a_stop_token) {
  support::gate running;
  std::atomic<bool> over{false};
  group g;
  EXPECT_EQ(*g.run(1, [](std::stop_token stop) { return stop.stop_possible() ? 1 : 0; }), 1);
  std::optional f(g.start(1, [&](std::stop_token stop) {
    running.open();
    support::eventually([&] { return stop.stop_requested(); }, "the stop");
    over = true;
    return 1;
  }));
  running.wait();
  f.reset();
  EXPECT_TRUE(support::eventually([&] { return over.load(); }));
}

// Goal    The context of a promise loader stays usable until the promise is answered, and that of
//         an awaitable loader until its coroutine ends.
TEST(flight_context, of_promise_and_awaitable_loaders) {
  group g({.executor = singleflight::inline_executor});
  std::optional<singleflight::flight_promise<int>> promise;
  auto f = g.start(1, [&](singleflight::flight_promise<int> p) { promise.emplace(std::move(p)); });
  EXPECT_EQ(promise->context().callers(), 1u);
  EXPECT_NE(promise->context().flight_id(), 0u);
  EXPECT_FALSE(promise->context().forgotten());
  g.forget(1);
  EXPECT_TRUE(promise->context().forgotten());
  promise->set_value(1);
  EXPECT_EQ(*f.get(), 1);
  support::suspension place;
  auto awaited = g.start(2, [&place](flight_context& context) -> support::lazy<int> {
    co_await place;
    co_return static_cast<int>(context.callers());
  });
  auto joined = g.start(2, [] { return 0; });
  place.resume();
  EXPECT_EQ(*awaited.get(), 2);
  EXPECT_EQ(*joined.get(), 2);
}

// Goal    Ids are unique over groups and threads.
TEST(flight_context, ids_are_unique) {
  group a;
  singleflight::group<int, std::uint64_t> b;
  std::mutex lock;
  std::set<std::uint64_t> ids;
  std::size_t count = 0;
  {
    std::vector<std::jthread> threads;
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([&, t] {
        for (int i = 0; i < 1000; ++i) {
          std::uint64_t id = 0;
          const auto note = [&id](flight_context& context) {
            id = context.flight_id();
            return 1;
          };
          if (t % 2 == 0) {
            (void)a.run(t * 10'000 + i, note);
          } else {
            (void)b.run(t * 10'000 + i,
                        [&](flight_context& context) { return id = context.flight_id(); });
          }
          const std::lock_guard hold(lock);
          ids.insert(id);
          ++count;
        }
      });
    }
  }
  EXPECT_EQ(ids.size(), count);
}

}  // namespace
