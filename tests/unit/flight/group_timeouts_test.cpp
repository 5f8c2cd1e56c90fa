// SPDX-License-Identifier: Apache-2.0

// A load that hangs: load_timeout and join_window, on manual time.

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <optional>
#include <stdexcept>
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
using singleflight::as_outcome;
using singleflight::flight_context;
using singleflight::flight_errc;
using singleflight::flight_role;
using singleflight::load_result;
using group = singleflight::group<int, int>;
using outcome = singleflight::outcome<singleflight::shared_result<int>>;

// Goal    When load_timeout expires, waiters in every form get `timed_out`, the load is asked to
//         stop, a newcomer starts a new load, and only the run that made the late value gets it.
TEST(load_timeout, frees_the_waiters_of_a_hung_leader) {  // Scenario 27
  singleflight::manual_timer time;
  group g({.timer = &time, .load_timeout = 10s});
  support::gate running;
  support::gate finish;
  std::atomic<bool> stopped{false};
  std::optional<int> leaders;
  std::jthread leader([&] {
    const auto r = g.run(1, [&](flight_context& context) {
      running.open();
      finish.wait();
      stopped = context.stop_token().stop_requested();
      EXPECT_TRUE(context.forgotten());
      return 1;
    });
    EXPECT_EQ(r.role(), flight_role::leader);
    EXPECT_FALSE(r.shared());
    leaders = *r;
  });
  running.wait();
  std::atomic<int> timed_out{0};
  const auto count = [&timed_out](const outcome& o) {
    timed_out += o.errc() == flight_errc::timed_out;
  };
  const auto never = [] { return -1; };
  std::jthread blocked([&] { count(g.run(as_outcome, 1, never)); });
  [](group& in, auto tell) -> support::detached {
    auto f = in.start(1, [] { return -1; });
    tell(co_await f.as_outcome());
  }(g, count);
  auto called = g.start(1, never);
  std::move(called).on_ready(count);
  auto f = g.start(1, never);
  ASSERT_TRUE(support::until_callers(g, 5));
  time.advance(10s - 1ns);
  EXPECT_FALSE(f.ready());
  time.advance(1ns);
  count(f.get_outcome());
  EXPECT_TRUE(support::eventually([&] { return timed_out == 4; }, "four timeouts"));
  blocked.join();
  EXPECT_EQ(*g.run(1, [] { return 2; }), 2) << "a newcomer starts its own";
  finish.open();
  leader.join();
  EXPECT_EQ(leaders, 1);
  EXPECT_TRUE(stopped);
  EXPECT_EQ(g.stats().loads, 2u);
  EXPECT_EQ(g.stats().calls, 6u);
  EXPECT_EQ(g.stats().timed_out, 4u) << "the leader got its value";
  EXPECT_TRUE(g.in_flight().empty());
}

// Goal    The same where the load was started and has not answered its promise; its late answer is
//         ignored.
TEST(load_timeout, late_answer_of_a_promise_is_ignored) {
  singleflight::manual_timer time;
  group g({.timer = &time, .load_timeout = 10s});
  std::optional<singleflight::flight_promise<int>> promise;
  support::gate given;
  auto f = g.start(1, [&](singleflight::flight_promise<int> p) {
    promise.emplace(std::move(p));
    given.open();
  });
  given.wait();
  time.advance(10s);
  EXPECT_EQ(f.get_outcome().errc(), flight_errc::timed_out);
  EXPECT_TRUE(promise->context().forgotten());
  auto second = g.start(1, [] { return 2; });
  EXPECT_EQ(*second.get(), 2);
  promise->set_value(1);
  g.close();
  EXPECT_EQ(g.stats().loads, 2u);
}

