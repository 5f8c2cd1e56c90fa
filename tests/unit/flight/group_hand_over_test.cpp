// SPDX-License-Identifier: Apache-2.0

// What the other callers get when a load fails: the error, or another attempt by one of them.

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <exception>
#include <memory>
#include <optional>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "support/asleep.hpp"
#include "support/eventually.hpp"
#include "support/executors.hpp"
#include "support/gate.hpp"
#include "support/task.hpp"
#include <singleflight/core/manual_timer.hpp>
#include <singleflight/flight.hpp>

namespace {

using namespace std::chrono_literals;
using singleflight::as_outcome;
using singleflight::error_policy;
using singleflight::flight_errc;
using singleflight::flight_role;
using singleflight::group_options;
using group = singleflight::group<int, int>;
using outcome = singleflight::outcome<singleflight::shared_result<int>>;

struct backend_down : std::runtime_error {
  explicit backend_down(int which) : std::runtime_error("backend down"), number(which) {}
  int number;
};

int number_of(const outcome& o) {
  if (o.has_value()) return 0;
  try {
    o.rethrow();
  } catch (const backend_down& error) {
    return error.number;
  } catch (...) {
    return -1;
  }
}

/// A leader by run() that fails once its gate opens.
struct failing_leader {
  support::gate running;
  support::gate fail;
  std::optional<outcome> got;
  std::jthread thread;

