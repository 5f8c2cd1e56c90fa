// SPDX-License-Identifier: Apache-2.0
//
// run_many and start_many: one load for those of many keys that are not being loaded yet.

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <optional>
#include <span>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "support/eventually.hpp"
#include "support/executors.hpp"
#include "support/gate.hpp"
#include <singleflight/core.hpp>
#include <singleflight/flight.hpp>

namespace sf = singleflight;
using namespace std::chrono_literals;
using ints = sf::group<int, int>;
using outcomes = std::vector<sf::outcome<int>>;

namespace {

/// Answers with ten times the key, and records the calls.
struct tenfold {
  outcomes operator()(std::span<const int> keys) {
    calls.emplace_back(keys.begin(), keys.end());
    outcomes all;
    for (const int key : keys) all.emplace_back(key * 10);
    return all;
  }
  std::vector<std::vector<int>> calls;
};

// Goal    The load is called once for all keys, and there is one outcome per key, by position.
TEST(bulk, one_load_for_all_keys) {
  ints flights;
  tenfold load;
  const auto all = flights.run_many(std::vector{3, 1, 2}, load);
  ASSERT_EQ(all.size(), 3U);
  EXPECT_EQ(**all[0], 30);
  EXPECT_EQ(**all[1], 10);
  EXPECT_EQ(**all[2], 20);
  EXPECT_FALSE(all[0]->shared());
  EXPECT_EQ(load.calls, (std::vector<std::vector<int>>{{3, 1, 2}}));
  EXPECT_EQ(flights.stats().loads, 3U);
  EXPECT_EQ(flights.stats().calls, 3U);
  EXPECT_TRUE(flights.in_flight().empty());
  EXPECT_TRUE(flights.run_many(std::vector<int>{}, load).empty());
  EXPECT_EQ(load.calls.size(), 1U) << "no keys, no load";
}

// Goal    The same for start_many, which returns a handle per key.
TEST(bulk, one_started_load_for_all_keys) {
  support::manual_executor queue;
  ints flights({.executor = queue});
  auto calls = std::make_shared<tenfold>();
  auto all = flights.start_many(std::vector{3, 1},
                                [calls](std::span<const int> keys) { return (*calls)(keys); });
  EXPECT_EQ(support::callers_inside(flights), 2U);
  EXPECT_EQ(queue.run_all(), 1U);
  EXPECT_EQ(*all.at(0).get(), 30);
  EXPECT_EQ(*all.at(1).get(), 10);
  EXPECT_EQ(calls->calls, (std::vector<std::vector<int>>{{3, 1}}));
  EXPECT_TRUE(flights.in_flight().empty());
}

// Scenario 11
// Goal    A bulk load that throws leaves every one of its keys free, and its joiners get its
//         exception.
TEST(bulk, a_failed_bulk_load_frees_all_its_keys) {
  ints flights;
  support::gate hold;
  std::jthread bulk([&] {
    const auto all = flights.run_many(std::vector{1, 2}, [&](std::span<const int>) -> outcomes {
      hold.wait();
      throw std::runtime_error("down");
    });
    for (const auto& o : all) EXPECT_THROW(o.rethrow(), std::runtime_error);
  });
  hold.await_arrivals();
  auto joiner = flights.start(2, [] { return 0; });
  EXPECT_EQ(support::callers_inside(flights), 3U);
  hold.open();
  EXPECT_THROW((void)joiner.get(), std::runtime_error);
  bulk.join();
  EXPECT_TRUE(flights.in_flight().empty());
  EXPECT_EQ(*flights.run(2, [] { return 22; }), 22);
  EXPECT_EQ(*flights.run(1, [] { return 11; }), 11);
}

// Scenario 11
// Goal    The same for a started bulk load.
TEST(bulk, a_failed_started_bulk_load_frees_all_its_keys) {
  support::manual_executor queue;
  ints flights({.executor = queue});
  auto all = flights.start_many(std::vector{1, 2}, [](std::span<const int>) -> outcomes {
    throw std::runtime_error("down");
  });
  queue.run_all();
  for (auto& f : all) EXPECT_THROW((void)f.get(), std::runtime_error);
  EXPECT_TRUE(flights.in_flight().empty());
  EXPECT_EQ(*flights.run(2, [] { return 22; }), 22);
}

// Goal    A load that answers with the wrong number of outcomes is broken for all its keys.
TEST(bulk, a_wrong_size_is_broken) {
  support::manual_executor queue;
  ints flights({.executor = queue});
  const auto short_load = [](std::span<const int>) { return outcomes(1, sf::outcome<int>(1)); };
  for (const auto& o : flights.run_many(std::vector{1, 2}, short_load)) {
    EXPECT_EQ(o.errc(), sf::flight_errc::broken);
  }
  auto started = flights.start_many(std::vector{1, 2}, short_load);
  queue.run_all();
  for (auto& f : started) EXPECT_EQ(f.get_outcome().errc(), sf::flight_errc::broken);
  EXPECT_TRUE(flights.in_flight().empty());
  EXPECT_EQ(flights.stats().broken, 4U);
}

// Goal    Each key may end in its own way: a value, an exception or a flight_errc, run or started.
TEST(bulk, each_key_has_its_own_outcome) {
  support::manual_executor queue;
  ints flights({.executor = queue});
  const auto load = [](std::span<const int>) {
    outcomes all;
    all.emplace_back(1);
    all.emplace_back(std::make_exception_ptr(std::out_of_range("two")));
    all.emplace_back(sf::flight_errc::rejected);
    return all;
  };
  const auto run = flights.run_many(std::vector{1, 2, 3}, load);
  EXPECT_EQ(**run[0], 1);
  EXPECT_THROW(run[1].rethrow(), std::out_of_range);
  EXPECT_EQ(run[2].errc(), sf::flight_errc::rejected);
  auto started = flights.start_many(std::vector{1, 2, 3}, load);
  queue.run_all();
  EXPECT_EQ(*started[0].get(), 1);
  EXPECT_THROW((void)started[1].get(), std::out_of_range);
  EXPECT_EQ(started[2].get_outcome().errc(), sf::flight_errc::rejected);
}

// Scenario 12
// Goal    A key that is listed twice is loaded once, and both positions get the same object.
TEST(bulk, a_key_that_is_listed_twice) {
  ints flights;
  tenfold load;
  const auto all = flights.run_many(std::vector{5, 6, 5}, load);
  EXPECT_EQ(load.calls, (std::vector<std::vector<int>>{{5, 6}}));
  EXPECT_EQ(**all[0], 50);
  EXPECT_EQ(**all[1], 60);
  EXPECT_EQ(**all[2], 50);
  EXPECT_EQ(&**all[0], &**all[2]);
  EXPECT_EQ(all[0]->callers(), 2U);
  EXPECT_EQ(all[0]->role(), sf::flight_role::leader);
  EXPECT_EQ(all[2]->role(), sf::flight_role::joiner);
  EXPECT_EQ(all[1]->callers(), 1U);
  EXPECT_TRUE(flights.in_flight().empty());
}

// Scenario 12
// Goal    Handles of start_many that are dropped unread block nothing else in the group, even for a
//         repeated key.
TEST(bulk, started_handles_dropped_unread) {
  support::manual_executor queue;
  ints flights({.executor = queue});
  int loads = 0;
  {
    const auto dropped = flights.start_many(std::vector{1, 1, 2}, [&](std::span<const int> keys) {
      ++loads;
      return outcomes(keys.size(), sf::outcome<int>(0));
    });
  }
  EXPECT_TRUE(flights.in_flight().empty());
  EXPECT_EQ(*flights.run(1, [] { return 3; }), 3);
  queue.run_all();
  EXPECT_EQ(loads, 0) << "no caller waits for it";
  auto twice = flights.start_many(std::vector{1, 1}, [&](std::span<const int> keys) {
    ++loads;
    return outcomes(keys.size(), sf::outcome<int>(4));
  });
  queue.run_all();
  EXPECT_EQ(*twice[0].get(), 4);
  EXPECT_EQ(*twice[1].get(), 4);
  EXPECT_EQ(loads, 1);
}

// Goal    Keys in flight are joined, the others are loaded, and the led ones are published before
//         the call waits for the joined ones.
// Method  The flight that is joined ends only after another caller has received the led key's
//         outcome.
TEST(bulk, publishes_what_it_leads_before_it_waits) {
  ints flights;
  support::gate hold;
  support::gate bulk_load;
  std::jthread other([&] {
    (void)flights.run(1, [&] {
      hold.wait();
      return 100;
    });
  });
  hold.await_arrivals();
  std::jthread bulk([&] {
    const auto all = flights.run_many(std::vector{1, 2}, [&](std::span<const int> keys) {
      EXPECT_EQ(keys.size(), 1U);
      EXPECT_EQ(keys[0], 2);
      bulk_load.wait();
      return outcomes(1, sf::outcome<int>(200));
    });
    EXPECT_EQ(**all[0], 100);
    EXPECT_EQ(all[0]->role(), sf::flight_role::joiner);
    EXPECT_EQ(**all[1], 200);
  });
  bulk_load.await_arrivals();
  auto third = flights.start(2, [] { return 0; });
  bulk_load.open();
  EXPECT_EQ(*third.get(), 200);
  EXPECT_FALSE(hold.is_open());
  hold.open();
}

// Goal    A bulk call that sleeps on another key gets the later end of a flight that it has joined,
//         not a failure that another caller has received before.
TEST(bulk, a_flight_that_times_out_after_a_failure) {
  sf::manual_timer time;
  ints flights({.timer = &time, .on_error = sf::error_policy::hand_over(1), .load_timeout = 1s});
  support::gate fails;
  std::jthread first([&] {
    EXPECT_THROW((void)flights.run(1,
                                   [&]() -> int {
                                     fails.wait();
                                     throw std::domain_error("load");
                                   }),
                 std::domain_error);
  });
  fails.await_arrivals();
  support::gate slow;
  std::jthread second([&] {
    EXPECT_EQ(*flights.run(1,
                           [&] {
                             slow.wait();
                             return 2;
                           }),
              2);
  });
  ASSERT_TRUE(support::until_callers(flights, 2));
  fails.open();
  slow.await_arrivals();
  time.advance(500ms);
  support::gate other;
  std::jthread third([&] {
    (void)flights.run(2, [&] {
      other.wait();
      return 20;
    });
  });
  other.await_arrivals();
  std::jthread bulk([&] {
    tenfold load;
    const auto all = flights.run_many(std::vector{2, 1}, load);
    EXPECT_EQ(**all[0], 20);
    EXPECT_EQ(all[1].errc(), sf::flight_errc::timed_out);
    EXPECT_TRUE(load.calls.empty());
  });
  ASSERT_TRUE(support::eventually([&] { return flights.stats().joined == 3; }, "the bulk call"));
  auto waits = flights.start(1, [] { return 0; });
  time.advance(500ms);  // the load of key 2 has as much time left
  EXPECT_EQ(waits.get_outcome().errc(), sf::flight_errc::timed_out);
  other.open();
  bulk.join();
  slow.open();
}

// Goal    Two bulk calls over the same keys in opposite orders do not wait for each other in a
//         cycle.
TEST(bulk, opposite_orders_do_not_deadlock) {
  ints flights;
  std::atomic<int> bad{0};
  {
    std::vector<std::jthread> threads;
    for (int t = 0; t < 2; ++t) {
      threads.emplace_back([&, t] {
        const std::vector<int> keys = t == 0 ? std::vector{1, 2, 3, 4} : std::vector{4, 3, 2, 1};
        for (int i = 0; i < 2'000; ++i) {
          tenfold load;
          for (const auto& o : flights.run_many(keys, load)) bad += o.has_value() ? 0 : 1;
        }
      });
    }
  }
  EXPECT_EQ(bad, 0);
  EXPECT_TRUE(flights.in_flight().empty());
}

// Goal    A stop ends only run_many's wait for the keys that it joined: it still gets the ones that
//         it led.
// Method  The stop is requested within its load, so it has fired when the wait would begin.
TEST(bulk, a_stop_ends_the_wait_for_what_was_joined) {
  support::manual_executor queue;
  ints flights({.executor = queue});
  auto elsewhere = flights.start(1, [] { return 1; });
  std::stop_source stop;
  tenfold load;
  const auto all = flights.run_many(std::vector{1, 2},
                                    [&](std::span<const int> keys) {
                                      stop.request_stop();
                                      return load(keys);
                                    },
                                    {.stop = stop.get_token()});
  EXPECT_EQ(all[0].errc(), sf::flight_errc::cancelled);
  EXPECT_EQ(*all[1].value(), 20);
  EXPECT_EQ(load.calls, (std::vector<std::vector<int>>{{2}}));
  queue.run_all();
  EXPECT_EQ(*elsewhere.get(), 1);
}

// Goal    A key whose hash throws in the middle of run_many is an error at that position only: the
//         other keys are loaded, and a caller that has joined one of them gets its value.
//         start_many throws. No key stays stuck (P9).
TEST(bulk, a_throwing_hash_in_the_middle_harms_no_other_key) {
  struct picky_hash {
    std::size_t operator()(int key) const {
      if (key < 0) throw std::invalid_argument("negative");
      return static_cast<std::size_t>(key);
    }
  };
  support::manual_executor queue;
  sf::group<int, int, picky_hash> flights({.executor = queue});
  tenfold load;
  std::optional<sf::flight<int>> stranger;
  const auto all = flights.run_many(std::vector{1, -1, 2}, [&](std::span<const int> keys) {
    stranger.emplace(flights.start(1, [] { return 0; }));
    return load(keys);
  });
  ASSERT_EQ(all.size(), 3u);
  EXPECT_EQ(*all[0].value(), 10);
  EXPECT_THROW((void)all[1].value(), std::invalid_argument);
  EXPECT_EQ(*all[2].value(), 20);
  EXPECT_EQ(load.calls, (std::vector<std::vector<int>>{{1, 2}}));
  EXPECT_EQ(*stranger->get(), 10);
  EXPECT_TRUE(flights.in_flight().empty());
  EXPECT_THROW((void)flights.start_many(std::vector{1, -1, 2}, load), std::invalid_argument);
  queue.run_all();
  EXPECT_TRUE(flights.in_flight().empty());
  EXPECT_EQ(*flights.run(1, [] { return 1; }), 1);
}

// Goal    Keys may have another type than Key (string views for a group of strings); values may be
//         void or move-only.
TEST(bulk, other_key_and_value_types) {
  sf::group<std::string, std::unique_ptr<int>> flights;
  const auto all = flights.run_many(std::vector<std::string_view>{"a", "bb"},
                                    [](std::span<const std::string> keys) {
                                      std::vector<sf::outcome<std::unique_ptr<int>>> got;
                                      for (const auto& k : keys) {
                                        got.emplace_back(std::make_unique<int>(k.size()));
                                      }
                                      return got;
                                    });
  EXPECT_EQ(***all[0], 1);
  EXPECT_EQ(***all[1], 2);
  support::manual_executor queue;
  sf::group<int, void> nothing({.executor = queue});
  const auto done = [](std::span<const int> keys) {
    return std::vector<sf::outcome<void>>(keys.size());
  };
  EXPECT_TRUE(nothing.run_many(std::vector{1, 2}, done)[1].has_value());
  auto started = nothing.start_many(std::vector{1, 2}, done);
  queue.run_all();
  EXPECT_TRUE(started[1].get_outcome().has_value());
}

/// A value whose move throws when `fuse` has counted down to 0.
struct fused {
  explicit fused(int n) : number(n) {}
  fused(fused&& other) : number(other.number) {
    if (number == 1 && fuse >= 0 && fuse-- == 0) throw std::domain_error("move");
  }
  fused& operator=(fused&&) = delete;
  int number;
  static inline std::atomic<int> fuse{-1};
};

// Goal    When the move of a bulk load's value throws, wherever it does, only that key fails: a
//         caller of another key gets that key's value, and no key is stuck (P9).
TEST(bulk, a_value_that_cannot_be_moved_harms_no_other_key) {
  for (const bool started : {false, true}) {
    bool burnt = false;
    for (int fuse = 0; !burnt; ++fuse) {
      SCOPED_TRACE(fuse);
      support::manual_executor queue;
      sf::group<int, fused> flights({.executor = queue});
      std::optional<sf::flight<fused>> stranger;
      const auto load = [&](std::span<const int> keys) {
        if (!started) stranger.emplace(flights.start(2, [] { return fused(0); }));
        std::vector<sf::outcome<fused>> all;
        all.reserve(keys.size());
        for (const int key : keys) all.emplace_back(fused(key));
        fused::fuse = fuse;
        return all;
      };
      try {
        if (started) {
          auto handles = flights.start_many(std::vector{1, 2}, load);
          stranger.emplace(flights.start(2, [] { return fused(0); }));
          queue.run_all();
          (void)handles[0].get();
        } else {
          auto all = flights.run_many(std::vector{1, 2}, load);
          (void)all[0].value();
        }
      } catch (const std::domain_error&) {
      }
      burnt = fused::fuse >= 0;
      fused::fuse = -1;
      queue.run_all();
      EXPECT_EQ((*stranger->get()).number, 2);
      EXPECT_TRUE(flights.in_flight().empty());
    }
  }
}

// Goal    No waiter of a started bulk load is notified before all of its keys are answered: a
//         callback of the first key, called on the answering thread, finds the second key ready.
TEST(bulk, all_keys_are_answered_before_any_waiter_is_notified) {
  support::manual_executor queue;
  ints flights({.executor = queue});
  tenfold load;
  auto handles = flights.start_many(std::vector{1, 2}, load);
  std::optional<bool> ready;
  std::move(handles[0]).on_ready(sf::inline_executor, [&](const auto&) {
    ready = handles[1].ready();
  });
  queue.run_all();
  EXPECT_EQ(ready, true);
}

}  // namespace
