// SPDX-License-Identifier: Apache-2.0

// The end of a group: close, close_for and the destructor, in every state that a flight can be in.

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
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
using singleflight::as_outcome;
using singleflight::flight_context;
using singleflight::flight_errc;
using singleflight::flight_error;
using singleflight::group_options;
using group = singleflight::group<int, int>;
using outcome = singleflight::outcome<singleflight::shared_result<int>>;

int one() { return 1; }

/// A load that opens `running`, and runs until it is asked to stop.
struct until_stopped {
  support::gate& running;
  int value;
  int operator()(flight_context& context) const {
    running.open();
    const std::stop_token stop = context.stop_token();
    support::eventually([&] { return stop.stop_requested(); }, "the stop");
    return value;
  }
};

// Goal    Once the group is closed, every verb that would begin or join something is refused as
//         `closed` (P10).
TEST(close, refuses_every_verb) {  // Scenario 23
  group g;
  g.close();
  EXPECT_THROW(g.run(1, one), flight_error);
  EXPECT_EQ(g.run(as_outcome, 1, one).errc(), flight_errc::closed);
  EXPECT_EQ(g.run_fresh(as_outcome, 1, one).errc(), flight_errc::closed);
  auto f = g.start(1, one);
  EXPECT_TRUE(f.ready());
  EXPECT_EQ(f.get_outcome().errc(), flight_errc::closed);
  auto fresh = g.start_fresh(1, one);
  EXPECT_EQ(fresh.get_outcome().errc(), flight_errc::closed);
  bool called = false;
  const auto load_many = [&called](std::span<const int> keys) {
    called = true;
    return std::vector<singleflight::outcome<int>>(keys.size(), 0);
  };
  const auto many = g.run_many(std::vector{1, 2}, load_many);
  ASSERT_EQ(many.size(), 2u);
  EXPECT_EQ(many[0].errc(), flight_errc::closed);
  EXPECT_EQ(many[1].errc(), flight_errc::closed);
  auto handles = g.start_many(std::vector{1, 2}, load_many);
  ASSERT_EQ(handles.size(), 2u);
  EXPECT_EQ(handles[0].get_outcome().errc(), flight_errc::closed);
  EXPECT_FALSE(called);
  EXPECT_FALSE(g.forget(1));
  EXPECT_EQ(g.forget_all(), 0u);
  EXPECT_TRUE(g.in_flight().empty());
  EXPECT_EQ(g.stats().loads, 0u);
  EXPECT_EQ(g.stats().closed, 9u);
  EXPECT_EQ(g.stats().calls, 9u);
}

// Goal    A handle that was refused can be awaited in every spelling.
TEST(close, refused_handle_is_awaited_in_every_spelling) {
  group g;
  g.close();
  std::atomic<int> refused{0};
  const auto count = [&refused](const outcome& o) {
    if (o.errc() == flight_errc::closed) ++refused;
  };
  [](group& in, auto tell) -> support::detached {
    auto plain = in.start(1, one);
    try {
      (void)co_await plain;
    } catch (const flight_error& error) {
      tell(outcome(error.errc()));
    }
    auto quiet = in.start(1, one);
    tell(co_await quiet.as_outcome());
    auto bounded = in.start(1, one);
    tell(co_await bounded.until(std::chrono::steady_clock::now() + 1h).as_outcome());
    auto elsewhere = in.start(1, one);
    tell(co_await elsewhere.on(singleflight::default_pool()).as_outcome());
  }(g, count);
  EXPECT_TRUE(support::eventually([&] { return refused == 4; }, "four refusals"));
  std::atomic<int> called{0};
  auto f = g.start(1, one);
  std::move(f).on_ready([&](const outcome& o) { called += o.errc() == flight_errc::closed; });
  auto f2 = g.start(1, one);
  std::move(f2).on_ready(singleflight::default_pool(),
                         [&](const outcome& o) { called += o.errc() == flight_errc::closed; });
  EXPECT_TRUE(support::eventually([&] { return called == 2; }, "two callbacks"));
}

// Goal    A callback of a refused handle is called on the group's executor, and is not lost where
//         that executor drops its tasks (P4, P8).
TEST(close, callback_of_a_refused_handle_keeps_to_the_rules) {
  support::manual_executor later;
  group g({.executor = later});
  g.close();
  std::atomic<int> called{0};
  auto f = g.start(1, one);
  std::move(f).on_ready([&](const outcome&) { ++called; });
  EXPECT_EQ(later.size(), 1u) << "not submitted to the group's executor";
  later.drop_one();
  EXPECT_TRUE(support::eventually([&] { return called == 1; }, "the callback"));
}

