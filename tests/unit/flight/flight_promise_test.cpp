// SPDX-License-Identifier: Apache-2.0
//
// A promise that is destroyed unanswered: its callers always get an outcome, and the right one
// (P5).

#include <gtest/gtest.h>

#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <thread>
#include <utility>
#include <vector>

#include "support/death.hpp"
#include "support/executors.hpp"
#include "support/gate.hpp"
#include <singleflight/core.hpp>
#include <singleflight/flight.hpp>

namespace {

using singleflight::flight_errc;
using singleflight::flight_promise;
using ints = singleflight::group<int, int>;

struct full : std::runtime_error {
  full() : runtime_error("the loop is full") {}
};

/// An event loop that takes a function and throws, which destroys the function during unwinding.
template <class Fn>
void post_to_full_loop(Fn fn) {
  const Fn kept(std::move(fn));
  throw full();
}
void lose(flight_promise<int>&& promise) {
  post_to_full_loop([p = std::move(promise)]() mutable { p.set_value(1); });
}

struct promises : testing::Test {
  support::manual_executor queue;
  ints flights{{.executor = queue}};

  /// Returns the outcome of the flight of `load` once the load has returned.
  template <class Load>
  singleflight::outcome<singleflight::shared_result<int>> outcome_of(Load load) {
    auto f = flights.start(1, std::move(load));
    auto joined = flights.start(1, [] { return 2; });
    queue.run_all();
    EXPECT_TRUE(f.ready()) << "the load has returned, and its callers still wait";
    if (!f.ready()) std::abort();  // the group could not be destroyed
    EXPECT_TRUE(flights.in_flight().empty());
    auto got = f.get_outcome();
    EXPECT_EQ(joined.get_outcome().errc(), got.errc());
    return got;
  }
};

// Scenario 46
// Goal    A promise that is destroyed by an exception which its loader catches is broken.
TEST_F(promises, dropped_by_an_exception_that_is_caught) {
  const auto got = outcome_of([](flight_promise<int> p) {
    try {
      lose(std::move(p));
    } catch (const full&) {
    }
  });
  EXPECT_EQ(got.errc(), flight_errc::broken);
  EXPECT_EQ(*flights.run(1, [] { return 3; }), 3);
}

// Scenario 46
// Goal    An exception that leaves the loader is the answer, with its own type; also after another
//         one was caught, and where it passes the load of another flight first.
TEST_F(promises, dropped_by_an_exception_that_leaves) {
  EXPECT_THROW((void)outcome_of([](flight_promise<int> p) { lose(std::move(p)); }).value(), full);
  EXPECT_THROW((void)outcome_of([](flight_promise<int> p) {
                 try {
                   lose(std::move(p));
                 } catch (const full&) {
                   throw std::domain_error("another");
                 }
               }).value(),
               std::domain_error);
  ints others;
  EXPECT_THROW((void)outcome_of([&](flight_promise<int> p) {
                 (void)others.run(1, [&]() -> int {
                   const auto inner = std::move(p);
                   throw full();
                 });
               }).value(),
               full);
}

// Scenario 46
// Goal    The same where the exception passes the load of another flight, and is caught within it
//         or outside of it.
TEST_F(promises, dropped_within_a_nested_load) {
  ints others;
  for (const bool inside : {true, false}) {
    const auto got = outcome_of([&](flight_promise<int> p) {
      const auto nested = [&] {
        if (!inside) lose(std::move(p));
        try {
          lose(std::move(p));
        } catch (const full&) {
        }
        return 1;
      };
      EXPECT_EQ(others.run(singleflight::as_outcome, 1, nested).has_value(), inside);
    });
    EXPECT_EQ(got.errc(), flight_errc::broken);
  }
}

// Scenario 46
// Goal    A load that begins while an exception is in flight (in a destructor) distinguishes that
//         exception from its own.
// Method  inline_executor: the load runs within start.
TEST(promise, loads_that_run_while_the_stack_unwinds) {
  ints inline_flights({.executor = singleflight::inline_executor});
  struct starting {
    ints& flights;
    std::function<void(flight_promise<int>)> load;
    std::optional<singleflight::flight<int>>& to;
    ~starting() { to.emplace(flights.start(1, load)); }
  };
  const auto start_unwinding = [&](const std::function<void(flight_promise<int>)>& load) {
    std::optional<singleflight::flight<int>> f;
    try {
      const starting later{inline_flights, load, f};
      throw full();
    } catch (const full&) {
    }
    if (!f->ready()) std::abort();  // the group could not be destroyed
    return f->get_outcome();
  };
  EXPECT_EQ(start_unwinding([](flight_promise<int>) {}).errc(), flight_errc::broken);
  EXPECT_EQ(start_unwinding([](flight_promise<int> p) {
              try {
                lose(std::move(p));
              } catch (const full&) {
              }
            }).errc(),
            flight_errc::broken);
  EXPECT_THROW((void)start_unwinding([](flight_promise<int> p) { lose(std::move(p)); }).value(),
               full);
}

// Scenario 46
// Goal    Under hand_over each attempt is judged by itself: an exception that leaves the loader is
//         handed over, one that is caught breaks the flight.
TEST(promise, attempts_that_lose_it) {
  for (const bool caught : {true, false}) {
    support::manual_executor queue;
    ints flights({.executor = queue, .on_error = singleflight::error_policy::hand_over(3)});
    const auto attempts = std::make_shared<int>(0);
    auto f = flights.start(1, [attempts, caught](flight_promise<int> p) {
      if (++*attempts == 3) return p.set_value(7);
      if (*attempts == 1 || !caught) lose(std::move(p));
      try {
        lose(std::move(p));
      } catch (const full&) {
      }
    });
    queue.run_all();
    if (!f.ready()) std::abort();  // the group could not be destroyed
    const auto got = f.get_outcome();
    if (caught) {
      EXPECT_EQ(got.errc(), flight_errc::broken);
    } else {
      EXPECT_EQ(*got.value(), 7);
    }
    EXPECT_EQ(*attempts, caught ? 2 : 3);
  }
}

// Scenario 46
// Goal    A loader that has caught the exception and then waits, for its own flight or for one that
//         waits for it, blocks no caller: its promise is broken at that point.
TEST_F(promises, a_loader_that_continues_and_waits) {
  std::optional<singleflight::flight<int>> own;
  ints others;
  const auto got = outcome_of([&](flight_promise<int> p) {
    own.emplace(flights.start(1, [] { return 0; }));
    try {
      lose(std::move(p));
    } catch (const full&) {
    }
    auto behind = own->get_outcome();
    EXPECT_EQ(behind.errc(), flight_errc::broken);
    EXPECT_EQ(*others.run(1, [] { return 4; }), 4);
  });
  EXPECT_EQ(got.errc(), flight_errc::broken);
}

// Goal    An exception on another thread is not an exception of the loader: the promise is broken
//         at once.
TEST_F(promises, dropped_by_an_exception_on_another_thread) {
  auto f = flights.start(1, [](flight_promise<int> p) {
    std::thread([&p] {
      try {
        lose(std::move(p));
      } catch (const full&) {
      }
    }).join();
    throw std::domain_error("too late");
  });
  queue.run_all();
  EXPECT_EQ(f.get_outcome().errc(), flight_errc::broken);
}

// Goal    A null error is a mistake, and is detected where it is set, not where it would be thrown.
TEST(flight_promise_death, a_null_error) {
  support::die_apart();
  ints flights({.executor = singleflight::inline_executor});
  EXPECT_DEATH(
      (void)flights.start(1, [](flight_promise<int> p) { p.set_error(std::current_exception()); }),
      "null exception_ptr");
}

}  // namespace
