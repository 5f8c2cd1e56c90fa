// SPDX-License-Identifier: Apache-2.0
//
// Stop callbacks of loads, which run on other threads: a call in a callback that would wait for its
// load is refused, as it is within the load. And groups whose last owner is one of their own loads.

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <stop_token>
#include <thread>
#include <utility>

#include "support/death.hpp"
#include "support/eventually.hpp"
#include "support/executors.hpp"
#include "support/gate.hpp"
#include <singleflight/core/manual_timer.hpp>
#include <singleflight/flight.hpp>

namespace {

using namespace std::chrono_literals;
using singleflight::as_outcome;
using singleflight::flight_errc;
using singleflight::flight_error;
using singleflight::group_options;
using group = singleflight::group<int, int>;

/// The error that `wait` is refused with; empty when it is not refused.
template <class Wait>
std::optional<flight_errc> refusal_of(Wait wait) {
  try {
    wait();
  } catch (const flight_error& error) {
    return error.errc();
  }
  return std::nullopt;
}

/// A load that runs until it is asked to stop. Its stop callback, which it waits for as it ends,
/// calls `within`.
struct until_stopped {
  std::function<void()> within{};
  support::gate running{};
  std::atomic<int> calls{0};

  auto load() {
    return [this](std::stop_token stop) {
      const std::stop_callback callback(stop, [this] {
        within();
        ++calls;
      });
      running.open();
      support::eventually([&] { return stop.stop_requested(); }, "the stop");
      return 1;
    };
  }
};

/// A load whose stop callback closes its group, and is refused.
struct closes : until_stopped {
  explicit closes(group& g) {
    within = [&g] {
      EXPECT_EQ(refusal_of([&] { g.close(); }), flight_errc::recursive);
      EXPECT_EQ(refusal_of([&] { (void)g.close_for(1h); }), flight_errc::recursive);
    };
  }
};

// Scenario 53
// Goal    close() within a stop callback of one of the group's loads would wait for itself: it is
//         refused as `recursive`, on the thread of the last caller that leaves.
TEST(stop_callback, closes_its_group_as_the_last_caller_leaves) {
  group g;
  closes load(g);
  {
    auto f = g.start(1, load.load());
    load.running.wait();
  }
  EXPECT_EQ(load.calls, 1);
  EXPECT_EQ(*g.run(2, [] { return 2; }), 2) << "the refused call must not close the group";
}

// Scenario 53
// Goal    The same on the thread that stops a run() leader, and for a leader with joiners.
TEST(stop_callback, closes_its_group_as_the_leader_is_stopped) {
  group g;
  closes load(g);
  std::stop_source source;
  std::jthread leader([&] { EXPECT_EQ(*g.run(1, load.load(), {.stop = source.get_token()}), 1); });
  load.running.wait();
  source.request_stop();
  leader.join();
  EXPECT_EQ(load.calls, 1);
}

// Scenario 53
// Goal    The same on a thread that closes or destroys the group.
TEST(stop_callback, closes_its_group_as_that_is_closed) {
  for (const bool destroyed : {false, true}) {
    auto g = std::make_unique<group>();
    closes load(*g);
    auto f = g->start(1, load.load());
    load.running.wait();
    if (destroyed) {
      g.reset();
    } else {
      g->close();
    }
    EXPECT_EQ(load.calls, 1);
    EXPECT_EQ(*f.get(), 1);
  }
}

// Scenario 53
// Goal    The same where load_timeout stops the load, on a thread of the library.
TEST(stop_callback, closes_its_group_as_the_load_times_out) {
  singleflight::manual_timer time;
  group g({.timer = &time, .load_timeout = 1s});
  closes load(g);
  auto f = g.start(1, load.load());
  load.running.wait();
  time.advance(1s);
  EXPECT_EQ(f.get_outcome().errc(), flight_errc::timed_out);
  EXPECT_TRUE(support::eventually([&] { return load.calls == 1; }, "the stop callback"));
}

// Goal    A thread that stops a leader runs no load of another flight: the leader waits for the
//         stop callback, and may hold a lock that such a load takes.
TEST(stop_callback, runs_no_load_of_another_flight) {
  singleflight::group<int, int> g({.executor = singleflight::inline_executor});
  support::gate hold;
  std::stop_source stop;
  std::thread leads([&] {
    EXPECT_EQ(*g.run(1,
                     [&] {
                       hold.wait();
                       return 1;
                     },
                     {.stop = stop.get_token()}),
              1);
  });
  hold.await_arrivals();
  std::atomic<std::thread::id> ran_on{};
  auto next = g.start_fresh(1, [&] {
    ran_on = std::this_thread::get_id();
    return 2;
  });
  stop.request_stop();
  EXPECT_EQ(*next.get(), 2);
  EXPECT_NE(ran_on.load(), std::this_thread::get_id());
  hold.open();
  leads.join();
}

// Scenario 53
// Goal    A wait for the load itself is refused too, directly or through the load of another key.
TEST(stop_callback, waits_for_its_own_load) {
  group g({.on_abandon = singleflight::abandon::drain});
  group others;
  until_stopped load;
  load.within = [&] {
    EXPECT_EQ(g.run(as_outcome, 1, [] { return 2; }).errc(), flight_errc::recursive);
    const auto other = others.run(1, [&] {
      EXPECT_EQ(g.run(as_outcome, 1, [] { return 3; }).errc(), flight_errc::recursive);
      return 4;
    });
    EXPECT_EQ(*other, 4);
  };
  {
    auto f = g.start(1, load.load());
    load.running.wait();
  }
  EXPECT_EQ(load.calls, 1);
}

TEST(stop_callback_death_test, destroys_its_group) {
  support::die_apart();
  EXPECT_DEATH(
      {
        auto g = std::make_unique<group>();
        until_stopped load;
        load.within = [&g] { g.reset(); };
        auto f = g->start(1, load.load());
        load.running.wait();
        { const auto left = std::move(f); }
      },
      "destroyed within one of its own loads");
}

// Scenario 53
// Goal    A group whose last owner is the loader of one of its loads, or a callback, is destroyed
//         with that, once the load is over.
TEST(stop_callback, last_owner_is_a_load_or_a_callback) {
  struct session {
    explicit session(std::atomic<int>& ended, group_options options)
        : flights(std::move(options)), ended_(ended) {}
    ~session() { ++ended_; }
    group flights;

   private:
    std::atomic<int>& ended_;
  };
  std::atomic<int> ended{0};
  int sessions = 0;
  for (const bool is_inline : {false, true}) {
    const auto make = [&] {
      ++sessions;
      return std::make_shared<session>(
          ended,
          is_inline ? group_options{.executor = singleflight::inline_executor} : group_options{});
    };
    {
      auto s = make();
      group& g = s->flights;
      g.start(1, [s = std::move(s)] { return 1; }).detach();
    }
    {
      auto s = make();
      auto f = s->flights.start(1, [] { return 1; });
      std::move(f).on_ready([s = std::move(s)](const auto&) {});
    }
    std::optional<singleflight::flight_promise<int>> kept;
    support::gate given;
    {
      auto s = make();
      group& g = s->flights;
      g.start(1, [s = std::move(s), &kept, &given](singleflight::flight_promise<int> p) {
         kept.emplace(std::move(p));
         given.open();
       }).detach();
    }
    given.wait();
    std::jthread([&] { std::exchange(kept, std::nullopt)->set_value(1); }).join();
  }
  EXPECT_TRUE(support::eventually([&] { return ended == sessions; }, "the sessions' end"));
}

}  // namespace
