// SPDX-License-Identifier: Apache-2.0
//
// What a loader may take and return, in run and in start.

#include <gtest/gtest.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <thread>
#include <utility>

#include "support/death.hpp"
#include "support/eventually.hpp"
#include "support/executors.hpp"
#include "support/task.hpp"
#include <singleflight/core.hpp>
#include <singleflight/flight.hpp>

namespace sf = singleflight;

namespace {

using ints = sf::group<int, int>;

int plain_function() { return 1; }

// Goal    run takes functions, lambdas, function objects and loaders of a context or a stop token.
TEST(loaders, of_run) {
  sf::group<int, int> flights;
  EXPECT_EQ(*flights.run(1, plain_function), 1);
  EXPECT_EQ(*flights.run(1, &plain_function), 1);
  EXPECT_EQ(*flights.run(1, [] { return 2; }), 2);
  EXPECT_EQ(*flights.run(1, [one = std::make_unique<int>(3)] { return *one; }), 3);
  EXPECT_EQ(*flights.run(1, [n = 3]() mutable { return ++n; }), 4);
  EXPECT_EQ(*flights.run(1, [](std::stop_token t) { return t.stop_requested() ? 0 : 5; }), 5);
  EXPECT_EQ(*flights.run(1, [](sf::flight_context& c) { return static_cast<int>(c.callers()); }),
            1);
  EXPECT_EQ(*flights.run(1, [](const sf::flight_context& c) { return c.forgotten() ? 0 : 7; }), 7);
  EXPECT_EQ(*flights.run(1, [] { return short{8}; }), 8) << "converted to the value's type";
}

/// Owns its answer, and needs more alignment than `new` provides by default.
struct alignas(128) wide_loader {
  explicit wide_loader(std::string answer) : text(std::move(answer)) {}
  std::string operator()() const {
    return reinterpret_cast<std::uintptr_t>(this) % 128 == 0 ? text : "not aligned";
  }
  std::string text;
};

// Goal    An owned loader is stored as its alignment requires, whatever the key behind it.
TEST(loaders, of_start_over_aligned) {
  support::manual_executor queue;
  sf::group<std::string, std::string> flights({.executor = queue});
  for (std::size_t length = 0; length < 40; ++length) {
    const std::string key(length, 'k');
    auto f = flights.start(key, wide_loader(key + ", answered at some length"));
    ASSERT_EQ(flights.in_flight().size(), 1U);
    EXPECT_EQ(flights.in_flight().front().key, key);
    queue.run_all();
    EXPECT_EQ(*f.get(), key + ", answered at some length");
  }
}

// Goal    start takes the same loaders and owns them; it also takes a promise loader, or one that
//         returns an awaitable of any promise type.
TEST(loaders, of_start) {
  support::manual_executor queue;
  sf::group<int, int> flights({.executor = queue});
  const auto value_of = [&](auto load) {
    auto f = flights.start(1, std::move(load));
    EXPECT_GE(queue.run_all(), 1U);
    return *f.get();
  };
  EXPECT_EQ(value_of(plain_function), 1);
  EXPECT_EQ(value_of(&plain_function), 1);
  EXPECT_EQ(value_of([one = std::make_unique<int>(3)] { return *one; }), 3);
  EXPECT_EQ(value_of([](std::stop_token t) { return t.stop_possible() ? 5 : 0; }), 5);
  EXPECT_EQ(value_of([](sf::flight_context& c) { return static_cast<int>(c.callers()); }), 1);
  EXPECT_EQ(value_of([](sf::flight_promise<int> p) { p.set_value(8); }), 8);
  EXPECT_EQ(value_of([](sf::flight_promise<int>&& p) { p.set_value(9); }), 9);
  EXPECT_EQ(value_of([]() -> support::lazy<int> { co_return 10; }), 10);
  EXPECT_EQ(value_of([](sf::flight_context& c) -> support::lazy<int> {
              co_return static_cast<int>(c.callers()) + 10;
            }),
            11);
  EXPECT_EQ(value_of([](std::stop_token t) -> support::lazy<int> {
              co_return t.stop_requested() ? 0 : 12;
            }),
            12);
  EXPECT_EQ(value_of([&flights, &queue]() -> support::lazy<int> {
              auto inner = flights.start(2, [] { return 13; });
              (void)queue;
              co_return *co_await inner;
            }),
            13);
}

// Goal    An awaitable loader may suspend and continue on another thread; its captures live until
//         its coroutine ends.
TEST(loaders, an_awaitable_that_suspends) {
  support::manual_executor queue;
  sf::group<int, std::string> flights({.executor = queue});
  support::suspension stop;
  auto token =
      std::make_shared<std::string>("captured, and too long for any small buffer of a string");
  auto f = flights.start(1, [&stop, token]() -> support::lazy<std::string> {
    co_await stop;
    co_return *token;
  });
  queue.run_all();
  ASSERT_TRUE(stop.taken());
  auto joiner = flights.start(1, [] { return std::string(); });
  std::jthread([&] { stop.resume(); }).join();
  EXPECT_EQ(*f.get(), *token);
  EXPECT_EQ(*joiner.get(), *token);
}

// Goal    void loads work in every form.
TEST(loaders, of_void) {
  support::manual_executor queue;
  sf::group<int, void> flights({.executor = queue});
  int ran = 0;
  (void)flights.run(1, [&] { ++ran; });
  (void)flights.run(1, [&](std::stop_token) { ++ran; });
  const auto all = [&](auto load) {
    auto f = flights.start(1, std::move(load));
    queue.run_all();
    (void)f.get();
  };
  all([&] { ++ran; });
  all([&](sf::flight_promise<void> p) {
    ++ran;
    p.set_value();
  });
  all([&]() -> support::lazy<> {
    ++ran;
    co_return;
  });
  EXPECT_EQ(ran, 5);
}

// Goal    A loader is destroyed when its flight is over, not when the last handle is dropped.
// Method  The handle, and a result, are kept longer than the load.
TEST(loaders, outlive_their_load_only_with_the_flight) {
  support::manual_executor queue;
  sf::group<int, int> flights({.executor = queue});
  auto token = std::make_shared<int>(0);
  auto f = flights.start(1, [token] { return 1; });
  queue.run_all();
  EXPECT_TRUE(f.ready());
  (void)f.get();
  EXPECT_EQ(token.use_count(), 1);
}

// Goal    A value whose construction throws affects only its own flight, and all its sharers get
//         the exception.
TEST(loaders, a_value_that_cannot_be_made) {
  struct bomb {
    bomb(int n) {  // NOLINT(google-explicit-constructor)
      if (n == 0) throw std::domain_error("zero");
    }
  };
  support::manual_executor queue;
  sf::group<int, bomb> flights({.executor = queue});
  auto f = flights.start(1, [](sf::flight_promise<bomb> p) { p.set_value(0); });
  auto g = flights.start(1, [](sf::flight_promise<bomb> p) { p.set_value(1); });
  queue.run_all();
  EXPECT_THROW((void)f.get(), std::domain_error);
  EXPECT_THROW((void)g.get(), std::domain_error);
  EXPECT_TRUE(flights.in_flight().empty());
}

// Goal    A handle is one-shot: a second use aborts with a message, in every build type.
TEST(flight_death_test, a_handle_is_used_once) {
  support::die_apart();
  EXPECT_DEATH(
      {
        ints flights;
        auto f = flights.start(1, [] { return 1; });
        (void)f.get();
        (void)f.get();
      },
      "used twice");
}

// Goal    The same for a promise.
TEST(flight_death_test, a_promise_is_answered_once) {
  support::die_apart();
  EXPECT_DEATH(
      {
        support::manual_executor queue;
        ints flights({.executor = queue});
        auto f = flights.start(1, [](sf::flight_promise<int> p) {
          p.set_value(1);
          p.set_value(2);
        });
        queue.run_all();
      },
      "answered twice");
}

}  // namespace