  explicit failing_leader(group& g, int number = 1)
      : thread([this, &g, number] {
          got = g.run(as_outcome, 1, [&]() -> int {
            running.open();
            fail.wait();
            throw backend_down(number);
          });
        }) {
    running.wait();
  }
  failing_leader(const failing_leader&) = delete;
  failing_leader& operator=(const failing_leader&) = delete;
};

// Goal    With `share`, there is one execution, and all 101 callers get its exception with its own
//         type.
// Method  The leader does not fail until 100 callers are in: blocked threads, handles, coroutines,
//         callbacks.
TEST(hand_over, share_gives_everybody_the_one_error) {  // Scenario 17
  group g;
  std::atomic<int> seen{0};
  std::atomic<int> other_loads{0};
  const auto count = [&seen](const outcome& o) { seen += number_of(o) == 1; };
  const auto never = [&other_loads] { return ++other_loads; };
  failing_leader leader(g);
  std::vector<std::jthread> blocked;
  for (int i = 0; i < 25; ++i) {
    blocked.emplace_back([&] { count(g.run(as_outcome, 1, never)); });
  }
  std::vector<singleflight::flight<int>> handles;
  for (int i = 0; i < 25; ++i) handles.push_back(g.start(1, never));
  for (int i = 0; i < 25; ++i) {
    [](group& in, auto load, auto tell) -> support::detached {
      auto f = in.start(1, load);
      tell(co_await f.as_outcome());
    }(g, never, count);
    auto f = g.start(1, never);
    std::move(f).on_ready(count);
  }
  ASSERT_TRUE(support::until_callers(g, 101));
  leader.fail.open();
  leader.thread.join();
  count(*leader.got);
  for (auto& f : handles) count(f.get_outcome());
  blocked.clear();
  EXPECT_TRUE(support::eventually([&] { return seen == 101; }, "101 errors"));
  EXPECT_EQ(other_loads, 0);
  EXPECT_EQ(g.stats().loads, 1u);
  EXPECT_EQ(g.stats().handed_over, 0u);
  EXPECT_EQ(*g.run(1, [] { return 5; }), 5) << "the key must be free again";
}

// Goal    With hand_over, ONE waiter takes over after a failure; its value goes to all callers but
//         the one that failed, which gets its own error.
TEST(hand_over, one_waiter_takes_over) {
  group g({.on_error = error_policy::hand_over(3)});
  std::atomic<int> loads{0};
  std::atomic<int> values{0};
  std::atomic<int> leaders{0};
  failing_leader leader(g);
  std::vector<std::jthread> blocked;
  for (int i = 0; i < 20; ++i) {
    blocked.emplace_back([&] {
      const std::thread::id me = std::this_thread::get_id();
      std::thread::id led;
      const auto r = g.run(1, [&] {
        led = std::this_thread::get_id();
        ++loads;
        return 42;
      });
      values += *r == 42;
      if (r.role() == flight_role::leader) {
        ++leaders;
        EXPECT_EQ(led, me) << "a run lends its own loader, on its own thread";
        EXPECT_EQ(r.callers(), 20u);
      }
    });
  }
  ASSERT_TRUE(support::until_callers(g, 21));
  leader.fail.open();
  blocked.clear();
  leader.thread.join();
  EXPECT_EQ(number_of(*leader.got), 1);
  EXPECT_EQ(loads, 1);
  EXPECT_EQ(values, 20);
  EXPECT_EQ(leaders, 1);
  EXPECT_EQ(g.stats().handed_over, 1u);
  EXPECT_EQ(g.stats().loads, 2u);
  EXPECT_TRUE(g.in_flight().empty());
}

// Goal    Hand-overs are bounded: after `max` of them the last error is shared with all callers
//         that are left.
TEST(hand_over, is_bounded) {
  group g({.on_error = error_policy::hand_over(2)});
  std::atomic<int> loads{1};
  std::atomic<int> running{0};
  std::atomic<int> third{0};
  std::atomic<int> own{0};
  failing_leader leader(g);
  std::vector<std::jthread> blocked;
  for (int i = 0; i < 10; ++i) {
    blocked.emplace_back([&] {
      int mine = 0;
      const int number = number_of(g.run(as_outcome, 1, [&]() -> int {
        EXPECT_EQ(++running, 1) << "two loads at once";
        mine = ++loads;
        --running;
        throw backend_down(mine);
      }));
      third += number == 3;
      own += number == mine;
    });
  }
  ASSERT_TRUE(support::until_callers(g, 11));
  leader.fail.open();
  blocked.clear();
  EXPECT_EQ(loads, 3);
  EXPECT_EQ(third, 9) << "the caller of the last attempt, and the eight that never led";
  EXPECT_EQ(own, 2);
  EXPECT_EQ(g.stats().handed_over, 2u);
  EXPECT_TRUE(g.in_flight().empty());
}

// Goal    An owned loader that can be copied is run again, from the state in which it was passed.
TEST(hand_over, owned_loader_is_run_again) {
  support::manual_executor later;
  group g({.executor = later, .on_error = error_policy::hand_over(5)});
  auto tries = std::make_shared<int>(0);
  auto f = g.start(1, [tries, fresh = true]() mutable {
    EXPECT_TRUE(std::exchange(fresh, false)) << "not the loader as it was passed";
    if (++*tries < 3) throw backend_down(*tries);
    return *tries;
  });
  later.run_all();
  EXPECT_EQ(*f.get(), 3);
  EXPECT_EQ(g.stats().loads, 3u);
  EXPECT_EQ(g.stats().handed_over, 2u);
}

// Goal    An awaitable loader that fails is run again too, even where its retry begins in the frame
//         that has just failed.
TEST(hand_over, awaitable_loader_is_run_again) {
  for (const bool in_place : {false, true}) {
    support::manual_executor later;
    const singleflight::any_executor ex =
        in_place ? singleflight::any_executor(singleflight::inline_executor)
                 : singleflight::any_executor(later);
    group g({.executor = ex, .on_error = error_policy::hand_over(5)});
    auto tries = std::make_shared<int>(0);
    auto f = g.start(1, [tries]() -> support::lazy<int> {
      std::string text(100, 'x');  // something in the frame that must survive the failure
      if (++*tries < 4) throw backend_down(*tries);
      co_return static_cast<int>(text.size());
    });
    later.run_all();
    EXPECT_EQ(*f.get(), 100);
    EXPECT_EQ(*tries, 4);
  }
}

// Goal    A loader that can only be moved is not run again; where no caller can lead, the error is
//         shared.
TEST(hand_over, move_only_loader_is_not_run_again) {
  support::manual_executor later;
  group g({.executor = later, .on_error = error_policy::hand_over(5)});
  int tries = 0;
  auto f = g.start(1, [&tries, token = std::make_unique<int>(1)]() -> int {
    ++tries;
    throw backend_down(*token);
  });
  later.run_all();
  EXPECT_EQ(number_of(f.get_outcome()), 1);
  EXPECT_EQ(tries, 1);
  EXPECT_TRUE(g.in_flight().empty());
}

// Goal    A start that joins under hand_over keeps its loader with the flight, and it leads on the
//         executor when its turn comes; its memory is freed with the flight.
TEST(hand_over, loader_of_a_started_joiner_leads) {
  support::manual_executor later;
  group g({.executor = later, .on_error = error_policy::hand_over(5)});
  auto kept = std::make_shared<int>(11);
  const std::weak_ptr<int> watch = kept;
  failing_leader leader(g);
  auto f = g.start(1, [mine = std::move(kept)] { return *mine; });
  auto g2 = g.start(1, []() -> int { throw backend_down(99); });
  ASSERT_TRUE(support::until_callers(g, 3));
  leader.fail.open();
  leader.thread.join();
  EXPECT_EQ(number_of(*leader.got), 1);
  later.run_all();
  EXPECT_EQ(*f.get(), 11);
  EXPECT_EQ(*g2.get(), 11) << "the first that was kept leads";
  EXPECT_TRUE(g.in_flight().empty());
  EXPECT_TRUE(watch.expired()) << "the loader outlived its flight";
}

// Goal    Several kept loaders that all fail, then a move-only one: each leads at most once in its
//         turn, nothing leaks, and the last error is shared.
TEST(hand_over, kept_loaders_take_turns) {
  support::manual_executor later;
  group g({.executor = later, .on_error = error_policy::hand_over(3)});
  std::vector<int> order;
  failing_leader leader(g, 100);
  std::vector<singleflight::flight<int>> handles;
  for (int i = 0; i < 5; ++i) {
    handles.push_back(g.start(1, [&order, i, token = std::make_unique<int>(i)]() -> int {
      order.push_back(i);
      throw backend_down(i);
    }));
  }
  leader.fail.open();
  leader.thread.join();
  later.run_all();
  EXPECT_EQ(order, (std::vector{0, 1, 2}));
  for (auto& f : handles) EXPECT_EQ(number_of(f.get_outcome()), 2);
}

// Goal    A candidate that leaves before its turn passes its place on (succession).
TEST(hand_over, candidate_that_left_is_passed_over) {
  singleflight::manual_timer time;
  support::manual_executor later;
  group g({.executor = later, .timer = &time, .on_error = error_policy::hand_over(5)});
  failing_leader leader(g);
  std::stop_source stop;
  std::atomic<int> wrong{0};
  std::jthread stopped([&] {
    EXPECT_EQ(g.run(as_outcome, 1, [&] { return ++wrong; }, {.stop = stop.get_token()}).errc(),
              flight_errc::cancelled);
  });
  std::jthread late([&] {
    EXPECT_EQ(g.run(as_outcome, 1, [&] { return ++wrong; }, {.deadline = time.now() + 1s}).errc(),
              flight_errc::timed_out);
  });
  std::optional dropped(g.start(1, [&] { return ++wrong; }));
  auto stays = g.start(1, [] { return 8; });
  ASSERT_TRUE(support::until_callers(g, 5));
  stop.request_stop();
  stopped.join();
  ASSERT_TRUE(support::eventually(
      [&] {
        time.advance(1s);
        return support::callers_inside(g) == 3;
      },
      "the late one to leave"));
  late.join();
  dropped.reset();
  leader.fail.open();
  leader.thread.join();
  later.run_all();
  EXPECT_EQ(*stays.get(), 8);
  EXPECT_EQ(wrong, 0);
  EXPECT_TRUE(g.in_flight().empty());
}

// Goal    A caller that is elected and leaves at that moment passes the place on: no caller hangs,
//         and the last one gets the error or a value.
// Method  The failure races the candidates' stop tokens, many times.
TEST(hand_over, election_races_the_leaving_of_candidates) {
  group g({.on_error = error_policy::hand_over(2)});
  for (int turn = 0; turn < 300; ++turn) {
    failing_leader leader(g);
    std::stop_source stop;
    std::atomic<int> ended{0};
    std::vector<std::jthread> candidates;
    for (int i = 0; i < 2; ++i) {
      candidates.emplace_back([&] {
        const auto o = g.run(as_outcome, 1, [] { return 1; }, {.stop = stop.get_token()});
        ended += o.has_value() || o.errc() == flight_errc::cancelled || number_of(o) == 1;
      });
    }
    auto stays = g.start(1, [] { return 2; });
    ASSERT_TRUE(support::until_callers(g, 4));
    std::jthread stopping([&] { stop.request_stop(); });
    leader.fail.open();
    EXPECT_TRUE(stays.get_outcome().has_value());
    candidates.clear();
    stopping.join();
    EXPECT_EQ(ended, 2);
    ASSERT_TRUE(g.in_flight().empty());
  }
}

// Goal    An error that a promise delivers, later and on another thread, is handed over as well.
TEST(hand_over, error_of_a_promise) {
  group g({.on_error = error_policy::hand_over(1)});
  std::optional<singleflight::flight_promise<int>> promise;
  support::gate given;
  auto f = g.start(1, [&, once = std::make_unique<int>()](singleflight::flight_promise<int> p) {
    promise.emplace(std::move(p));
    given.open();
  });
  given.wait();
  std::atomic<int> led{0};
  std::jthread joiner([&] { EXPECT_EQ(*g.run(1, [&] { return led += 6; }), 6); });
  ASSERT_TRUE(support::until_callers(g, 2));
  promise->set_error(std::make_exception_ptr(backend_down(1)));
  EXPECT_EQ(*f.get(), 6);
  joiner.join();
  EXPECT_EQ(led, 6);
}

// Goal    With no caller left to try again, only the run leader gets its error, and the key is
//         free.
TEST(hand_over, without_others_the_error_is_the_leaders) {
  group g({.on_error = error_policy::hand_over(5)});
  int loads = 0;
  EXPECT_EQ(number_of(g.run(as_outcome, 1, [&]() -> int { throw backend_down(++loads); })), 1);
  EXPECT_EQ(loads, 1);
  EXPECT_EQ(g.stats().handed_over, 0u);
  EXPECT_TRUE(g.in_flight().empty());
}

// Goal    On the inline executor, a load that is handed over waits for its turn on the thread that
//         hands it over; a thread that waits for it within a load runs it itself, and at once,
//         since the other thread may next wait for that.
TEST(hand_over, inline_load_is_run_by_its_waiter) {
  singleflight::group<int, int> flights({.executor = singleflight::inline_executor,
                                         .on_error = singleflight::error_policy::hand_over(1)});
  singleflight::group<int, int> others({.executor = singleflight::inline_executor});
  std::optional<singleflight::flight_promise<int>> promise;
  auto first = flights.start(
      1, [&](singleflight::flight_promise<int> given) { promise.emplace(std::move(given)); });
  std::atomic<bool> joined{false};
  std::optional<support::asleep> waiter;
  std::jthread waits([&] {
    waiter.emplace();
    auto outer = others.start(9, [&] {
      auto f = flights.start(1, [] { return 7; });
      joined = true;
      return int{*f.get()};
    });
    EXPECT_EQ(*outer.get(), 7);
  });
  ASSERT_TRUE(support::eventually([&] { return joined && (*waiter)(); }));
  auto asked = others.start(5, [&] {
    promise->set_error(std::make_exception_ptr(std::runtime_error("handed over")));
    auto f = others.start(9, [] { return 7; });  // unless it has ended already
    return int{*f.get()};
  });
  EXPECT_EQ(*asked.get(), 7);
  EXPECT_EQ(*first.get(), 7);
}

}  // namespace