// Goal    close() does not wait for a load that its own stop request has resumed on this thread:
//         while it waits, the tasks in this thread's trampoline run on another thread (P10).
// Method  The load is a coroutine on inline_executor that awaits, with its stop token, another load
//         that hangs: of another group, or of its own.
TEST(close, lets_a_load_continue_that_it_has_resumed_here) {
  for (const bool own : {false, true}) {
    support::gate hang;
    group others;
    group g({.executor = singleflight::inline_executor});
    const auto hung = others.start(1, [&] {
      hang.wait();
      return 1;
    });
    std::optional<singleflight::flight_promise<int>> unanswered;
    const auto hung_here =
        g.start(2, [&](singleflight::flight_promise<int> p) { unanswered = std::move(p); });
    const auto load = [&](flight_context& context) -> support::lazy<int> {
      auto f = (own ? g : others).start(own ? 2 : 1, one);
      const auto got =
          co_await f.until(std::chrono::steady_clock::time_point::max(), context.stop_token())
              .on(singleflight::inline_executor)
              .as_outcome();
      EXPECT_EQ(got.errc(), flight_errc::cancelled);
      if (unanswered) unanswered->set_value(2);
      co_return 5;
    };
    auto answer = g.start(1, load);
    g.close();
    EXPECT_EQ(*answer.get(), 5);
    hang.open();
  }
}

// Goal    close() asks a load without joiners to stop and waits for it, and the load's caller gets
//         its value.
// Method  The load ends only when it sees its stop token fire; it gets the token before close.
TEST(close, stops_and_waits_for_a_thin_load) {
  group g;
  support::gate running;
  std::atomic<bool> returned{false};
  std::jthread leader([&] {
    EXPECT_EQ(*g.run(1, until_stopped{running, 7}), 7);
    returned = true;
  });
  running.wait();
  g.close();
  EXPECT_TRUE(g.in_flight().empty());
}

// Goal    No load is asked to stop before every key is refused: a stop callback finds the whole
//         group closed.
TEST(close, stops_loads_once_all_is_closed) {
  group g;
  support::gate hold;
  std::atomic<int> refused{0};
  std::atomic<int> admitted{0};
  std::vector<std::jthread> leaders;
  for (int key = 0; key < 4; ++key) {
    leaders.emplace_back([&, key] {
      (void)g.run(as_outcome, key, [&](std::stop_token stop) {
        const std::stop_callback asks(stop, [&] {
          for (int other = 100; other < 200; ++other) {
            const auto got = g.run(as_outcome, other, [] { return 1; });
            ++(got.errc() == flight_errc::closed ? refused : admitted);
          }
        });
        hold.wait();
        return 0;
      });
    });
  }
  hold.await_arrivals(4);
  std::jthread closer([&] { g.close(); });
  support::eventually([&] { return refused + admitted == 400; });
  hold.open();
  closer.join();
  EXPECT_EQ(admitted, 0);
}

// Goal    A load that gets its token only after close began is asked to stop all the same.
TEST(close, token_made_after_close_is_stopped) {
  group g;
  support::gate running;
  support::gate closing;
  std::jthread leader([&] {
    EXPECT_EQ(*g.run(1,
                     [&](flight_context& context) {
                       running.open();
                       closing.wait();
                       EXPECT_TRUE(context.stop_token().stop_requested());
                       return 3;
                     }),
              3);
  });
  running.wait();
  EXPECT_FALSE(g.close_for(0ns));
  closing.open();
  g.close();
}

// Goal    Callers that have joined a running load get its outcome, in every form of waiting (P10).
TEST(close, callers_inside_get_the_outcome) {
  group g;
  support::gate running;
  std::atomic<int> got{0};
  std::jthread leader([&] { got += *g.run(1, until_stopped{running, 5}); });
  running.wait();
  std::jthread joiner([&] { got += *g.run(1, one); });
  auto f = g.start(1, one);
  [](group& in, std::atomic<int>& sum) -> support::detached {
    auto mine = in.start(1, one);
    sum += *co_await mine;
  }(g, got);
  ASSERT_TRUE(support::until_callers(g, 4));
  g.close();
  got += *f.get();
  EXPECT_TRUE(support::eventually([&] { return got == 20; }, "four fives"));
}