// Goal    Once the timer has fired, the waiters have their timed_out, the key is free, and the
//         callers behind begin, whatever the stop callbacks of loads do, of any group (C5).
// Method  More loads than the pool of timeouts has threads are stopped, and their stop callbacks do
//         not return.
TEST(load_timeout, waits_for_no_stop_callback) {  // Scenario 27
  constexpr int loads = 20;
  singleflight::manual_timer time;
  const singleflight::group_options options{.timer = &time, .load_timeout = 1s};
  support::gate hang;
  support::gate begun;
  group slow(options);
  group other(options);
  const auto stops_slowly = [&](std::stop_token stop) {
    const auto waits = [&] { hang.wait(); };
    const std::stop_callback<decltype(waits)> on_stop(std::move(stop), waits);
    begun.wait();
    hang.wait();
    return 1;
  };
  std::vector<singleflight::flight<int>> waiting;
  for (int key = 0; key < loads; ++key) waiting.push_back(slow.start(key, stops_slowly));
  waiting.push_back(other.start(0, stops_slowly));
  begun.await_arrivals(loads + 1);
  begun.open();
  auto behind = slow.start_fresh(0, [] { return 3; });
  std::jthread blocked([&] { EXPECT_EQ(*other.run_fresh(0, [] { return 4; }), 4); });
  EXPECT_TRUE(support::eventually([&] { return other.stats().calls == 2; }, "the fresh call"));
  time.advance(1s);
  for (auto& f : waiting) {
    EXPECT_TRUE(f.ready());
    EXPECT_EQ(f.get_outcome().errc(), flight_errc::timed_out);
  }
  EXPECT_EQ(*behind.get(), 3);
  blocked.join();
  for (int key = 0; key < loads; ++key) EXPECT_EQ(*slow.run(key, [] { return 2; }), 2);
  EXPECT_EQ(*other.run(0, [] { return 2; }), 2);
  hang.await_arrivals(loads + 1 + 1);  // the loads, and a stop callback
  hang.open();
}

// Goal    A caller whose deadline comes with the timeout does not return before the load has been
//         asked to stop (P6).
// Method  The stop callbacks of other loads block all threads that could request the stop. The
//         caller's deadline expires first, then the timeout, in one step; then the caller is
//         resumed.
TEST(load_timeout, load_is_stopped_before_its_last_caller_continues) {
  constexpr int threads = 16;  // of the pool of timeouts
  singleflight::manual_timer time;
  support::manual_executor loop;
  support::gate running;
  support::gate hung;
  group others({.timer = &time, .load_timeout = 1s});
  std::vector<singleflight::flight<int>> hang;
  for (int key = 0; key < threads; ++key) {
    hang.push_back(others.start(key, [&](std::stop_token stop) {
      const auto waits = [&] { hung.wait(); };
      const std::stop_callback<decltype(waits)> on_stop(std::move(stop), waits);
      running.wait();
      return 1;
    }));
  }
  running.await_arrivals(threads);
  time.advance(1s);
  hung.await_arrivals(threads);

  support::gate begun;
  support::gate finish;
  std::atomic<bool> stopped{false};
  group g({.timer = &time, .load_timeout = 1s});
  auto f = g.start(1, [&](std::stop_token stop) {
    const auto stops = [&] { stopped = true; };
    const std::stop_callback<decltype(stops)> on_stop(std::move(stop), stops);
    begun.open();
    finish.wait();
    return 1;
  });
  begun.wait();
  bool resumed = false;
  const auto waits = [&]() -> support::detached {
    const auto got = co_await f.until(time.now() + 1s - 1ns).on(loop).as_outcome();
    EXPECT_EQ(got.errc(), flight_errc::timed_out);
    EXPECT_TRUE(stopped);
    resumed = true;
  };
  waits();
  time.advance(1s);
  loop.run_all();
  EXPECT_TRUE(resumed);
  finish.open();
  hung.open();
  running.open();
}

/// Part of a loader: records the thread on which it is destroyed.
struct leaves_trace {
  explicit leaves_trace(std::atomic<std::thread::id>& where) : where_(&where) {}
  leaves_trace(const leaves_trace&) = delete;
  leaves_trace& operator=(const leaves_trace&) = delete;
  ~leaves_trace() { *where_ = std::this_thread::get_id(); }

 private:
  std::atomic<std::thread::id>* where_;
};

