// SPDX-License-Identifier: Apache-2.0

#include <gtest/gtest.h>
#include <pthread.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <ranges>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

#include "support/eventually.hpp"
#include "support/executors.hpp"
#include "support/failure.hpp"
#include "support/gate.hpp"
#include <singleflight/sync.hpp>

namespace sf = singleflight;

namespace {

using namespace std::chrono_literals;
using sf::flight_errc;
using support::failure;

using calls_of_int = std::vector<std::function<int(std::stop_token)>>;

// Goal    There is one outcome per call, by position; an error stops no other call and keeps its
//         type.
TEST(run_all, an_outcome_for_each_call) {
  std::atomic<int> ran{0};
  std::vector<std::function<int()>> calls;
  for (int i = 0; i < 10; ++i) {
    calls.emplace_back([&ran, i] {
      ++ran;
      if (i % 3 == 1) throw failure{i};
      return i;
    });
  }
  for (const std::size_t limit : {std::size_t{1}, std::size_t{3}, std::size_t{100}}) {
    ran = 0;
    auto all = sf::run_all(calls, {.limit = limit});
    EXPECT_EQ(ran, 10);
    ASSERT_EQ(all.size(), 10U);
    for (int i = 0; i < 10; ++i) {
      auto& one = all[static_cast<std::size_t>(i)];
      EXPECT_EQ(one.has_value(), i % 3 != 1);
      if (one) {
        EXPECT_EQ(*one, i);
      } else {
        try {
          one.value();
        } catch (const failure& thrown) {
          EXPECT_EQ(thrown.number, i);
        }
      }
    }
  }
}

// Goal    In series, calls run in order, one at a time.
TEST(run_all, in_series) {
  std::atomic<int> inside{0};
  std::vector<int> order;
  const auto all = sf::run_all(std::views::iota(0, 50) | std::views::transform([&](int i) {
                                 return [&, i] {
                                   EXPECT_EQ(++inside, 1);
                                   order.push_back(i);
                                   --inside;
                                 };
                               }),
                               {.limit = 1});
  EXPECT_EQ(all.size(), 50U);
  EXPECT_EQ(order.size(), 50U);
  EXPECT_TRUE(std::ranges::is_sorted(order));
}

// Goal    In parallel, calls that wait for each other all begin.
TEST(run_all, side_by_side) {
  constexpr std::size_t count = 6;
  sf::thread_pool pool({.max_threads = count});
  support::gate all_in;
  std::jthread opener([&] {
    all_in.await_arrivals(count);
    all_in.open();
  });
  const std::vector<std::function<void()>> calls(count, [&] { all_in.wait(); });
  for (const auto& one : sf::run_all(calls, {.executor = pool})) EXPECT_TRUE(one);
}

// Goal    At the deadline running calls get a stop request and keep their own outcomes; calls that
//         have not begun are timed_out and never run.
// Method  A manual clock; the first call moves it past the deadline, and returns once it sees the
//         stop.
TEST(run_all, the_deadline) {
  sf::manual_timer time;
  for (const sf::any_executor& executor :
       {sf::any_executor(), sf::any_executor(support::manual_executor())}) {
    int ran = 0;
    calls_of_int calls(4, [&](const std::stop_token&) { return ++ran; });
    calls[1] = [&](const std::stop_token& stop) {
      EXPECT_FALSE(stop.stop_requested());
      time.advance(5s);
      support::eventually([&] { return stop.stop_requested(); });
      return 100;
    };
    const auto all =
        sf::run_all(calls, {.timeout = 5s, .limit = 1, .executor = executor, .timer = &time});
    EXPECT_EQ(*all.at(0), 1);
    EXPECT_EQ(*all.at(1), 100) << "the call's own outcome counts";
    EXPECT_EQ(all.at(2).errc(), flight_errc::timed_out);
    EXPECT_EQ(all.at(3).errc(), flight_errc::timed_out);
    EXPECT_EQ(ran, 1);
  }
}

// Goal    No call begins past the deadline, even while the expiry is still on its way.
// Method  The call that moves the clock past the deadline does not wait for its stop request.
TEST(run_all, nothing_begins_past_the_deadline) {
  for (int i = 0; i < 200; ++i) {
    sf::manual_timer time;
    int ran = 0;
    std::vector<std::function<void()>> calls(3, [&] { ++ran; });
    calls[0] = [&] { time.advance(1s); };
    const auto all = sf::run_all(calls, {.timeout = 1s, .limit = 1, .timer = &time});
    EXPECT_TRUE(all.at(0));
    EXPECT_EQ(all.at(1).errc(), flight_errc::timed_out);
    EXPECT_EQ(all.at(2).errc(), flight_errc::timed_out);
    EXPECT_EQ(ran, 0);
  }
}

// Goal    The deadline also expires on the steady clock: a call that observes its token ends the
//         wait.
TEST(run_all, the_deadline_of_the_default_timer) {
  calls_of_int calls(2, [&](const std::stop_token& stop) {
    support::eventually([&] { return stop.stop_requested(); });
    return 1;
  });
  const auto all = sf::run_all(calls, {.timeout = 1ms, .limit = 1});
  EXPECT_FALSE(all.at(1));
  EXPECT_EQ(all.at(1).errc(), flight_errc::timed_out);
}

// Goal    Calls that end in time leave no alarm behind.
TEST(run_all, in_time) {
  sf::manual_timer time;
  const std::vector<std::function<int()>> calls(3, [] { return 1; });
  for (const auto& one : sf::run_all(calls, {.timeout = 1s, .timer = &time})) EXPECT_EQ(*one, 1);
  time.advance(10s);
}

// Goal    Calls that have ended are not delayed by an expiry that cannot begin.
// Method  All threads on which timeouts fire wait at a gate; a manual clock.
TEST(run_all, busy_timeout_threads_do_not_delay_its_return) {
  constexpr std::size_t threads = 16;
  std::atomic<std::size_t> left{0};
  support::gate hold;
  for (std::size_t i = 0; i < threads; ++i) {
    sf::detail::timeout_pool().execute(sf::task([&] {
      hold.wait();
      ++left;
    }));
  }
  hold.await_arrivals(threads);
  sf::manual_timer time;
  std::vector<std::function<int()>> calls(2, [] { return 1; });
  calls[0] = [&] {
    time.advance(1s);
    return 0;
  };
  const auto all = sf::run_all(calls, {.timeout = 1s, .limit = 1, .timer = &time});
  EXPECT_EQ(*all.at(0), 0);
  EXPECT_EQ(all.at(1).errc(), flight_errc::timed_out);
  hold.open();
  support::eventually([&] { return left == threads; }, "the end of the waiting threads");
}

// Goal    The wait in run_all does not block what the expiry of its deadline waits for: while it
//         waits for the expiry, tasks in this thread's trampoline run on another thread.
// Method  The stop callback waits at a gate that a task queued behind the waiting one opens.
TEST(run_all, an_expiry_that_waits_for_this_thread) {
  sf::manual_timer time;
  support::gate hold;
  const auto waits = [&] { hold.wait(); };
  std::optional<std::stop_callback<decltype(waits)>> on_stop;
  const calls_of_int calls(1, [&](const std::stop_token& stop) {
    on_stop.emplace(stop, waits);
    time.advance(1s);
    hold.await_arrivals();
    return 1;
  });
  sf::inline_executor.execute(sf::task([&] {
    sf::inline_executor.execute(sf::task([&] { hold.open(); }));
    EXPECT_EQ(*sf::run_all(calls, {.timeout = 1s, .limit = 1, .timer = &time}).at(0), 1);
    EXPECT_TRUE(hold.is_open());
  }));
}

// Goal    A range that throws leaves no call and no alarm behind, whatever has begun.
TEST(run_all, a_range_that_throws) {
  for (const bool passed : {false, true}) {
    sf::manual_timer time;
    support::gate begun;
    std::atomic<int> ended{0};
    auto alive = std::make_shared<int>();
    const auto make = [&](int i) {
      if (i == 3) {
        begun.await_arrivals();
        begun.open();
        if (passed) time.advance(2s);
        throw failure{i};
      }
      return [&, alive](const std::stop_token& stop) {
        begun.wait();
        support::eventually([&] { return stop.stop_requested(); });
        ++ended;
      };
    };
    EXPECT_THROW((void)sf::run_all(std::views::iota(0, 5) | std::views::transform(make),
                                   {.timeout = 1s, .limit = 1, .timer = &time}),
                 failure);
    EXPECT_EQ(ended, 1);
    EXPECT_EQ(alive.use_count(), 1);
    time.advance(10s);
  }
}

// Goal    Calls may be move-only and made while the range is traversed.
TEST(run_all, move_only_calls_made_by_the_range) {
  const auto make = [](int i) { return [owned = std::make_unique<int>(i)] { return *owned; }; };
  const auto all = sf::run_all(std::views::iota(0, 3) | std::views::transform(make));
  for (int i = 0; i < 3; ++i) EXPECT_EQ(*all.at(static_cast<std::size_t>(i)), i);
}

// Goal    After a stop, before or during the calls, calls that have not begun are cancelled and
//         running calls see the stop.
TEST(run_all, a_stop) {
  std::stop_source source;
  int ran = 0;
  calls_of_int calls(3, [&](const std::stop_token& stop) {
    ++ran;
    source.request_stop();
    EXPECT_TRUE(stop.stop_requested());
    return 1;
  });
  for (const int expected : {1, 0}) {  // the second time it was stopped beforehand
    ran = 0;
    const auto all = sf::run_all(calls, {.timeout = 1h, .limit = 1, .stop = source.get_token()});
    EXPECT_EQ(ran, expected);
    EXPECT_EQ(all.at(0).has_value(), expected == 1);
    EXPECT_EQ(all.at(2).errc(), flight_errc::cancelled);
  }
}

// Goal    Arguments out of range are refused before any call.
TEST(run_all, senseless_arguments_are_refused) {
  bool ran = false;
  const std::vector<std::function<void()>> calls(1, [&] { ran = true; });
  EXPECT_THROW((void)sf::run_all(calls, {.timeout = -1ns}), std::invalid_argument);
  EXPECT_THROW((void)sf::run_all(calls, {.limit = 0}), std::invalid_argument);
  EXPECT_FALSE(ran);
  EXPECT_TRUE(sf::run_all(std::vector<std::function<void()>>{}, {.timeout = 1s}).empty());
}

// Goal    A call that ends its thread is broken; the other calls are not stopped.
// Method  The range makes its second call once the first one has begun, so that it is a thread of
//         the pool that ends; that thread ends once two more calls are queued behind the limit.
TEST(run_all, a_call_that_ends_its_thread) {
  sf::thread_pool pool({.max_threads = 2});
  support::gate all_queued;
  const auto make = [&](int i) {
    if (i == 1) all_queued.await_arrivals();
    if (i == 4) all_queued.open();
    return [&all_queued, i] {
      if (i < 2) all_queued.wait();
      if (i == 0) pthread_exit(nullptr);
      return i;
    };
  };
  const auto all = sf::run_all(std::views::iota(0, 5) | std::views::transform(make),
                               {.limit = 2, .executor = pool});
  EXPECT_EQ(all.at(0).errc(), flight_errc::broken);
  for (int i = 1; i < 5; ++i) EXPECT_EQ(*all.at(static_cast<std::size_t>(i)), i);
}

// Goal    With executors that accept no task, all calls run on this thread.
TEST(run_all, on_executors_that_accept_nothing) {
  const std::vector<std::function<int()>> calls(3, [] { return 1; });
  for (const auto& one : sf::run_all(calls, {.executor = support::refusing_executor{}})) {
    EXPECT_EQ(*one, 1);
  }
  for (const auto& one : sf::run_all(calls, {.executor = support::dropping_executor{}})) {
    EXPECT_EQ(*one, 1);
  }
}

// Goal    Values may be move-only, and so may calls, which are not moved.
TEST(run_all, move_only_values_and_calls) {
  struct call {
    std::unique_ptr<int> owned;
    std::unique_ptr<int> operator()() const { return std::make_unique<int>(*owned + 1); }
  };
  std::vector<call> calls;
  for (int i = 0; i < 3; ++i) calls.push_back({std::make_unique<int>(i)});
  const auto all = sf::run_all(calls);
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(**all.at(i), static_cast<int>(i) + 1);
    EXPECT_NE(calls[i].owned, nullptr);
  }
}

// Goal    Nested calls on a pool of one thread end.
TEST(run_all, nested_on_a_pool_of_one_thread) {
  sf::thread_pool pool({.max_threads = 1});
  std::atomic<int> leaves{0};
  std::function<void(int)> fan_out = [&](int levels) {
    if (levels == 0) {
      ++leaves;
      return;
    }
    const std::vector<std::function<void()>> calls(3, [&, levels] { fan_out(levels - 1); });
    (void)sf::run_all(calls, {.executor = pool});
  };
  support::gate done;
  pool.execute(sf::task([&] {
    fan_out(3);
    done.open();
  }));
  done.wait();
  EXPECT_EQ(leaves, 27);
}

}  // namespace
