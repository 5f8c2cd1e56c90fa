// SPDX-License-Identifier: Apache-2.0
//
// Loads that fail, and loads that end without a result (P5).

#include <gtest/gtest.h>
#include <pthread.h>

#include <atomic>
#include <chrono>
#include <coroutine>
#include <cstdint>
#include <exception>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <thread>
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

struct backend_error : std::runtime_error {
  backend_error(const std::string& what, int with) : runtime_error(what), detail(with) {}
  int detail;
};

// Scenario 7
// Goal    A load that throws at once leaves nothing behind: the next call loads again, in every
//         form.
TEST(errors, a_synchronous_failure_leaves_the_key_free) {
  support::manual_executor queue;
  ints flights({.executor = queue});
  int loads = 0;
  const auto fail = [&]() -> int { throw backend_error("down", ++loads); };
  const auto fail_later = [&]() -> support::lazy<int> {
    throw backend_error("down", ++loads);
    co_return 0;
  };
  const auto fail_in_call = [&](sf::flight_promise<int>) { throw backend_error("down", ++loads); };
  EXPECT_THROW((void)flights.run(1, fail), backend_error);
  EXPECT_THROW((void)flights.run(1, fail, {.deadline = std::chrono::steady_clock::now() + 1h}),
               backend_error);
  EXPECT_THROW((void)flights.run_fresh(1, fail), backend_error);
  const auto o = flights.run(sf::as_outcome, 1, fail);
  EXPECT_FALSE(o.has_value());
  EXPECT_FALSE(o.errc().has_value());
  EXPECT_THROW(o.rethrow(), backend_error);
  const auto start_all = [&](auto load) {
    auto f = flights.start(1, load);
    queue.run_all();
    EXPECT_THROW((void)f.get(), backend_error);
    auto g = flights.start_fresh(1, load);
    queue.run_all();
    EXPECT_THROW((void)g.get(), backend_error);
  };
  start_all(fail);
  start_all(fail_later);
  start_all(fail_in_call);
  EXPECT_EQ(loads, 10);
  EXPECT_TRUE(flights.in_flight().empty());
  EXPECT_EQ(*flights.run(1, [&] { return ++loads; }), 11);
  EXPECT_EQ(flights.stats().loads, 11U);
}

// Scenario 8
// Goal    N callers, the load throws T: every one of them catches T, with its type, message and
// Goal    When the load of N callers throws T, every one of them catches T, with its type, message
//         and members, and the key is free again.
// Method  Blocking, started, awaiting and called-back callers; the load throws only when all have
//         joined.
TEST(errors, every_sharer_catches_the_loads_own_exception) {
  constexpr std::size_t callers = 7;
  support::thread_per_task threads;
  ints flights({.executor = threads});
  std::atomic<int> caught{0};
  std::atomic<int> loads{0};
  const auto load = [&]() -> int {
    ++loads;
    support::until_callers(flights, callers);
    throw backend_error("the backend is down", 42);
  };
  const auto judge = [&](auto get) {
    try {
      get();
      ADD_FAILURE() << "no exception";
    } catch (const backend_error& e) {
      EXPECT_STREQ(e.what(), "the backend is down");
      EXPECT_EQ(e.detail, 42);
      ++caught;
    }
  };
  const auto await = [&](auto f) -> support::detached {
    const auto o = co_await f.as_outcome();
    judge([&] { o.rethrow(); });
  };
  {
    std::vector<std::jthread> running;
    for (int i = 0; i < 3; ++i) {
      running.emplace_back([&] { judge([&] { (void)flights.run(1, load); }); });
    }
    running.emplace_back(
        [&] { judge([&] { (void)flights.run(sf::as_outcome, 1, load).value(); }); });
    running.emplace_back([&] { judge([&] { (void)flights.start(1, load).get(); }); });
    await(flights.start(1, load));
    flights.start(1, load).on_ready([&](auto o) { judge([&] { o.rethrow(); }); });
  }
  support::eventually([&] { return caught == callers; }, "all callers");
  EXPECT_EQ(loads, 1);
  EXPECT_TRUE(flights.in_flight().empty());
  EXPECT_EQ(*flights.run(1, [] { return 5; }), 5);
}