// Goal    A load that its executor drops within a timer's fire is destroyed on another thread: its
//         destructor may wait for a thread that waits for the fire.
// Method  Behind a load that hangs, and that ends by its timeout or its last caller's deadline,
//         waits a load that keeps the load of a second caller.
TEST(load_timeout, a_load_dropped_in_a_fire_is_destroyed_on_another_thread) {
  for (const bool load_times_out : {true, false}) {
    singleflight::manual_timer time;
    bool drops = false;
    const singleflight::any_executor executor([&](singleflight::task t) {
      if (!drops) singleflight::default_pool().execute(std::move(t));
    });
    support::manual_executor loop;
    support::gate finish;
    std::atomic<std::thread::id> where;
    group g({.executor = executor,
             .timer = &time,
             .load_timeout = load_times_out ? 1s : std::chrono::nanoseconds(0)});
    auto hangs = g.start(1, [&] {
      finish.wait();
      return 1;
    });
    finish.await_arrivals();
    auto behind = g.start_fresh(1, [] { return 2; });
    auto joiner = g.start_fresh(1, [owned = std::make_unique<leaves_trace>(where)] { return 3; });
    if (!load_times_out) {
      hangs.until(time.now() + 1s).on(loop).on_ready([](const auto&) {});
    }
    drops = true;
    time.advance(1s);
    EXPECT_EQ(behind.get_outcome().errc(), flight_errc::broken);
    EXPECT_EQ(joiner.get_outcome().errc(), flight_errc::broken);
    loop.run_all();
    finish.open();
    g.close();
    support::eventually([&] { return where.load() != std::thread::id(); }, "its destructor");
    EXPECT_NE(where.load(), std::this_thread::get_id());
  }
}

// Goal    A load that ends in time is not disturbed; the timeout counts from the beginning of the
//         load, not from the start call.
TEST(load_timeout, counts_from_the_beginning_of_the_load) {
  singleflight::manual_timer time;
  support::manual_executor later;
  group g({.executor = later, .timer = &time, .load_timeout = 10s});
  auto f = g.start(1, [&] {
    time.advance(9s);
    return 1;
  });
  time.advance(1h);
  later.run_all();
  EXPECT_EQ(*f.get(), 1);
  EXPECT_EQ(g.stats().timed_out, 0u);
}

// Goal    A successor begins when the load ahead of it times out.
TEST(load_timeout, lets_the_successor_begin) {
  singleflight::manual_timer time;
  group g({.timer = &time, .load_timeout = 10s});
  support::gate running;
  support::gate finish;
  std::jthread leader([&] {
    EXPECT_EQ(*g.run(1,
                     [&] {
                       running.open();
                       finish.wait();
                       return 1;
                     }),
              1);
  });
  running.wait();
  auto fresh = g.start_fresh(1, [] { return 2; });
  time.advance(10s);
  EXPECT_EQ(*fresh.get(), 2);
  finish.open();
}

// Goal    A failure after the timeout reaches only the run leader, and hand_over does not revive
//         the flight.
TEST(load_timeout, failure_after_the_timeout) {
  singleflight::manual_timer time;
  group g(
      {.timer = &time, .on_error = singleflight::error_policy::hand_over(5), .load_timeout = 10s});
  support::gate running;
  support::gate finish;
  std::jthread leader([&] {
    EXPECT_THROW((void)g.run(1,
                             [&]() -> int {
                               running.open();
                               finish.wait();
                               throw std::logic_error("late");
                             }),
                 std::logic_error);
  });
  running.wait();
  std::atomic<int> wrong{0};
  std::jthread blocked([&] {
    EXPECT_EQ(g.run(as_outcome, 1, [&] { return ++wrong; }).errc(), flight_errc::timed_out);
  });
  ASSERT_TRUE(support::until_callers(g, 2));
  time.advance(10s);
  blocked.join();
  finish.open();
  leader.join();
  EXPECT_EQ(wrong, 0);
  EXPECT_EQ(g.stats().handed_over, 0u);
}

// Goal    Each attempt of a flight that is handed over has the whole timeout.
TEST(load_timeout, starts_again_with_every_hand_over) {
  singleflight::manual_timer time;
  support::manual_executor later;
  group g({.executor = later,
           .timer = &time,
           .on_error = singleflight::error_policy::hand_over(5),
           .load_timeout = 10s});
  auto tries = std::make_shared<int>(0);
  auto f = g.start(1, [&time, tries] {
    time.advance(6s);
    if (++*tries < 3) throw std::logic_error("again");
    return *tries;
  });
  later.run_all();
  EXPECT_EQ(*f.get(), 3);
}