// Goal    A load that waits in the executor's queue never begins: its callers get `closed`, and the
//         task may run or be dropped after the group is destroyed.
TEST(close, queued_load_never_begins) {
  for (const bool run : {false, true}) {
    support::manual_executor later;
    auto g = std::make_unique<group>(group_options{.executor = later});
    std::atomic<int> loads{0};
    auto f = g->start(1, [&] { return ++loads; });
    auto joined = g->start(1, [&] { return ++loads; });
    std::atomic<int> refused{0};
    auto called = g->start(1, [&] { return ++loads; });
    std::move(called).on_ready(singleflight::default_pool(), [&](const outcome& o) {
      refused += o.errc() == flight_errc::closed;
    });
    g.reset();
    EXPECT_EQ(f.get_outcome().errc(), flight_errc::closed);
    EXPECT_EQ(joined.get_outcome().errc(), flight_errc::closed);
    EXPECT_TRUE(support::eventually([&] { return refused == 1; }, "the callback"));
    while (run ? later.run_one() : later.drop_one()) {
    }
    EXPECT_EQ(loads, 0);
  }
}

// Goal    Callers of run_fresh and start_fresh behind a running load get `closed` at once, since
//         their load has not begun. close() waits for the running one.
TEST(close, pending_successor_ends_at_once) {
  group g;
  support::gate running;
  support::gate finish;
  std::atomic<int> late_loads{0};
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
  std::jthread blocked([&] {
    EXPECT_EQ(g.run_fresh(as_outcome, 1, [&] { return ++late_loads; }).errc(), flight_errc::closed);
  });
  auto f = g.start_fresh(1, [&] { return ++late_loads; });
  ASSERT_TRUE(support::eventually([&] { return g.stats().calls == 3; }, "both behind"));
  EXPECT_FALSE(g.close_for(0ns));
  EXPECT_EQ(f.get_outcome().errc(), flight_errc::closed);
  blocked.join();
  EXPECT_EQ(late_loads, 0);
  finish.open();
  g.close();
}

// Goal    close() also waits for a forgotten load and an abandoned one: afterwards nothing can
//         touch the group (P10).
TEST(close, waits_for_forgotten_and_abandoned_loads) {
  for (const bool forgotten : {true, false}) {
    std::atomic<bool> ended{false};
    support::gate running;
    {
      group g;
      auto f = g.start(1, [&](flight_context& context) {
        running.open();
        const std::stop_token stop = context.stop_token();
        support::eventually([&] { return stop.stop_requested(); }, "the stop");
        ended = true;
        return 1;
      });
      running.wait();
      if (forgotten) {
        EXPECT_TRUE(g.forget(1));
        std::move(f).detach();
      } else {
        const auto dropped = std::move(f);
      }
      EXPECT_TRUE(g.in_flight().empty());
    }
    EXPECT_TRUE(ended);
  }
}

// Goal    close_for gives up when its time has passed, and leaves a group that can be closed again;
//         on the manual timer nothing waits for the wall clock.
TEST(close, close_for_gives_up_in_manual_time) {
  singleflight::manual_timer time;
  group g({.timer = &time});
  support::gate running;
  support::gate finish;
  auto f = g.start(1, [&] {
    running.open();
    finish.wait();
    return 9;
  });
  running.wait();
  std::atomic<bool> given_up{false};
  std::jthread closer([&] {
    EXPECT_FALSE(g.close_for(5s));
    given_up = true;
  });
  ASSERT_TRUE(support::eventually(
      [&] {
        time.advance(1s);
        return given_up.load();
      },
      "close_for"));
  EXPECT_EQ(g.run(as_outcome, 2, one).errc(), flight_errc::closed);
  finish.open();
  EXPECT_TRUE(g.close_for(1h));
  EXPECT_EQ(*f.get(), 9);
}

// Goal    A bound too large for the clock means "for ever", not "at once".
TEST(close, close_for_the_longest_time_waits) {
  group g;
  support::gate running;
  auto f = g.start(1, until_stopped{running, 4});
  running.wait();
  EXPECT_TRUE(g.close_for(std::chrono::hours::max()));
  EXPECT_EQ(*f.get(), 4);
}