// Goal    A load may throw a type that is not derived from std::exception.
TEST(errors, anything_can_be_thrown) {
  ints flights;
  try {
    (void)flights.run(1, []() -> int { throw 17; });
    ADD_FAILURE();
  } catch (int thrown) {
    EXPECT_EQ(thrown, 17);
  }
}

// Scenario 9
// Goal    A task that the executor drops or refuses ends its flight as broken, for all its callers
//         (P5).
TEST(errors, a_dropped_or_refused_task_is_broken) {
  support::manual_executor queue;
  ints flights({.executor = queue});
  auto a = flights.start(1, [] { return 1; });
  auto b = flights.start(1, [] { return 2; });
  EXPECT_TRUE(queue.drop_one());
  EXPECT_EQ(a.get_outcome().errc(), sf::flight_errc::broken);
  EXPECT_EQ(b.get_outcome().errc(), sf::flight_errc::broken);
  EXPECT_EQ(flights.stats().broken, 2U);
  EXPECT_TRUE(flights.in_flight().empty());

  ints dropped({.executor = support::dropping_executor{}});
  EXPECT_EQ(dropped.start(1, [] { return 1; }).get_outcome().errc(), sf::flight_errc::broken);
  ints refused({.executor = support::refusing_executor{}});
  EXPECT_EQ(refused.start(1, [] { return 1; }).get_outcome().errc(), sf::flight_errc::broken);
  EXPECT_EQ(refused.start_fresh(1, [] { return 1; }).get_outcome().errc(), sf::flight_errc::broken);
  EXPECT_TRUE(refused.in_flight().empty());
  const auto many = [](std::span<const int> keys) {
    return std::vector<sf::outcome<int>>(keys.size(), sf::outcome<int>(1));
  };
  for (auto& f : refused.start_many(std::vector{1, 2}, many)) {
    EXPECT_EQ(f.get_outcome().errc(), sf::flight_errc::broken);
  }
  for (auto& f : dropped.start_many(std::vector{1, 2}, many)) {
    EXPECT_EQ(f.get_outcome().errc(), sf::flight_errc::broken);
  }
}

// Scenario 9
// Goal    A promise that is destroyed unanswered, and a loader coroutine that is destroyed, are
//         broken (P5).
TEST(errors, a_lost_promise_or_coroutine_is_broken) {
  support::manual_executor queue;
  ints flights({.executor = queue});
  std::optional<sf::flight_promise<int>> kept;
  auto f =
      flights.start(1, [&](sf::flight_promise<int> promise) { kept.emplace(std::move(promise)); });
  queue.run_all();
  EXPECT_FALSE(f.ready());
  kept.reset();
  EXPECT_EQ(f.get_outcome().errc(), sf::flight_errc::broken);

  auto g = flights.start(1, [](sf::flight_promise<int>) {});
  queue.run_all();
  EXPECT_EQ(g.get_outcome().errc(), sf::flight_errc::broken);

  std::coroutine_handle<> frame;
  struct forever {
    std::coroutine_handle<>* at;
    bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<> who) const noexcept { *at = who; }
    int await_resume() const noexcept { return 1; }
  };
  auto h = flights.start(1, [&] { return forever{&frame}; });
  auto joiner = flights.start(1, [] { return 2; });
  queue.run_all();
  ASSERT_TRUE(frame);
  EXPECT_FALSE(h.ready());
  frame.destroy();
  EXPECT_EQ(h.get_outcome().errc(), sf::flight_errc::broken);
  EXPECT_EQ(joiner.get_outcome().errc(), sf::flight_errc::broken);
  EXPECT_TRUE(flights.in_flight().empty());
  EXPECT_EQ(*flights.run(1, [] { return 3; }), 3);
}