// Goal    When the timeout races the completion, every caller gets the same outcome, and the load's
//         own memory is safe.
TEST(load_timeout, races_completion) {
  singleflight::manual_timer time;
  for (int turn = 0; turn < 1000; ++turn) {
    auto g =
        std::make_unique<group>(singleflight::group_options{.timer = &time, .load_timeout = 1s});
    std::optional<singleflight::flight_promise<int>> promise;
    support::gate given;
    auto f = g->start(1, [&](singleflight::flight_promise<int> p) {
      promise.emplace(std::move(p));
      given.open();
    });
    auto f2 = g->start(1, [] { return 0; });
    given.wait();
    std::jthread clock([&] { time.advance(1s); });
    promise->set_value(turn);
    const auto a = f.get_outcome();
    const auto b = f2.get_outcome();
    EXPECT_EQ(a.has_value(), b.has_value());
    EXPECT_TRUE(a.has_value() || a.errc() == flight_errc::timed_out);
    g.reset();
  }
}

// Goal    With join_window, a newcomer after the window starts its own load, without any timer;
//         callers that are inside are not disturbed.
TEST(join_window, old_flight_takes_no_more_joiners) {  // Scenario 27
  singleflight::manual_timer time;
  group g({.timer = &time, .join_window = 5s});
  support::gate running;
  support::gate finish;
  std::jthread leader([&] {
    EXPECT_EQ(*g.run(1,
                     [&] {
                       running.open();
                       finish.wait();
                       return 1;
                     }),
              1);
  });
  running.wait();
  time.advance(5s);
  auto young = g.start(1, [] { return -1; });
  EXPECT_EQ(support::callers_inside(g), 2u) << "as old as the window is not older";
  time.advance(1ns);
  EXPECT_EQ(*g.run(1, [] { return 2; }), 2);
  finish.open();
  EXPECT_EQ(*young.get(), 1);
  EXPECT_EQ(g.stats().loads, 2u);
}

// Goal    A started load that waits in the executor's queue has no age yet: it is joined.
TEST(join_window, queued_load_is_not_old) {
  singleflight::manual_timer time;
  support::manual_executor later;
  group g({.executor = later, .timer = &time, .join_window = 5s});
  auto a = g.start(1, [] { return 1; });
  auto b = g.start(1, [] { return 2; });
  time.advance(6s);
  auto c = g.start(1, [] { return 3; });
  ASSERT_EQ(g.in_flight().size(), 1u);
  EXPECT_EQ(g.in_flight()[0].age, 0ns);
  later.run_all();
  EXPECT_EQ(*a.get(), 1);
  EXPECT_EQ(*b.get(), 1);
  EXPECT_EQ(*c.get(), 1);
  EXPECT_EQ(g.stats().loads, 1u);
}

// Goal    The successor of a flight that is too old takes its place, and newcomers join the
//         successor.
TEST(join_window, successor_of_an_old_flight_is_joined) {
  singleflight::manual_timer time;
  support::manual_executor later;
  group g({.executor = later, .timer = &time, .join_window = 5s});
  support::gate running;
  support::gate finish;
  std::jthread leader([&] {
    EXPECT_EQ(*g.run(1,
                     [&] {
                       running.open();
                       finish.wait();
                       return 1;
                     }),
              1);
  });
  running.wait();
  auto fresh = g.start_fresh(1, [] { return 2; });
  time.advance(6s);
  auto newcomer = g.start(1, [] { return 3; });
  auto another = g.start(1, [] { return 4; });
  later.run_all();
  EXPECT_EQ(*fresh.get(), 2);
  EXPECT_EQ(*newcomer.get(), 2);
  EXPECT_EQ(*another.get(), 2);
  finish.open();
}

// Goal    in_flight shows the age of a load where the group has a window or an observer.
TEST(join_window, in_flight_shows_the_age) {
  singleflight::manual_timer time;
  group g({.timer = &time, .join_window = 1h});
  EXPECT_EQ(*g.run(1,
                   [&] {
                     time.advance(3s);
                     const auto all = g.in_flight();
                     return all.size() == 1 && all[0].age == 3s ? 1 : 2;
                   }),
            1);
}

