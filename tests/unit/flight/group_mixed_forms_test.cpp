// SPDX-License-Identifier: Apache-2.0
//
// All forms of calls mixed freely on one key.

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <thread>
#include <tuple>
#include <utility>
#include <vector>

#include "support/eventually.hpp"
#include "support/executors.hpp"
#include "support/gate.hpp"
#include "support/task.hpp"
#include <singleflight/core.hpp>
#include <singleflight/flight.hpp>

namespace sf = singleflight;
using namespace std::chrono_literals;
using ints = sf::group<int, int>;

namespace {

/// Where a call stores its outcome, and the source of its stop token.
struct call_record {
  std::atomic<bool> done{false};
  int value = 0;
  std::optional<sf::flight_errc> errc;
  sf::flight_role role{};
  std::stop_source stop;

  void keep(const sf::outcome<sf::shared_result<int>>& o) {
    errc = o.errc();
    if (o.has_value()) {
      value = **o;
      role = o->role();
    }
    done = true;
  }
};

using load_fn = std::function<int()>;
constexpr auto far_away = std::chrono::steady_clock::time_point::max();

support::detached await_plain(ints& flights, load_fn load, call_record& to) {
  auto f = flights.start(1, load);
  try {
    auto r = co_await f;
    to.keep(std::move(r));
  } catch (const sf::flight_error& e) {
    to.keep(e.errc());
  }
}
support::detached await_until(ints& flights, load_fn load, call_record& to) {
  auto f = flights.start(1, load);
  const auto o = co_await f.until(far_away, to.stop.get_token()).as_outcome();
  to.keep(o);
}

struct form {
  const char* name;
  bool blocks;       ///< needs a thread of its own
  bool fresh;        ///< waits behind a running flight
  bool cancellable;  ///< leaves when its record's stop fires
  void (*call)(ints&, load_fn, call_record&);
};

std::vector<sf::outcome<int>> load_one(const load_fn& load, std::span<const int> keys) {
  std::vector<sf::outcome<int>> all;
  for (std::size_t i = 0; i < keys.size(); ++i) all.emplace_back(load());
  return all;
}

const form forms[] = {
    {"run", true, false, false,
     [](ints& g, load_fn load, call_record& to) { to.keep(g.run(1, load)); }},
    {"run_with_limits", true, false, true,
     [](ints& g, load_fn load, call_record& to) {
       try {
         to.keep(g.run(
             1, load,
             {.deadline = std::chrono::steady_clock::now() + 1h, .stop = to.stop.get_token()}));
       } catch (const sf::flight_error& e) {
         to.keep(e.errc());
       }
     }},
    {"run_as_outcome", true, false, true,
     [](ints& g, load_fn load, call_record& to) {
       to.keep(g.run(sf::as_outcome, 1, load, {.stop = to.stop.get_token()}));
     }},
    {"start_get", true, false, false,
     [](ints& g, load_fn load, call_record& to) { to.keep(g.start(1, load).get()); }},
    {"start_await", false, false, false,
     [](ints& g, load_fn load, call_record& to) { await_plain(g, std::move(load), to); }},
    {"start_until", false, false, true,
     [](ints& g, load_fn load, call_record& to) { await_until(g, std::move(load), to); }},
    {"start_until_get", true, false, true,
     [](ints& g, load_fn load, call_record& to) {
       auto f = g.start(1, load);
       to.keep(f.until(far_away, to.stop.get_token()).get_outcome());
     }},
    {"on_ready", false, false, false,
     [](ints& g, load_fn load, call_record& to) {
       g.start(1, load).on_ready([&to](const auto& o) { to.keep(o); });
     }},
    {"run_many", true, false, false,
     [](ints& g, load_fn load, call_record& to) {
       to.keep(g.run_many(std::vector{1},
                          [&](std::span<const int> keys) { return load_one(load, keys); })[0]);
     }},
    {"start_many", true, false, false,
     [](ints& g, load_fn load, call_record& to) {
       to.keep(g.start_many(std::vector{1},
                            [load](std::span<const int> keys) { return load_one(load, keys); })[0]
                   .get_outcome());
     }},
    {"run_fresh", true, true, true,
     [](ints& g, load_fn load, call_record& to) {
       to.keep(g.run_fresh(sf::as_outcome, 1, load, {.stop = to.stop.get_token()}));
     }},
    {"start_fresh", true, true, false,
     [](ints& g, load_fn load, call_record& to) { to.keep(g.start_fresh(1, load).get_outcome()); }},
};

class mixed_forms : public testing::TestWithParam<std::tuple<form, form>> {
 protected:
  /// Makes the call in its form; a blocking form on a thread of its own.
  void call(const form& how, load_fn load, call_record& to) {
    if (how.blocks) {
      threads.emplace_back([this, how, load, &to] { how.call(flights, load, to); });
    } else {
      how.call(flights, load, to);
    }
  }

