// SPDX-License-Identifier: Apache-2.0

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pthread.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <exception>
#include <functional>
#include <limits>
#include <memory>
#include <new>
#include <optional>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <system_error>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include "support/bare_timer.hpp"
#include "support/death.hpp"
#include "support/eventually.hpp"
#include "support/executors.hpp"
#include "support/failure.hpp"
#include "support/gate.hpp"
#include "support/sanitizers.hpp"
#include "support/task.hpp"
#include <singleflight/core/manual_timer.hpp>
#include <singleflight/flight/group.hpp>
#include <singleflight/sync/semaphore.hpp>
#include <singleflight/sync/start_retry.hpp>

namespace {

using namespace std::chrono_literals;
using singleflight::flight_errc;
using singleflight::flight_error;
using singleflight::inline_executor;
using singleflight::limits;
using singleflight::manual_timer;
using singleflight::outcome;
using singleflight::pending_result;
using singleflight::retry_policy;
using singleflight::start_retry;
using std::chrono::nanoseconds;
using support::failure;
using testing::ElementsAre;
using testing::HasSubstr;

/// Draws the longest delay.
std::uint64_t all_ones() { return std::numeric_limits<std::uint64_t>::max(); }
constexpr auto forever = std::chrono::steady_clock::time_point::max();

/// The number of the failure that `error` holds; -1 for another exception.
int failure_in(const std::exception_ptr& error) {
  try {
    std::rethrow_exception(error);
  } catch (const failure& f) {
    return f.number;
  } catch (...) {
    return -1;
  }
}

/// A scene in which the test moves the time and runs the tasks.
struct scene {
  manual_timer time;
  support::manual_executor tasks;
  int calls = 0;

  /// Handles that were destroyed last have left tasks behind, which keep the executor alive.
  ~scene() { tasks.run_all(); }