// Goal    Within one of the group's loads close() would wait for itself: it is refused as
//         `recursive`, in every form.
TEST(close, within_a_load_is_recursive) {  // P10
  group g;
  const auto closes = [&g] {
    try {
      g.close();
    } catch (const flight_error& error) {
      return error.errc() == flight_errc::recursive ? 1 : 2;
    }
    return 3;
  };
  EXPECT_EQ(*g.run(1, closes), 1);
  auto f = g.start(1, closes);
  EXPECT_EQ(*f.get(), 1);
  EXPECT_EQ(*g.run(1, [&] { return *g.run(2, closes); }), 1);
  EXPECT_THROW((void)g.run(1, [&] { return g.close_for(1s) ? 1 : 0; }), flight_error);
  const auto many = [&](std::span<const int> keys) {
    return std::vector<singleflight::outcome<int>>(keys.size(), closes());
  };
  EXPECT_EQ(*g.run_many(std::vector{1, 2}, many)[1].value(), 1);
  auto handles = g.start_many(std::vector{1, 2}, many);
  EXPECT_EQ(*handles[0].get(), 1);
  EXPECT_EQ(*handles[1].get(), 1);
  EXPECT_EQ(*g.run(1, one), 1) << "the refused call must not close the group";
}

TEST(close_death_test, destroyed_within_its_own_load) {
  support::die_apart();
  EXPECT_DEATH(
      {
        auto g = std::make_unique<group>();
        (void)g->run(1, [&g] {
          g.reset();
          return 1;
        });
      },
      "destroyed within one of its own loads");
}

// Goal    close() returns in every thread when many call it at once, and when it is called again.
TEST(close, from_many_threads_and_twice) {
  group g;
  support::gate running;
  auto f = g.start(1, until_stopped{running, 2});
  running.wait();
  {
    std::vector<std::jthread> closers;
    for (int i = 0; i < 4; ++i) closers.emplace_back([&] { g.close(); });
  }
  g.close();
  EXPECT_EQ(*f.get(), 2);
}

// Goal    A coroutine whose resumption is still queued when the group is destroyed resumes with its
//         outcome.
TEST(close, resumption_outlives_the_group) {
  support::manual_executor later;
  std::optional<int> got;
  {
    group g({.executor = later});
    [](group& in, std::optional<int>& to) -> support::detached {
      auto f = in.start(1, one);
      to = *co_await f;
    }(g, got);
    EXPECT_TRUE(later.run_one());  // runs the load; its waiter is queued behind it
    EXPECT_EQ(later.size(), 1u);
    EXPECT_FALSE(got.has_value());
  }
  later.run_all();
  EXPECT_EQ(got, 1);
}

// Goal    The group may be destroyed just as a load ends, however it ends: nothing touches it
//         afterwards (P2, P10).
// Method  Many short-lived groups on the heap, so that a sanitizer detects a late access; the end
//         of the load races the destructor.
TEST(close, destructor_races_the_end_of_a_load) {
  singleflight::thread_pool pool({.max_threads = 2});
  enum class ending { value, error, broken, dropped, promised };
  for (int turn = 0; turn < 2000; ++turn) {
    const auto how = static_cast<ending>(turn % 5);
    auto g = std::make_unique<group>(group_options{.executor = pool});
    std::vector<singleflight::flight<int>> handles;
    std::optional<singleflight::flight_promise<int>> promise;
    std::jthread answering;
    switch (how) {
      case ending::value: handles.push_back(g->start(1, one)); break;
      case ending::error: handles.push_back(g->start(1, []() -> int { throw 1; })); break;
      case ending::broken:
        handles.push_back(g->start(1, [](singleflight::flight_promise<int>) {}));
        break;
      case ending::dropped:
        handles.push_back(g->start(1, [](flight_context& c) { return c.forgotten() ? 1 : 2; }));
        break;
      case ending::promised: {
        support::gate given;
        handles.push_back(g->start(1, [&](singleflight::flight_promise<int> p) {
          promise.emplace(std::move(p));
          given.open();
        }));
        given.wait();
        answering = std::jthread([&] { promise.reset(); });  // unanswered: broken
        break;
      }
    }
    auto joined = g->start(1, one);
    if (how == ending::dropped) handles.clear();
    g.reset();
    for (auto& f : handles) (void)f.get_outcome();
    (void)joined.get_outcome();
  }
}

}  // namespace