  support::thread_per_task executor;
  ints flights{{.executor = executor}};
  std::vector<std::jthread> threads;
};

class mixed_forms_cancelled : public mixed_forms {};

/// The pairs that share a flight and of which one can be cancelled.
std::vector<std::tuple<form, form>> cancellable_pairs() {
  std::vector<std::tuple<form, form>> pairs;
  for (const form& leads : forms) {
    for (const form& joins : forms) {
      if (!joins.fresh && (leads.cancellable || joins.cancellable))
        pairs.emplace_back(leads, joins);
    }
  }
  return pairs;
}

std::string name_of(const testing::TestParamInfo<std::tuple<form, form>>& pair) {
  return std::string(std::get<0>(pair.param).name) + "_then_" + std::get<1>(pair.param).name;
}

// Scenario 10
// Goal    Whatever form leads and whatever form joins, a joiner shares the leader's load; a fresh
//         caller waits behind it, and its load begins after the leader's has ended.
// Method  The leader's load is held until stats() shows that the joiner is counted inside.
TEST_P(mixed_forms, one_leads_the_other_joins) {
  const auto& [leads, joins] = GetParam();
  support::gate hold;
  std::atomic<int> running{0};
  std::atomic<int> most{0};
  std::atomic<int> loads{0};
  call_record leader;
  call_record joiner;
  call(
      leads,
      [&] {
        most = std::max(most.load(), ++running);
        ++loads;
        hold.wait();
        --running;
        return 1;
      },
      leader);
  hold.await_arrivals();
  call(
      joins,
      [&] {
        most = std::max(most.load(), ++running);
        ++loads;
        --running;
        return 2;
      },
      joiner);
  support::eventually([&] { return flights.stats().calls == 2; }, "the second call");
  ASSERT_EQ(flights.in_flight().size(), 1U);
  EXPECT_EQ(flights.in_flight()[0].callers, joins.fresh ? 1U : 2U);
  EXPECT_FALSE(leader.done);
  EXPECT_FALSE(joiner.done);
  hold.open();
  support::eventually([&] { return leader.done && joiner.done; }, "both outcomes");
  threads.clear();
  EXPECT_EQ(leader.value, 1);
  EXPECT_EQ(leader.role, sf::flight_role::leader);
  EXPECT_EQ(joiner.value, joins.fresh ? 2 : 1);
  if (!joins.fresh) {
    EXPECT_EQ(joiner.role, sf::flight_role::joiner);
  }
  EXPECT_EQ(loads, joins.fresh ? 2 : 1);
  EXPECT_EQ(most, 1) << "loads of one key overlapped";
  support::until_flights(flights, 0);
  EXPECT_EQ(flights.stats().loads, static_cast<std::uint64_t>(loads));
}

// Scenario 10
// Goal    When the callers that can be cancelled leave, in whichever role, a plain waiter is not
//         affected.
// Method  Three callers: the pair and a plain started one. Those of the pair that can be cancelled
//         are stopped while the load is held; the plain waiter, and those that cannot be cancelled,
//         get the value.
TEST_P(mixed_forms_cancelled, a_cancelled_caller_harms_nobody) {
  const auto& [leads, joins] = GetParam();
  support::gate hold;
  std::atomic<int> loads{0};
  call_record leader;
  call_record joiner;
  const auto load = [&] {
    ++loads;
    hold.wait();
    return 1;
  };
  call(leads, load, leader);
  hold.await_arrivals();
  call(joins, load, joiner);
  support::eventually([&] { return flights.stats().calls == 2; }, "the second call");
  auto plain = flights.start(1, load);
  ASSERT_EQ(support::callers_inside(flights), 3U);
  // A started call that is cancelled before it waits still counts until it waits.
  leader.stop.request_stop();
  joiner.stop.request_stop();
  const std::size_t left = (leads.cancellable ? 1U : 0U) + (joins.cancellable ? 1U : 0U);
  support::until_callers(flights, 3 - left);
  hold.open();
  EXPECT_EQ(*plain.get(), 1);
  support::eventually([&] { return leader.done && joiner.done; }, "both outcomes");
  threads.clear();
  EXPECT_EQ(loads, 1);
  if (joins.cancellable) {
    EXPECT_EQ(joiner.errc, sf::flight_errc::cancelled);
  } else {
    EXPECT_EQ(joiner.value, 1);
  }
  const bool leader_runs = std::string(leads.name).starts_with("run");
  if (leads.cancellable && !leader_runs) {
    EXPECT_EQ(leader.errc, sf::flight_errc::cancelled);
  } else {
    EXPECT_EQ(leader.value, 1);  // a run leader stays
  }
}

INSTANTIATE_TEST_SUITE_P(every_pair, mixed_forms,
                         testing::Combine(testing::ValuesIn(forms), testing::ValuesIn(forms)),
                         name_of);
INSTANTIATE_TEST_SUITE_P(every_pair, mixed_forms_cancelled, testing::ValuesIn(cancellable_pairs()),
                         name_of);

// Goal    All forms at once on one key make one load, with as many callers as calls.
TEST(mixed_forms_together, every_form_joins_one_flight) {
  support::thread_per_task executor;
  ints flights({.executor = executor});
  constexpr std::size_t count = std::size(forms) - 2;  // without the fresh ones
  std::atomic<int> loads{0};
  std::vector<call_record> records(count);
  {
    std::vector<std::jthread> threads;
    for (std::size_t i = 0; i < count; ++i) {
      const auto load = [&] {
        ++loads;
        support::until_callers(flights, count);
        return 7;
      };
      if (forms[i].blocks) {
        threads.emplace_back([&, i, load] { forms[i].call(flights, load, records[i]); });
      } else {
        forms[i].call(flights, load, records[i]);
      }
    }
  }
  for (auto& r : records) {
    support::eventually([&] { return r.done.load(); });
    EXPECT_EQ(r.value, 7);
  }
  EXPECT_EQ(loads, 1);
  EXPECT_EQ(flights.stats().joined, count - 1);
}

// Scenario 14
// Goal    A completion callback that calls again leads a new flight, since removal came before
//         notification; the same from a resumed coroutine.
TEST(retry, from_a_completion_callback) {
  support::manual_executor queue;
  ints flights({.executor = queue});
  std::vector<int> got;
  int loads = 0;
  std::function<void(int)> again = [&](int left) {
    flights.start(1, [&] { return ++loads; }).on_ready([&, left](const auto& o) {
      got.push_back(**o);
      EXPECT_EQ(o->role(), sf::flight_role::leader);
      if (left > 0) again(left - 1);
    });
  };
  again(3);
  queue.run_all();
  EXPECT_EQ(got, (std::vector{1, 2, 3, 4}));

  const auto awaiting = [](ints& from, int& count) -> support::detached {
    for (int i = 0; i < 3; ++i) {
      auto f = from.start(1, [&count] { return ++count; });
      const int expected = count + 1;
      auto r = co_await f;
      EXPECT_EQ(*r, expected);
      EXPECT_EQ(r.role(), sf::flight_role::leader);
    }
  };
  awaiting(flights, loads);
  queue.run_all();
  EXPECT_EQ(loads, 7);
}

}  // namespace