// Scenario 9
// Goal    A run leader whose thread exits in its load leaves its joiners with broken and the key
//         free; the unwinding itself continues and is not captured (P5).
TEST(errors, a_leader_thread_that_exits_is_broken) {
  ints flights;
  support::gate hold;
  struct call {
    ints& flights;
    support::gate& hold;
    bool returned = false;
  } call{flights, hold};
  pthread_t leader{};
  ASSERT_EQ(pthread_create(
                &leader, nullptr,
                [](void* from) -> void* {
                  auto& c = *static_cast<struct call*>(from);
                  (void)c.flights.run(1, [&]() -> int {
                    c.hold.wait();
                    pthread_exit(nullptr);
                  });
                  c.returned = true;
                  return nullptr;
                },
                &call),
            0);
  hold.await_arrivals();
  std::jthread joiner([&] {
    EXPECT_EQ(flights.run(sf::as_outcome, 1, [] { return 2; }).errc(), sf::flight_errc::broken);
  });
  support::until_callers(flights, 2);
  auto started = flights.start(1, [] { return 3; });
  hold.open();
  ASSERT_EQ(pthread_join(leader, nullptr), 0);
  joiner.join();
  EXPECT_FALSE(call.returned);
  EXPECT_EQ(started.get_outcome().errc(), sf::flight_errc::broken);
  EXPECT_TRUE(flights.in_flight().empty());
  EXPECT_EQ(*flights.run(1, [] { return 3; }), 3);
}

// Scenario 9
// Goal    The same for the thread of a pool that runs a started load; the pool continues with the
//         next task.
TEST(errors, a_pool_thread_that_exits_is_broken) {
  sf::thread_pool pool({.max_threads = 1});
  ints flights({.executor = pool});
  support::gate hold;
  auto exits = flights.start(1, [&]() -> int {
    hold.wait();
    pthread_exit(nullptr);
  });
  hold.await_arrivals();
  auto next = flights.start(2, [] { return 2; });
  hold.open();
  EXPECT_EQ(exits.get_outcome().errc(), sf::flight_errc::broken);
  // The task queued behind it is not lost with the thread.
  if (!next.wait_for(support::patience)) {
    ADD_FAILURE() << "the task behind the thread's end never ran";
    next = flights.start(3, [] { return 2; });  // a new task starts a new thread
  }
  EXPECT_EQ(*next.get(), 2);
}

// Goal    A callback that ends the thread that registered it, called before on_ready returns, is
//         destroyed once, and the unwinding continues.
TEST(errors, a_callback_ends_the_thread_that_registered_it) {
  ints flights({.executor = sf::inline_executor});
  struct call {
    ints& flights;
    std::shared_ptr<int> held = std::make_shared<int>(1);
    bool returned = false;
  } call{flights};
  pthread_t thread{};
  ASSERT_EQ(pthread_create(
                &thread, nullptr,
                [](void* from) -> void* {
                  auto& c = *static_cast<struct call*>(from);
                  c.flights.start(1, [] { return 1; }).on_ready([held = c.held](const auto&) {
                    pthread_exit(nullptr);
                  });
                  c.returned = true;
                  return nullptr;
                },
                &call),
            0);
  ASSERT_EQ(pthread_join(thread, nullptr), 0);
  EXPECT_FALSE(call.returned);
  EXPECT_EQ(call.held.use_count(), 1);
  EXPECT_EQ(*flights.run(1, [] { return 3; }), 3);
}

// Goal    A promise can answer with the library's own errors, which arrive as such.
TEST(errors, a_promise_answers_with_a_flight_errc) {
  support::manual_executor queue;
  ints flights({.executor = queue});
  auto f =
      flights.start(1, [](sf::flight_promise<int> p) { p.set_error(sf::flight_errc::rejected); });
  queue.run_all();
  EXPECT_EQ(f.get_outcome().errc(), sf::flight_errc::rejected);
  EXPECT_EQ(flights.stats().rejected, 1U);
  auto g = flights.start(1, [](sf::flight_promise<int> p) {
    p.set_outcome(sf::outcome<int>(sf::flight_errc::overloaded));
  });
  queue.run_all();
  EXPECT_EQ(g.get_outcome().errc(), sf::flight_errc::overloaded);
}

// Goal    Of a promise's error and an exception that leaves the same loader, the first is the
//         answer.
TEST(errors, one_answer_a_promise) {
  support::manual_executor queue;
  ints flights({.executor = queue});
  auto f = flights.start(1, [](sf::flight_promise<int> p) {
    p.set_value(1);
    throw backend_error("too late", 0);
  });
  queue.run_all();
  EXPECT_EQ(*f.get(), 1);
}