// Goal    An observer is notified of every load exactly once each way, with its own duration and
//         its result.
struct counting_observer : singleflight::observer {
  void load_began(std::uint64_t) noexcept override { ++began; }
  void load_ended(std::uint64_t, std::chrono::nanoseconds took, load_result how) noexcept override {
    ++ended;
    last = took;
    result = how;
  }
  void joined(std::uint64_t) noexcept override { ++joins; }
  void left(std::uint64_t) noexcept override { ++leaves; }
  std::atomic<int> began{0};
  std::atomic<int> ended{0};
  std::atomic<int> joins{0};
  std::atomic<int> leaves{0};
  std::atomic<std::chrono::nanoseconds> last{};
  std::atomic<load_result> result{};
};

TEST(observer, is_notified_of_every_load) {
  singleflight::manual_timer time;
  support::manual_executor later;
  counting_observer seen;
  group g({.executor = later, .timer = &time, .load_timeout = 1h, .observer = &seen});
  (void)g.run(1, [&] {
    time.advance(2s);
    return 1;
  });
  EXPECT_EQ(seen.began, 1);
  EXPECT_EQ(seen.ended, 1);
  EXPECT_EQ(seen.last.load(), 2s);
  EXPECT_EQ(seen.result.load(), load_result::value);
  EXPECT_THROW((void)g.run(1, []() -> int { throw 1; }), int);
  EXPECT_EQ(seen.ended, 2);
  EXPECT_EQ(seen.result.load(), load_result::error);
  auto f = g.start(1, [&] {
    time.advance(1h);
    return 1;
  });
  auto f2 = g.start(1, [] { return 2; });
  {
    const auto leaves = g.start(1, [] { return 3; });
  }
  EXPECT_EQ(seen.joins, 2);
  EXPECT_EQ(seen.leaves, 1);
  later.run_one();
  (void)f.get_outcome();
  (void)f2.get_outcome();
  EXPECT_EQ(seen.began, 3);
  EXPECT_EQ(seen.ended, 3);
  auto dropped = g.start(2, [] { return 1; });
  later.drop_one();
  EXPECT_EQ(dropped.get_outcome().errc(), flight_errc::broken);
  EXPECT_EQ(seen.began, seen.ended) << "an end was reported of a load that never began";
}

// Goal    A load that was handed over, and ends without having begun, reports no end.
TEST(observer, is_not_notified_of_a_load_that_never_began) {
  for (const bool closed : {false, true}) {
    support::manual_executor later;
    counting_observer seen;
    {
      group g({.executor = later,
               .on_error = singleflight::error_policy::hand_over(2),
               .observer = &seen});
      auto f = g.start(1, []() -> int { throw 1; });
      later.run_one();
      EXPECT_FALSE(f.ready());
      if (closed) {
        EXPECT_TRUE(g.close_for(0s));
      } else {
        later.drop_one();
      }
      EXPECT_TRUE(f.ready());
    }
    if (closed) later.drop_one();
    EXPECT_EQ(seen.began, 1);
    EXPECT_EQ(seen.ended, 1);
  }
}

// Goal    A handed-over flight reports the beginning and the end of every attempt.
TEST(observer, is_notified_of_every_attempt) {
  counting_observer seen;
  group g({.on_error = singleflight::error_policy::hand_over(5), .observer = &seen});
  support::gate running;
  support::gate fail;
  std::jthread leader([&] {
    EXPECT_THROW((void)g.run(1,
                             [&]() -> int {
                               running.open();
                               fail.wait();
                               throw 1;
                             }),
                 int);
  });
  running.wait();
  std::jthread joiner([&] { EXPECT_EQ(*g.run(1, [] { return 2; }), 2); });
  ASSERT_TRUE(support::until_callers(g, 2));
  fail.open();
  joiner.join();
  leader.join();
  EXPECT_EQ(seen.began, 2);
  EXPECT_EQ(seen.ended, 2);
}

}  // namespace