  /// `attempts` calls with sleeps of 10 s between them.
  retry_policy policy(std::uint32_t attempts = 3) {
    return {
        .max_attempts = attempts, .base = 10s, .multiplier = 1, .random = all_ones, .timer = &time};
  }
  /// A function that fails until its attempt number `good`, and returns that number.
  auto good_at(std::uint32_t good) {
    return [this, good](std::uint32_t attempt) {
      ++calls;
      if (attempt < good) throw failure(static_cast<int>(attempt));
      return attempt;
    };
  }
  auto never_good() { return good_at(1000); }
};

/// Awaits `what`, and stores its outcome.
template <class V>
support::owned keep(pending_result<V> what, std::optional<outcome<V>>& how) {
  how.emplace(co_await what.as_outcome());
}
template <class V>
std::optional<flight_errc> code_of(const std::optional<outcome<V>>& how) {
  return how ? how->errc() : std::nullopt;
}

// ---- attempts -----------------------------------------------------------------------------------

// Goal    Attempts run on the executor, never in the call; sleeps last as long as the policy
//         requires, and occupy no task.
TEST(start_retry, attempts_run_on_the_executor_with_sleeps_between) {
  scene s;
  auto all = start_retry(s.policy(), s.good_at(3), {}, s.tasks);
  EXPECT_EQ(s.calls, 0);
  EXPECT_EQ(s.tasks.run_all(), 1U);
  EXPECT_EQ(s.calls, 1);
  s.time.advance(10s - 1ns);
  EXPECT_EQ(s.tasks.size(), 0U) << "before its time";
  s.time.advance(1ns);
  EXPECT_EQ(s.calls, 1) << "the timer's thread must not call the function";
  EXPECT_EQ(s.tasks.run_all(), 1U);
  EXPECT_EQ(s.calls, 2);
  EXPECT_FALSE(all.ready());
  s.time.advance(10s);
  s.tasks.run_all();
  EXPECT_TRUE(all.ready());
  EXPECT_EQ(all.get(), 3U);
}

// Goal    A run whose executor drops it when its alarm fires ends as broken, and its function is
//         destroyed on another thread: its destructor may wait for something that waits for the
//         fire.
TEST(start_retry, a_run_dropped_in_the_alarm_is_destroyed_elsewhere) {
  scene s;
  bool drops = false;
  const singleflight::any_executor executor([&](singleflight::task t) {
    if (!drops) s.tasks.execute(std::move(t));
  });
  std::atomic<std::thread::id> where;
  std::shared_ptr<int> part(new int(1), [&where](const int* p) {
    where = std::this_thread::get_id();
    delete p;
  });
  auto all = start_retry(
      s.policy(), [own = std::move(part)]() -> int { throw failure(*own); }, {}, executor);
  s.tasks.run_all();
  drops = true;
  s.time.advance(10s);
  EXPECT_EQ(all.get_outcome().errc(), flight_errc::broken);
  support::eventually([&] { return where.load() != std::thread::id(); }, "its destructor");
  EXPECT_NE(where.load(), std::this_thread::get_id());
}

// Goal    Without an executor the default pool runs the attempts; get() blocks until the result is
//         there.
TEST(start_retry, runs_on_the_default_pool) {
  const auto here = std::this_thread::get_id();
  auto all = start_retry({.base = 0ns}, [here](std::uint32_t attempt) {
    EXPECT_NE(std::this_thread::get_id(), here);
    if (attempt == 1) throw failure(1);
    return std::string("done");
  });
  EXPECT_EQ(all.get(), "done");
}

// Goal    The last attempt's exception is the result: the same object, with its own type.
TEST(start_retry, the_last_exception_is_the_result) {
  const failure* thrown = nullptr;
  auto all = start_retry({.max_attempts = 2, .base = 0ns}, [&](std::uint32_t attempt) {
    try {
      throw failure(static_cast<int>(attempt));
    } catch (const failure& f) {
      thrown = &f;
      throw;
    }
  });
  static_assert(std::is_same_v<decltype(all), pending_result<void>>);
  try {
    all.get();
    ADD_FAILURE() << "two failures, but no exception";
  } catch (const failure& f) {
    EXPECT_EQ(f.number, 2);
    EXPECT_EQ(&f, thrown);
  }
}

// Goal    Results of every kind arrive: void, a move-only object, a copy of a reference.
TEST(start_retry, results_of_every_kind) {
  scene s;
  auto nothing = start_retry(
      s.policy(), [] {}, {}, s.tasks);
  auto moved = start_retry(
      s.policy(), [] { return std::make_unique<int>(5); }, {}, s.tasks);
  int here = 6;
  auto copied = start_retry(
      s.policy(), [&]() -> const int& { return here; }, {}, s.tasks);
  static_assert(std::is_same_v<decltype(copied), pending_result<int>>);
  s.tasks.run_all();
  nothing.get();
  EXPECT_EQ(*moved.get(), 5);
  here = 7;
  EXPECT_EQ(copied.get(), 6);
}

// Goal    A result whose move throws counts as a failed attempt, and harms nothing else.
TEST(start_retry, a_result_that_cannot_be_moved_is_a_failure) {
  struct heavy {
    explicit heavy(bool f) : fails(f) {}
    heavy(heavy&& from) : fails(from.fails) {
      if (fails) throw failure(77);
    }
    heavy& operator=(heavy&&) = delete;
    bool fails;
  };
  scene s;
  auto good = start_retry(
      s.policy(), [](std::uint32_t n) { return heavy(n == 1); }, {}, s.tasks);
  s.tasks.run_all();
  s.time.advance(10s);
  s.tasks.run_all();
  EXPECT_FALSE(good.get().fails);
}

// Goal    The function may be move-only; it, the policy's functions and the stop token are
//         destroyed before the result is delivered, even if the handle is kept.
TEST(start_retry, arguments_are_destroyed_before_the_result) {
  scene s;
  auto mine = std::make_unique<int>(1);
  auto shared = std::make_shared<int>(2);
  const std::weak_ptr<int> watch = shared;
  retry_policy policy = s.policy();
  policy.retry_if = [shared](const auto&) { return true; };
  bool seen = false;
  auto all = start_retry(
      policy, [mine = std::move(mine), also = shared] { return *mine + *also; }, {}, s.tasks);
  policy = {};
  shared.reset();
  EXPECT_FALSE(watch.expired());
  support::owned waiter = [](auto& on, const auto& w, bool& destroyed) -> support::owned {
    EXPECT_EQ(co_await on, 3);
    destroyed = w.expired();
  }(all, watch, seen);
  s.tasks.run_all();
  EXPECT_TRUE(seen);
}

// Goal    retry_if may reject an exception; on_retry is called for the others; an exception from
//         either ends the retries.
TEST(start_retry, the_policys_functions_are_called) {
  scene s;
  std::vector<std::string> heard;
  retry_policy policy = s.policy(10);
  policy.retry_if = [](const std::exception_ptr& error) { return failure_in(error) != 3; };
  policy.on_retry = [&](std::uint32_t attempt, const std::exception_ptr& error, nanoseconds delay) {
    EXPECT_EQ(delay, 10s);
    heard.push_back(std::to_string(attempt) + ": " + std::to_string(failure_in(error)));
  };
  auto all = start_retry(policy, s.never_good(), {}, s.tasks);
  for (int i = 0; i < 10; ++i) {
    s.tasks.run_all();
    s.time.advance(10s);
  }
  EXPECT_EQ(failure_in(all.get_outcome().exception()), 3);
  EXPECT_THAT(heard, ElementsAre("1: 1", "2: 2"));

  policy.retry_if = [](const std::exception_ptr&) -> bool { throw std::domain_error("asked"); };
  auto thrown = start_retry(policy, s.never_good(), {}, s.tasks);
  s.tasks.run_all();
  EXPECT_THROW(thrown.get(), std::domain_error);
}

// Goal    100,000 attempts that fail at once, called (20,000) or awaited, use constant stack on any
//         executor. (Awaited: a fifth of that under a sanitizer.)
TEST(start_retry, many_attempts_in_constant_stack) {
  const auto eager = [](std::uint32_t many) {
    return retry_policy{.max_attempts = many, .base = 0ns};
  };
  constexpr std::uint32_t many = support::instrumented ? 20'000 : 100'000;
  auto awaited = start_retry(
      eager(many),
      [](std::uint32_t attempt) -> support::lazy<std::uint32_t> {
        if (attempt < many) throw 1;
        co_return attempt;
      },
      {}, inline_executor);
  ASSERT_TRUE(awaited.ready());
  EXPECT_EQ(awaited.get(), many);

  constexpr std::uint32_t fewer = 20'000;
  const auto plain = [](std::uint32_t attempt) {
    if (attempt < fewer) throw 1;
    return attempt;
  };
  auto called = start_retry(eager(fewer), plain, {}, inline_executor);
  ASSERT_TRUE(called.ready());
  EXPECT_EQ(called.get(), fewer);
  support::manual_executor tasks;
  auto queued = start_retry(eager(fewer), plain, {}, tasks);
  EXPECT_EQ(tasks.run_all(), fewer);
  EXPECT_EQ(queued.get(), fewer);
}

// ---- awaited attempts ---------------------------------------------------------------------------

// Goal    A function that returns an awaitable is awaited; the awaitable's exception is the
//         attempt's.
TEST(start_retry, an_awaitable_is_awaited) {
  scene s;
  support::suspension stops;
  auto all = start_retry(
      s.policy(),
      [&](std::uint32_t attempt) -> support::lazy<std::string> {
        co_await stops;
        if (attempt < 2) throw failure(1);
        co_return "second";
      },
      {}, s.tasks);
  s.tasks.run_all();
  ASSERT_TRUE(stops.taken());
  stops.resume();
  EXPECT_FALSE(all.ready());
  s.time.advance(10s);
  s.tasks.run_all();
  ASSERT_TRUE(stops.taken());
  stops.resume();
  EXPECT_EQ(all.get(), "second");
}

// Goal    A retry with no delay after an awaited attempt returns to the executor: it does not run
//         where the awaitable resumed.
TEST(start_retry, an_attempt_begins_on_the_executor_after_an_awaited_one) {
  scene s;
  support::suspension stops;
  auto all = start_retry(
      {.base = 0ns, .timer = &s.time},
      [&](std::uint32_t attempt) -> support::lazy<> {
        ++s.calls;
        co_await stops;
        if (attempt == 1) throw failure(1);
      },
      {}, s.tasks);
  s.tasks.run_all();
  stops.resume();
  EXPECT_EQ(s.calls, 1);
  EXPECT_EQ(s.tasks.run_all(), 1U);
  EXPECT_EQ(s.calls, 2);
  stops.resume();
  all.get();
}

// Goal    Flights and permits may be awaited in an attempt, in a coroutine or returned directly.
TEST(start_retry, handles_are_awaitables) {
  scene s;
  singleflight::group<int, int> loads({.executor = s.tasks});
  int loaded = 0;
  const auto load = [&] {
    if (++loaded % 2 == 1) throw failure(loaded);
    return loaded;
  };
  auto within = start_retry(
      s.policy(),
      [&]() -> support::lazy<int> {
        auto f = loads.start(1, load);
        co_return *co_await f;
      },
      {}, s.tasks);
  s.tasks.run_all();
  s.time.advance(10s);
  s.tasks.run_all();
  EXPECT_EQ(within.get(), 2);

  auto returned = start_retry(
      s.policy(), [&] { return loads.start(1, load); }, {}, s.tasks);
  s.tasks.run_all();
  s.time.advance(10s);
  s.tasks.run_all();
  EXPECT_EQ(*returned.get(), 4);

  singleflight::semaphore places(1, {.executor = s.tasks});
  auto held = places.acquire();
  auto permit = start_retry(
      s.policy(), [&] { return places.start_acquire(); }, {}, s.tasks);
  s.tasks.run_all();
  EXPECT_FALSE(permit.ready());
  held.release();
  s.tasks.run_all();
  EXPECT_TRUE(permit.get());
}

/// Awaitables whose await_suspend returns void, returns false, or throws; and one that is ready.
struct odd {
  enum kind { ready, resumed_within, refused, throws } what;
  bool await_ready() const { return what == ready; }
  bool await_suspend(std::coroutine_handle<> frame) const {
    if (what == throws) throw failure(9);
    if (what == refused) return false;
    frame.resume();
    return true;
  }
  int await_resume() const { return static_cast<int>(what); }
};
// Goal    Whatever an awaiter does, there is one result.
TEST(start_retry, awaiters_of_every_kind) {
  for (const auto kind : {odd::ready, odd::resumed_within, odd::refused}) {
    scene s;
    auto all = start_retry(
        s.policy(), [kind] { return odd{kind}; }, {}, s.tasks);
    s.tasks.run_all();
    EXPECT_EQ(all.get(), static_cast<int>(kind));
  }
  scene s;
  auto all = start_retry(
      s.policy(1), [] { return odd{odd::throws}; }, {}, s.tasks);
  s.tasks.run_all();
  EXPECT_THROW(all.get(), failure);
}

// Goal    If an awaited coroutine is destroyed, and with it what waits for it, the result is
//         broken.
TEST(start_retry, a_destroyed_attempt_is_broken) {
  struct destroys {
    bool await_ready() const { return false; }
    void await_suspend(std::coroutine_handle<> frame) const { frame.destroy(); }
    void await_resume() const {}
  };
  scene s;
  auto all = start_retry(
      s.policy(), [] { return destroys{}; }, {}, s.tasks);
  s.tasks.run_all();
  EXPECT_EQ(all.get_outcome().errc(), flight_errc::broken);
}

// ---- limits -------------------------------------------------------------------------------------

// Goal    A policy that retry refuses is refused by the call of start_retry.
TEST(start_retry, bad_policies_are_refused_at_once) {
  const auto refusal = [](const retry_policy& policy) -> std::string {
    try {
      auto all = start_retry(policy, [] { ADD_FAILURE() << "called"; });
    } catch (const std::invalid_argument& error) {
      return error.what();
    }
    return {};
  };
  EXPECT_THAT(refusal({.base = -1ns}), HasSubstr("retry: base -1 ns is negative"));
  EXPECT_THAT(refusal({.max_attempts = 0}), HasSubstr("retry: max_attempts 0 has no bound"));
}

// Goal    If the limits are over before the first attempt begins, nothing is called. If they are
//         over at the call, the result is there at once.
TEST(start_retry, limits_that_are_over_let_nothing_begin) {
  scene s;
  std::stop_source stop;
  auto late = start_retry(s.policy(), s.good_at(1), {.deadline = s.time.now()}, s.tasks);
  EXPECT_EQ(late.get_outcome().errc(), flight_errc::timed_out);
  auto queued = start_retry(s.policy(), s.good_at(1), {.deadline = s.time.now() + 1s}, s.tasks);
  auto to_stop = start_retry(s.policy(), s.good_at(1), {.stop = stop.get_token()}, s.tasks);
  stop.request_stop();
  auto stopped = start_retry(s.policy(), s.good_at(1), {.stop = stop.get_token()}, s.tasks);
  EXPECT_EQ(stopped.get_outcome().errc(), flight_errc::cancelled);
  s.time.advance(1s);
  s.tasks.run_all();
  EXPECT_EQ(queued.get_outcome().errc(), flight_errc::timed_out);
  EXPECT_EQ(to_stop.get_outcome().errc(), flight_errc::cancelled);
  EXPECT_EQ(s.calls, 0);
}

// Goal    A stop ends a sleep at once, on the executor, and no attempt follows.
TEST(start_retry, a_stop_ends_a_sleep) {
  scene s;
  std::stop_source stop;
  auto all = start_retry(s.policy(), s.never_good(), {.stop = stop.get_token()}, s.tasks);
  s.tasks.run_all();
  stop.request_stop();
  EXPECT_FALSE(all.ready()) << "the result must be delivered by the executor";
  EXPECT_EQ(s.tasks.run_all(), 1U);
  EXPECT_EQ(all.get_outcome().errc(), flight_errc::cancelled);
  s.time.advance(1h);
  EXPECT_EQ(s.tasks.run_all(), 0U);
  EXPECT_EQ(s.calls, 1);
}

// Goal    A stop and the alarm at the same time, in either order, end the sleep once; a stop before
//         the attempt has begun still takes effect.
TEST(start_retry, a_stop_and_the_alarm) {
  for (const bool stop_first : {false, true}) {
    scene s;
    std::stop_source stop;
    auto all = start_retry(s.policy(), s.never_good(), {.stop = stop.get_token()}, s.tasks);
    s.tasks.run_all();
    if (stop_first) stop.request_stop();
    s.time.advance(10s);
    if (!stop_first) stop.request_stop();
    EXPECT_EQ(s.tasks.run_all(), 1U);
    EXPECT_EQ(all.get_outcome().errc(), flight_errc::cancelled);
    EXPECT_EQ(s.calls, 1);
  }
}

// Goal    A stop during an attempt takes effect once the attempt has failed; a success, and the
//         last failure, are still the result.
TEST(start_retry, a_stop_during_an_attempt) {
  for (const std::uint32_t good : {1U, 2U}) {
    scene s;
    std::stop_source stop;
    auto all = start_retry(
        s.policy(2),
        [&, next = s.good_at(good)](std::uint32_t attempt) {
          stop.request_stop();
          return next(attempt);
        },
        {.stop = stop.get_token()}, s.tasks);
    s.tasks.run_all();
    auto how = all.get_outcome();
    EXPECT_EQ(how.has_value(), good == 1);
    EXPECT_EQ(how.errc(), good == 1 ? std::nullopt : std::optional(flight_errc::cancelled));
  }
  scene s;
  std::stop_source stop;
  auto last = start_retry(
      s.policy(1),
      [&] {
        stop.request_stop();
        throw failure(1);
      },
      {.stop = stop.get_token()}, s.tasks);
  s.tasks.run_all();
  EXPECT_THROW(last.get(), failure);
}

// Goal    An outcome without a value, returned or awaited, is a failed attempt; the last one is the
//         result, unchanged, and so is one with a value.
TEST(start_retry, an_outcome_without_a_value_is_retried) {
  for (const std::uint32_t good : {1U, 3U, 4U}) {
    scene s;
    const auto call = [&](std::uint32_t attempt) -> outcome<std::uint32_t> {
      ++s.calls;
      if (attempt < good) return flight_errc::overloaded;
      return attempt;
    };
    auto called = start_retry(s.policy(), call, {}, s.tasks);
    auto awaited = start_retry(
        s.policy(),
        [&](std::uint32_t attempt) -> support::lazy<outcome<std::uint32_t>> {
          co_return call(attempt);
        },
        {}, s.tasks);
    for (int i = 0; i < 3; ++i) {
      s.tasks.run_all();
      s.time.advance(10s);
    }
    EXPECT_EQ(s.calls, good == 1 ? 2 : 6);
    for (auto* const all : {&called, &awaited}) {
      ASSERT_TRUE(all->ready());
      const outcome<std::uint32_t> how = all->get();
      EXPECT_EQ(how.has_value(), good < 4);
      EXPECT_EQ(how.errc(), good < 4 ? std::nullopt : std::optional(flight_errc::overloaded));
    }
  }
}

// Goal    The policy judges such an outcome: retry_if gets its error, and an exception from
//         retry_if, or a stop, replaces it as the result.
TEST(start_retry, an_outcome_is_judged_like_an_exception) {
  scene s;
  retry_policy policy = s.policy();
  const auto fails = [] { return outcome<int>(std::make_exception_ptr(failure(3))); };
  policy.retry_if = [](const std::exception_ptr& e) { return failure_in(e) != 3; };
  auto turned_down = start_retry(policy, fails, {}, s.tasks);
  policy.retry_if = [](const std::exception_ptr&) -> bool { throw failure(4); };
  auto odd = start_retry(policy, fails, {}, s.tasks);
  policy.retry_if = nullptr;
  std::stop_source stop;
  auto stopped = start_retry(policy, fails, {.stop = stop.get_token()}, s.tasks);
  s.tasks.run_all();
  EXPECT_EQ(failure_in(turned_down.get().exception()), 3);
  EXPECT_EQ(failure_in(odd.get_outcome().exception()), 4);
  EXPECT_FALSE(stopped.ready());
  stop.request_stop();
  s.tasks.run_all();
  EXPECT_EQ(stopped.get_outcome().errc(), flight_errc::cancelled);
}

// Goal    If a hook exceeds the budget, without a delay, no attempt follows. After a stop in an
//         attempt the hook is not called.
TEST(start_retry, the_hooks_time_counts) {
  scene s;
  retry_policy policy{.max_attempts = 0, .base = 0ns, .budget = 5s, .timer = &s.time};
  int reported = 0;
  policy.on_retry = [&](auto, const auto&, auto) {
    ++reported;
    s.time.advance(5s);
  };
  auto all = start_retry(policy, s.never_good(), {}, s.tasks);
  s.tasks.run_all();
  EXPECT_THROW(all.get(), failure);
  EXPECT_EQ(s.calls, 1);
  EXPECT_EQ(reported, 1);
  std::stop_source stop;
  auto stopped = start_retry(
      policy,
      [&] {
        stop.request_stop();
        throw failure(1);
      },
      {.stop = stop.get_token()}, s.tasks);
  s.tasks.run_all();
  EXPECT_EQ(stopped.get_outcome().errc(), flight_errc::cancelled);
  EXPECT_EQ(reported, 1);
}

// Goal    No sleep begins that would not end before the deadline or the budget, which begins with
//         the call: the attempt's own exception is the result.
TEST(start_retry, deadline_and_budget_bound_all_of_it) {
  for (const bool budget : {false, true}) {
    scene s;
    retry_policy policy = s.policy(0);
    limits bounds;
    if (budget) {
      policy.budget = 25s;
    } else {
      bounds.deadline = s.time.now() + 25s;
    }
    auto all = start_retry(policy, s.never_good(), bounds, s.tasks);
    for (int i = 0; i < 5; ++i) {
      s.tasks.run_all();
      s.time.advance(10s);
    }
    EXPECT_EQ(failure_in(all.get_outcome().exception()), 3);
    EXPECT_EQ(s.calls, 3);
  }
}

// Goal    An alarm that cannot be armed ends the retries with the timer's exception.
TEST(start_retry, a_timer_that_fails) {
  struct broken_timer final : singleflight::timer {
    time_point now() const noexcept override { return time_point(1h); }
    void arm(singleflight::timer_node&, time_point) override {
      throw std::system_error(std::make_error_code(std::errc::resource_unavailable_try_again));
    }
    void cancel(singleflight::timer_node&) noexcept override {}
  } time;
  scene s;
  retry_policy policy = s.policy();
  policy.timer = &time;
  std::stop_source stop;
  auto all = start_retry(policy, s.never_good(), {.stop = stop.get_token()}, s.tasks);
  s.tasks.run_all();
  EXPECT_THROW(all.get(), std::system_error);
}

// Goal    When an executor refuses or drops a task, at the first attempt or a later one, the result
//         is broken.
TEST(start_retry, refused_and_dropped_tasks_are_broken) {
  scene s;
  auto refused = start_retry(s.policy(), s.good_at(1), {}, support::refusing_executor{});
  EXPECT_EQ(refused.get_outcome().errc(), flight_errc::broken);
  auto dropped = start_retry(s.policy(), s.good_at(1), {}, support::dropping_executor{});
  EXPECT_EQ(dropped.get_outcome().errc(), flight_errc::broken);
  EXPECT_EQ(s.calls, 0);
  auto later = start_retry(s.policy(), s.good_at(2), {}, s.tasks);
  s.tasks.run_all();
  s.time.advance(10s);
  EXPECT_TRUE(s.tasks.drop_one());
  EXPECT_EQ(later.get_outcome().errc(), flight_errc::broken);
  EXPECT_EQ(s.calls, 1);
}

// Goal    The same for a resumption that is refused within the alarm's fire, or within the stop.
TEST(start_retry, a_refused_resumption_is_broken) {
  for (const bool by_stop : {false, true}) {
    scene s;
    std::stop_source stop;
    const auto once = [left = 1, &s](singleflight::task work) mutable {
      if (left-- == 0) throw std::runtime_error("one task, and no more");
      s.tasks.execute(std::move(work));
    };
    auto all = start_retry(s.policy(), s.good_at(2), {.stop = stop.get_token()}, once);
    s.tasks.run_all();
    if (by_stop) {
      stop.request_stop();
    } else {
      s.time.advance(10s);
    }
    EXPECT_EQ(all.get_outcome().errc(), flight_errc::broken);
    EXPECT_EQ(s.calls, 1);
  }
}

// Goal    On the inline executor the run continues within the event that ends the sleep: the fire,
//         the stop, or the destruction of the handle.
TEST(start_retry, runs_on_the_inline_executor) {
  scene s;
  auto good = start_retry(s.policy(), s.good_at(3), {}, inline_executor);
  EXPECT_EQ(s.calls, 1);
  s.time.advance(10s);
  EXPECT_EQ(s.calls, 2);
  s.time.advance(10s);
  ASSERT_TRUE(good.ready());
  EXPECT_EQ(good.get(), 3U);

  std::stop_source stop;
  auto stopped =
      start_retry(s.policy(), s.never_good(), {.stop = stop.get_token()}, inline_executor);
  stop.request_stop();  // no user code runs in a stop callback: on the default pool
  EXPECT_EQ(stopped.get_outcome().errc(), flight_errc::cancelled);

  auto watched = std::make_shared<int>();
  const std::weak_ptr<int> watch = watched;
  {
    const auto dropped = start_retry(
        s.policy(), [w = std::move(watched), next = s.never_good()](auto n) { next(n); }, {},
        inline_executor);
  }
  EXPECT_TRUE(watch.expired());
  EXPECT_EQ(s.calls, 5);
}

// Goal    A thread that ends in an attempt does end; the result is broken.
TEST(start_retry, the_end_of_the_thread_is_not_caught) {
  for (const bool awaited : {false, true}) {
    scene s;
    struct ends {
      bool await_ready() const { return true; }
      void await_suspend(std::coroutine_handle<>) const {}
      void await_resume() const { pthread_exit(nullptr); }
    };
    std::optional<pending_result<void>> all;
    if (awaited) {
      all.emplace(start_retry(
          s.policy(), [] { return ends{}; }, {}, s.tasks));
    } else {
      all.emplace(start_retry(
          s.policy(), [] { pthread_exit(nullptr); }, {}, s.tasks));
    }
    pthread_t runner{};
    ASSERT_EQ(pthread_create(
                  &runner, nullptr,
                  [](void* on) -> void* {
                    static_cast<support::manual_executor*>(on)->run_all();
                    ADD_FAILURE() << "the thread did not end";
                    return nullptr;
                  },
                  &s.tasks),
              0);
    ASSERT_EQ(pthread_join(runner, nullptr), 0);
    EXPECT_EQ(all->get_outcome().errc(), flight_errc::broken);
  }
}

// ---- the handle ---------------------------------------------------------------------------------

// Goal    A dropped handle ends a sleep at once, and its arguments are destroyed.
TEST(start_retry, a_handle_dropped_during_a_sleep) {
  scene s;
  auto watched = std::make_shared<int>();
  const std::weak_ptr<int> watch = watched;
  {
    const auto all = start_retry(
        s.policy(), [&, w = std::move(watched), next = s.never_good()](auto n) { next(n); }, {},
        s.tasks);
    s.tasks.run_all();
    EXPECT_EQ(s.tasks.size(), 0U);
  }
  EXPECT_EQ(s.tasks.run_all(), 1U);
  EXPECT_TRUE(watch.expired());
  s.time.advance(1h);
  EXPECT_EQ(s.tasks.run_all(), 0U);
  EXPECT_EQ(s.calls, 1);
}

// Goal    After a handle is dropped during an attempt, before the first one, or between the alarm
//         and the next one, no further attempt begins, and the policy is not called about the
//         failure.
TEST(start_retry, a_handle_dropped_at_other_times) {
  scene s;
  retry_policy policy = s.policy();
  policy.retry_if = [](const auto&) {
    ADD_FAILURE() << "the policy was called after the handle was dropped";
    return true;
  };
  { const auto unbegun = start_retry(policy, s.never_good(), {}, s.tasks); }
  s.tasks.run_all();
  EXPECT_EQ(s.calls, 0);

  std::optional<pending_result<std::uint32_t>> during;
  during.emplace(start_retry(
      policy,
      [&, next = s.never_good()](std::uint32_t n) {
        during.reset();
        return next(n);
      },
      {}, s.tasks));
  s.tasks.run_all();
  EXPECT_EQ(s.calls, 1);
  s.time.advance(1h);
  EXPECT_EQ(s.tasks.run_all(), 0U);

  auto between = std::optional(start_retry(s.policy(), s.never_good(), {}, s.tasks));
  s.tasks.run_all();
  s.time.advance(10s);
  between.reset();
  EXPECT_EQ(s.tasks.run_all(), 1U);
  EXPECT_EQ(s.calls, 2);
}

// Goal    A limit of the wait ends the wait, and with it the retries.
TEST(pending_result, a_limit_ends_the_wait_and_the_retries) {
  for (const bool by_stop : {false, true}) {
    scene s;
    std::stop_source stop;
    std::optional<flight_errc> how;
    auto waiter = [](scene& in, const std::stop_token& token,
                     std::optional<flight_errc>& code) -> support::owned {
      auto all = start_retry(in.policy(), in.never_good(), {}, in.tasks);
      const auto end = in.time.now() + 5s;
      auto got = co_await all.until(end, token).as_outcome();
      code = got.errc();
      in.tasks.run_all();  // runs tasks that the wait has abandoned
    }(s, stop.get_token(), how);
    s.tasks.run_all();
    if (by_stop) {
      stop.request_stop();
    } else {
      s.time.advance(5s);
    }
    EXPECT_FALSE(how) << "must not resume on the thread that expired the limit";
    s.tasks.run_all();
    EXPECT_EQ(how, by_stop ? flight_errc::cancelled : flight_errc::timed_out);
    s.time.advance(1h);
    EXPECT_EQ(s.tasks.run_all(), 0U);
    EXPECT_EQ(s.calls, 1);
  }
}

// Goal    A wait returns a result that arrived before its limit expired.
TEST(pending_result, a_limit_yields_to_the_result) {
  scene s;
  std::stop_source stop;
  std::optional<int> got;
  support::manual_executor mine;
  auto waiter = [](scene& in, support::manual_executor on, const std::stop_token& token,
                   std::optional<int>& value) -> support::owned {
    auto all = start_retry(
        in.policy(), [] { return 8; }, {}, in.tasks);
    value = co_await all.until(forever, token).on(on);
  }(s, mine, stop.get_token(), got);
  s.tasks.run_all();
  stop.request_stop();
  EXPECT_FALSE(got);
  mine.run_all();
  EXPECT_EQ(got, 8);
}

// Goal    A wait resumes on the executor that it names, even if the result is there already;
//         otherwise on the executor of the attempts.
TEST(pending_result, resumes_on_the_executor_that_was_named) {
  for (const bool before : {false, true}) {
    scene s;
    support::manual_executor mine;
    auto all = start_retry(s.policy(), s.good_at(1), {}, s.tasks);
    if (before) s.tasks.run_all();
    std::optional<std::uint32_t> got;
    auto waiter = [](auto& on, support::manual_executor where, auto& value) -> support::owned {
      value = co_await on.on(where);
    }(all, mine, got);
    s.tasks.run_all();
    EXPECT_FALSE(got);
    EXPECT_EQ(mine.run_all(), 1U);
    EXPECT_EQ(got, 1U);
  }
}

// Goal    A plain co_await returns the value or throws the exception; it does not suspend if the
//         result is ready.
TEST(pending_result, is_awaited) {
  scene s;
  std::vector<std::string> heard;
  const auto wait = [&](std::uint32_t good) -> support::owned {
    auto all = start_retry(s.policy(1), s.good_at(good), {}, s.tasks);
    try {
      const auto n = co_await all;
      heard.push_back("value " + std::to_string(n));
    } catch (const failure& f) {
      heard.emplace_back(f.what());
    }
  };
  auto a = wait(1);
  auto b = wait(2);
  s.tasks.run_all();
  EXPECT_THAT(heard, ElementsAre("value 1", "failure 1"));
  auto ready = start_retry(s.policy(), s.good_at(1), {}, s.tasks);
  s.tasks.run_all();
  bool through = false;
  auto c = [](auto& on, bool& t) -> support::owned {
    (void)co_await on;
    t = true;
  }(ready, through);
  EXPECT_TRUE(through);
}

// Scenario 28b.
// Goal    A coroutine that is destroyed while it waits, or when its resumption is already queued,
//         is not resumed; its handle is destroyed with it, and the retries end.
TEST(pending_result, a_coroutine_destroyed_while_it_waits) {
  scene s;
  std::optional<outcome<std::uint32_t>> how;
  auto waiter = keep(start_retry(s.policy(), s.never_good(), {}, s.tasks), how);
  s.tasks.run_all();
  waiter.reset();
  EXPECT_EQ(s.tasks.run_all(), 1U);
  s.time.advance(1h);
  EXPECT_EQ(s.tasks.run_all(), 0U);
  EXPECT_EQ(s.calls, 1);

  support::manual_executor mine;
  auto all = start_retry(s.policy(), s.good_at(1), {}, s.tasks);
  auto named = [](auto on, support::manual_executor where) -> support::owned {
    (void)co_await on.on(where);
    ADD_FAILURE() << "resumed";
  }(std::move(all), mine);
  s.tasks.run_all();
  EXPECT_EQ(mine.size(), 1U);
  named.reset();
  mine.run_all();
}

// Scenario 28b.
// Goal    A handle whose coroutine was destroyed may be waited for again.
TEST(pending_result, outlives_a_coroutine_that_waited_for_it) {
  scene s;
  support::manual_executor mine;
  auto all = start_retry(s.policy(), s.good_at(1), {}, s.tasks);
  std::stop_source stop;
  const auto wait = [&](std::optional<std::uint32_t>& got) -> support::owned {
    got = co_await all.until(forever, stop.get_token()).on(mine);
  };
  std::optional<std::uint32_t> first;
  std::optional<std::uint32_t> second;
  auto a = wait(first);
  a.reset();
  stop.request_stop();  // there is no wait any more that it could end
  stop = std::stop_source();
  auto b = wait(second);
  s.tasks.run_all();
  mine.run_all();
  EXPECT_FALSE(first);
  EXPECT_EQ(second, 1U);
}

// Scenarios 28b and 52.
// Goal    A limit that expires ends the retries at once, however late its coroutine is resumed; if
//         the coroutine is destroyed earlier, the handle keeps that result, whatever it is used for
//         next.
TEST(pending_result, a_limit_counts_before_its_coroutine_is_resumed) {
  for (const bool by_deadline : {false, true}) {
    for (const int use : {0, 1, 2, 3}) {
      scene s;
      support::manual_executor stalled;
      std::stop_source stop;
      auto all = start_retry(s.policy(), s.never_good(), {}, s.tasks);
      s.tasks.run_all();
      EXPECT_EQ(s.calls, 1);
      std::optional<flight_errc> first;
      std::optional<support::owned> waits(
          [](auto& of, auto& at, auto& on, auto token, auto& how) -> support::owned {
            const auto got = co_await of.until(at.time.now() + 1s, token).on(on).as_outcome();
            how = got.errc();
          }(all, s, stalled, stop.get_token(), first));
      const auto why = by_deadline ? flight_errc::timed_out : flight_errc::cancelled;
      if (by_deadline) {
        s.time.advance(1s);
      } else {
        stop.request_stop();
      }
      s.tasks.run_all();
      s.time.advance(60s);
      s.tasks.run_all();
      EXPECT_EQ(s.calls, 1);
      if (use == 0) {
        stalled.run_all();
        EXPECT_EQ(first, why);
        continue;
      }
      waits.reset();
      EXPECT_TRUE(all.ready());
      if (use == 1) {
        EXPECT_EQ(all.get_outcome().errc(), why);
      } else if (use == 2) {
        std::optional<flight_errc> again;
        const auto other = [](auto& of, auto& on, auto& how) -> support::owned {
          const auto got = co_await of.on(on).as_outcome();
          how = got.errc();
        }(all, stalled, again);
        stalled.run_all();
        EXPECT_EQ(again, why);
      }
      stalled.run_all();  // tasks queued there keep the executor alive
    }
  }
}

// Goal    Handles can be moved while nobody waits; assignment drops the old run.
TEST(pending_result, moves) {
  scene s;
  auto a = start_retry(s.policy(), s.good_at(1), {}, s.tasks);
  auto b = start_retry(s.policy(), s.good_at(2), {}, s.tasks);
  static_assert(!std::is_copy_constructible_v<decltype(a)>);
  auto c = std::move(a);
  auto d = start_retry(s.policy(), s.good_at(1), {}, s.tasks);
  d = std::move(c);
  d = std::move(b);
  b = start_retry(s.policy(), s.good_at(1), {}, s.tasks);
  s.tasks.run_all();
  EXPECT_EQ(s.calls, 2) << "the runs that were assigned over must not begin";
  EXPECT_EQ(b.get(), 1U);
  EXPECT_FALSE(d.ready());
}

// Goal    A blocked get ends with the result or at its limit, and in the latter case the retries
//         end as well.
TEST(pending_result, blocks_with_and_without_a_limit) {
  scene s;
  auto all = start_retry(s.policy(), s.never_good(), {}, s.tasks);
  s.tasks.run_all();
  std::stop_source stop;
  std::jthread stopper([&] { stop.request_stop(); });
  EXPECT_EQ(all.until(forever, stop.get_token()).get_outcome().errc(), flight_errc::cancelled);
  EXPECT_EQ(s.tasks.run_all(), 1U);
  EXPECT_EQ(s.calls, 1);

  auto some = start_retry(s.policy(), s.good_at(1), {}, s.tasks);
  std::jthread runner([&] { s.tasks.run_all(); });
  EXPECT_EQ(some.get(), 1U);
}

// Goal    No attempt runs within the fire of a timer, on whose return others may wait, not even on
//         inline_executor.
TEST(start_retry, no_attempt_runs_within_a_fire) {
  support::bare_timer time;
  std::atomic<int> calls{0};
  std::atomic<bool> within{false};
  const auto fails_once = [&] {
    if (time.fires_here()) within = true;
    if (++calls == 1) throw failure();
    return 7;
  };
  retry_policy policy;
  policy.timer = &time;
  auto all = start_retry(policy, fails_once, {}, inline_executor);
  EXPECT_EQ(calls, 1);
  time.fire_all();
  EXPECT_EQ(all.get(), 7);
  EXPECT_EQ(calls, 2);
  EXPECT_FALSE(within);
}

// Goal    No waiter is resumed within the stop callback of a sleeping retry, on whose return others
//         may wait, not even on inline_executor.
TEST(start_retry, nobody_is_resumed_within_its_stop_callback) {
  manual_timer time;
  retry_policy policy;
  policy.timer = &time;
  std::stop_source stop;
  auto all = start_retry(
      policy, [] { throw failure(); }, {.stop = stop.get_token()}, inline_executor);
  support::gate resumed;
  std::thread::id on;
  const auto waits = [&]() -> support::detached {
    const auto got = co_await all.as_outcome();
    EXPECT_EQ(got.errc(), flight_errc::cancelled);
    on = std::this_thread::get_id();
    resumed.open();
  };
  waits();
  stop.request_stop();
  resumed.wait();
  EXPECT_NE(on, std::this_thread::get_id());
}

// ---- misuse -------------------------------------------------------------------------------------

// Goal    A handle that is used twice aborts the process.
TEST(pending_result_death, used_twice) {
  support::die_apart();
  EXPECT_DEATH(
      {
        auto all = start_retry(
            {}, [] { return 1; }, {}, inline_executor);
        all.get();
        all.get();
      },
      "pending_result: used twice");
}

}  // namespace