// Goal    A promise answered on another thread, long after its loader returned, serves every
//         caller.
TEST(errors, a_promise_is_answered_from_anywhere) {
  support::manual_executor queue;
  ints flights({.executor = queue});
  std::optional<sf::flight_promise<int>> kept;
  auto f =
      flights.start(1, [&](sf::flight_promise<int> promise) { kept.emplace(std::move(promise)); });
  auto joiner = flights.start(1, [] { return 0; });
  queue.run_all();
  EXPECT_EQ(kept->context().callers(), 2U);
  EXPECT_FALSE(kept->context().forgotten());
  std::jthread([&] { kept->set_value(9); }).join();
  EXPECT_EQ(*f.get(), 9);
  EXPECT_EQ(*joiner.get(), 9);
}

// Goal    A load that ends in a flight_error, such as one thrown by a guard within it, gives every
//         caller that code and counts it for each; the exception object stays the load's own. In
//         every form.
TEST(errors, a_refusal_within_the_load_keeps_its_code) {
  support::manual_executor queue;
  ints flights({.executor = queue});
  const auto refuse = []() -> int { throw sf::flight_error(sf::flight_errc::rejected); };
  const auto refusal = std::make_exception_ptr(sf::flight_error(sf::flight_errc::rejected));
  const auto expect = [](const auto& how) {
    EXPECT_EQ(how.errc(), sf::flight_errc::rejected);
    EXPECT_THROW(how.rethrow(), sf::flight_error);
  };
  std::uint64_t calls = 0;
  const auto counted = [&](std::uint64_t more) {
    calls += more;
    EXPECT_EQ(flights.stats().rejected, calls);
  };
  expect(flights.run(sf::as_outcome, 1, refuse));
  counted(1);
  expect(flights.run(sf::as_outcome, 1, refuse,
                     {.stop = std::stop_source().get_token()}));  // a leader with a block
  counted(1);
  auto first = flights.start(1, refuse);
  auto joined = flights.start(1, refuse);
  bool called = false;
  flights.start(1, refuse).on_ready(sf::inline_executor, [&](const auto& how) {
    expect(how);
    called = true;
  });
  queue.run_all();
  expect(first.as_outcome().get());
  expect(joined.as_outcome().get());
  EXPECT_TRUE(called);
  counted(3);
  auto promised = flights.start(
      1, [&](sf::flight_promise<int> promise) { promise.set_outcome(sf::outcome<int>(refusal)); });
  queue.run_all();
  expect(promised.as_outcome().get());
  EXPECT_EQ(calls + 1, flights.stats().rejected);
  counted(1);
  const auto refuse_many = [&](std::span<const int> keys) {
    return std::vector<sf::outcome<int>>(keys.size(), sf::outcome<int>(refusal));
  };
  for (const auto& how : flights.run_many(std::vector{1, 2}, refuse_many)) {
    expect(how);
    EXPECT_EQ(how.exception(), refusal);
  }
  counted(2);
  EXPECT_EQ(flights.stats().timed_out + flights.stats().cancelled + flights.stats().broken, 0U);
}

// Goal    The same where the group hands over, and no caller is left to take over.
TEST(errors, a_refusal_that_is_handed_over_is_counted_once) {
  support::manual_executor queue;
  ints flights({.executor = queue, .on_error = sf::error_policy::hand_over(1)});
  const auto refuse = []() -> int { throw sf::flight_error(sf::flight_errc::rejected); };
  auto first = flights.start(1, refuse);
  auto second = flights.start(1, refuse);
  queue.run_all();
  EXPECT_EQ(first.as_outcome().get().errc(), sf::flight_errc::rejected);
  EXPECT_EQ(second.as_outcome().get().errc(), sf::flight_errc::rejected);
  EXPECT_EQ(flights.stats().handed_over, 1U);
  EXPECT_EQ(flights.stats().rejected, 2U);
}

// Goal    A load that calls for its own key and lets the refusal pass: both calls end as recursive.
//         A code that is not one of the library's is passed on, and counted nowhere.
TEST(errors, the_code_of_a_call_within_the_load) {
  ints flights;
  const auto how =
      flights.run(sf::as_outcome, 1, [&] { return *flights.run(1, [] { return 1; }); });
  EXPECT_EQ(how.errc(), sf::flight_errc::recursive);
  EXPECT_EQ(flights.stats().recursive, 2U);
  const auto strange = static_cast<sf::flight_errc>(99);
  const auto other =
      flights.run(sf::as_outcome, 1, [&]() -> int { throw sf::flight_error(strange); });
  EXPECT_EQ(other.errc(), strange);
}

}  // namespace
