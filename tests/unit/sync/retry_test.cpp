// SPDX-License-Identifier: Apache-2.0

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <exception>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <set>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

#include "support/failure.hpp"
#include "support/gate.hpp"
#include <singleflight/core/manual_timer.hpp>
#include <singleflight/flight.hpp>
#include <singleflight/sync/retry.hpp>

namespace {

using namespace std::chrono_literals;
using singleflight::flight_errc;
using singleflight::flight_error;
using singleflight::limits;
using singleflight::manual_timer;
using singleflight::outcome;
using singleflight::retry;
using singleflight::retry_policy;
using singleflight::detail::retry_schedule;
using std::chrono::nanoseconds;
using support::failure;
using testing::ElementsAre;
using testing::HasSubstr;

constexpr std::uint64_t all_bits = std::numeric_limits<std::uint64_t>::max();
/// Random numbers that draw the longest possible delay, and the shortest.
std::uint64_t longest() { return all_bits; }
std::uint64_t shortest() { return 0; }

const std::exception_ptr some_error = std::make_exception_ptr(std::runtime_error("some error"));

/// Delays until the schedule gives up, at most `most` of them, with time not moving.
std::vector<nanoseconds> delays_of(const retry_policy& policy, std::size_t most = 100) {
  retry_schedule schedule(policy, singleflight::detail::steady_time::max());
  std::vector<nanoseconds> all;
  while (all.size() < most) {
    const auto delay = schedule.after(some_error, {});
    if (!delay) break;
    all.push_back(*delay);
  }
  return all;
}

// ---- the schedule -------------------------------------------------------------------------------

// Goal    The longest delay doubles from base to cap, and max_attempts includes the first call.
TEST(retry_schedule, the_ceiling_grows_from_base_to_cap) {
  EXPECT_THAT(delays_of({.max_attempts = 6, .base = 100ns, .cap = 500ns, .random = longest}),
              ElementsAre(100ns, 200ns, 400ns, 500ns, 500ns));
  EXPECT_THAT(delays_of({.max_attempts = 4, .base = 7ns, .multiplier = 1, .random = longest}),
              ElementsAre(7ns, 7ns, 7ns));
  EXPECT_THAT(delays_of({.max_attempts = 4, .base = 10ns, .multiplier = 1.5, .random = longest}),
              ElementsAre(10ns, 15ns, 22ns));
  EXPECT_THAT(delays_of({.max_attempts = 1, .random = longest}), ElementsAre());
  EXPECT_THAT(delays_of({.max_attempts = 4, .base = 0ns, .random = longest}),
              ElementsAre(0ns, 0ns, 0ns));
  EXPECT_THAT(delays_of({.max_attempts = 4, .base = 9ns, .random = shortest}),
              ElementsAre(0ns, 0ns, 0ns));
  EXPECT_EQ(delays_of({.max_attempts = 0}, 100).size(), 100U) << "zero means no bound";
  EXPECT_EQ(delays_of({}).size(), 2U) << "three attempts by default";
}

// Goal    Delays stay within the range of the clock, however far the ceiling could grow.
TEST(retry_schedule, the_largest_values_do_not_overflow) {
  const auto all = delays_of({.max_attempts = 200,
                              .base = 1ns,
                              .multiplier = 1e300,
                              .cap = nanoseconds::max(),
                              .random = longest},
                             250);
  ASSERT_EQ(all.size(), 199U);
  EXPECT_EQ(all[0], 1ns);
  for (const nanoseconds d : all) {
    EXPECT_GT(d, 0ns);
    EXPECT_LE(d, nanoseconds::max());
  }
  EXPECT_GT(all[1], nanoseconds::max() / 2);
}

// Goal    Full jitter: delays fill [0, ceiling] evenly, both ends included.
TEST(retry_schedule, delays_are_spread_over_the_whole_range) {
  using singleflight::detail::random_up_to;
  EXPECT_EQ(random_up_to(0, all_bits), 0);
  EXPECT_EQ(random_up_to(0, 0), 0);
  EXPECT_EQ(random_up_to(1, 0), 0);
  EXPECT_EQ(random_up_to(1, all_bits), 1);
  EXPECT_EQ(random_up_to(1, all_bits / 2), 0);
  EXPECT_EQ(random_up_to(1, all_bits / 2 + 1), 1);
  std::vector<int> seen(4);
  for (int i = 0; i < 4000; ++i) {
    const auto d =
        delays_of({.max_attempts = 2, .base = 3ns}).at(0).count();  // the thread's own generator
    ASSERT_GE(d, 0);
    ASSERT_LE(d, 3);
    ++seen[static_cast<std::size_t>(d)];
  }
  for (const int n : seen) {
    EXPECT_GT(n, 800);
    EXPECT_LT(n, 1200);
  }
}

// Goal    Each thread has its own generator, and they do not start alike.
TEST(retry_schedule, threads_draw_differently) {
  std::set<std::uint64_t> drawn;
  for (int i = 0; i < 8; ++i) {
    std::thread([&drawn] {
      for (int n = 0; n < 4; ++n) drawn.insert(singleflight::detail::random_bits());
    }).join();
  }
  EXPECT_EQ(drawn.size(), 32U);
}

// Goal    Processes that were forked from the same process draw differently.
// Method  They run one after the other, so each one draws at a different moment.
TEST(retry_schedule, forked_processes_draw_differently) {
  std::set<std::uint64_t> drawn{singleflight::detail::random_bits()};
  for (int i = 0; i < 3; ++i) {
    int ends[2];
    ASSERT_EQ(pipe(ends), 0);
    const pid_t child = fork();
    if (child == 0) {
      const std::uint64_t bits = singleflight::detail::random_bits();
      _exit(write(ends[1], &bits, sizeof bits) == sizeof bits ? 0 : 1);
    }
    ASSERT_GT(child, 0);
    std::uint64_t bits = 0;
    EXPECT_EQ(read(ends[0], &bits, sizeof bits), static_cast<ssize_t>(sizeof bits));
    EXPECT_EQ(waitpid(child, nullptr, 0), child);
    close(ends[0]);
    close(ends[1]);
    drawn.insert(bits);
  }
  EXPECT_EQ(drawn.size(), 4U);
}

// Goal    Every reason to give up, and the order in which they are checked.
TEST(retry_schedule, gives_up_after_attempts_predicate_or_time) {
  const singleflight::detail::steady_time start(1h);
  std::vector<std::string> asked;
  bool worth_it = true;
  const retry_policy policy{
      .max_attempts = 3,
      .base = 10s,
      .cap = 10s,
      .retry_if =
          [&](const std::exception_ptr& e) {
            EXPECT_EQ(e, some_error);
            asked.emplace_back("if");
            return worth_it;
          },
      .on_retry =
          [&](std::uint32_t attempt, const std::exception_ptr& e, nanoseconds delay) {
            EXPECT_EQ(e, some_error);
            EXPECT_EQ(delay, 10s);
            asked.push_back("on" + std::to_string(attempt));
          },
      .random =
          [&] {
            asked.emplace_back("random");
            return all_bits;
          }};
  {
    retry_schedule s(policy, start + 1h);
    EXPECT_EQ(s.attempt(), 1U);
    EXPECT_EQ(s.after(some_error, start), 10s);
    EXPECT_EQ(s.attempt(), 2U);
    EXPECT_EQ(s.after(some_error, start), 10s);
    EXPECT_EQ(s.attempt(), 3U);
    EXPECT_EQ(s.after(some_error, start), std::nullopt) << "the last attempt";
    EXPECT_THAT(asked, ElementsAre("if", "random", "on1", "if", "random", "on2"));
  }
  asked.clear();
  worth_it = false;
  {
    retry_schedule s(policy, start + 1h);
    EXPECT_EQ(s.after(some_error, start), std::nullopt) << "retry_if returned false";
    EXPECT_THAT(asked, ElementsAre("if"));
  }
  asked.clear();
  worth_it = true;
  {
    retry_schedule s(policy, start + 10s);
    EXPECT_EQ(s.after(some_error, start), std::nullopt) << "a sleep would end at the limit";
    EXPECT_EQ(s.after(some_error, start - 1ns), 10s) << "or just before";
    EXPECT_THAT(asked, ElementsAre("if", "random", "if", "random", "on1"));
  }
}

// Goal    A limit that has passed ends the schedule, even with a zero delay; so does one far in the
//         past.
TEST(retry_schedule, gives_up_once_the_limit_has_passed) {
  const singleflight::detail::steady_time start(1h);
  const retry_policy policy{.max_attempts = 0, .base = 0ns};
  retry_schedule s(policy, start);
  EXPECT_EQ(s.after(some_error, start - 1ns), 0ns);
  EXPECT_EQ(s.after(some_error, start), std::nullopt);
  EXPECT_EQ(s.after(some_error, start + 1ns), std::nullopt);
  retry_schedule ancient(policy, singleflight::detail::steady_time::min());
  EXPECT_EQ(ancient.after(some_error, start), std::nullopt);
}

// ---- rejected policies --------------------------------------------------------------------------

std::string refusal(const retry_policy& policy) {
  int calls = 0;
  try {
    retry(policy, [&calls] { ++calls; });
  } catch (const std::invalid_argument& error) {
    EXPECT_EQ(calls, 0) << "called with a policy that is refused";
    return error.what();
  }
  return {};
}

// Goal    Each value out of range is refused before the first call, with a message that names it.
TEST(retry, bad_policies_are_refused) {
  EXPECT_THAT(refusal({.base = -1ns}), HasSubstr("retry: base -1 ns is negative"));
  EXPECT_THAT(refusal({.base = 2s, .cap = 1s}),
              HasSubstr("retry: cap 1000000000 ns is less than base 2000000000 ns"));
  EXPECT_THAT(refusal({.base = 0ns, .cap = -1ns}), HasSubstr("cap -1 ns"));
  EXPECT_THAT(refusal({.budget = -5ns}), HasSubstr("retry: budget -5 ns is negative"));
  EXPECT_THAT(refusal({.multiplier = 0.5}), HasSubstr("retry: multiplier 0.5"));
  EXPECT_THAT(refusal({.multiplier = std::nan("")}), HasSubstr("multiplier"));
  EXPECT_THAT(refusal({.multiplier = HUGE_VAL}), HasSubstr("multiplier"));
  EXPECT_THAT(refusal({.max_attempts = 0}), HasSubstr("retry: max_attempts 0 has no bound"));
  EXPECT_EQ(refusal({.base = 0ns, .multiplier = 1, .cap = 0ns}), "");
}

// Goal    Without a bound on attempts, any one of the other bounds is enough.
TEST(retry, unlimited_attempts_need_another_bound) {
  EXPECT_EQ(retry({.max_attempts = 0, .budget = 1h}, [] { return 1; }), 1);
  const auto deadline = std::chrono::steady_clock::now() + 1h;
  EXPECT_EQ(retry({.max_attempts = 0}, [] { return 2; }, {.deadline = deadline}), 2);
  const std::stop_source stop;
  EXPECT_EQ(retry({.max_attempts = 0}, [] { return 3; }, {.stop = stop.get_token()}), 3);
}

// ---- calls --------------------------------------------------------------------------------------

/// Retries at once, as often as a test needs.
const retry_policy eager{.max_attempts = 5, .base = 0ns};

// Goal    retry calls the function until it succeeds, no more often, and passes the number of the
//         attempt.
TEST(retry, calls_until_it_succeeds) {
  std::vector<std::uint32_t> attempts;
  EXPECT_EQ(retry(eager,
                  [&](std::uint32_t attempt) {
                    attempts.push_back(attempt);
                    if (attempt < 3) throw failure(static_cast<int>(attempt));
                    return attempt * 10;
                  }),
            30U);
  EXPECT_THAT(attempts, ElementsAre(1U, 2U, 3U));
}

// Goal    The last attempt's exception arrives as it was thrown, with its own type.
TEST(retry, the_last_exception_is_thrown) {
  int calls = 0;
  const failure* thrown = nullptr;
  try {
    retry(eager, [&] {
      try {
        throw failure(++calls);
      } catch (const failure& f) {
        thrown = &f;
        throw;
      }
    });
    ADD_FAILURE() << "five failures, but no exception";
  } catch (const failure& f) {
    EXPECT_EQ(f.number, 5);
    EXPECT_EQ(&f, thrown) << "not the object that the function threw";
  }
  EXPECT_EQ(calls, 5);
}

// Goal    Results are returned unchanged: void, a reference, a move-only object, or an immovable
//         one.
TEST(retry, returns_what_the_function_returns) {
  struct immobile {
    explicit immobile(int of) : value(of) {}
    immobile(immobile&&) = delete;
    immobile& operator=(immobile&&) = delete;
    int value;
  };
  int here = 0;
  static_assert(std::is_void_v<decltype(retry(eager, [] {}))>);
  static_assert(std::is_same_v<int&, decltype(retry(eager, [&]() -> int& { return here; }))>);
  EXPECT_EQ(&retry(eager, [&]() -> int& { return here; }), &here);
  EXPECT_EQ(*retry(eager, [] { return std::make_unique<int>(5); }), 5);
  EXPECT_EQ(retry(eager, [] { return immobile(6); }).value, 6);
}

// Goal    An exception that retry_if rejects ends the retries at once, and so does one that
//         retry_if itself throws.
TEST(retry, the_predicate_decides) {
  int calls = 0;
  retry_policy policy = eager;
  policy.retry_if = [](const std::exception_ptr& error) {
    try {
      std::rethrow_exception(error);
    } catch (const failure& f) {
      return f.number < 2;
    }
  };
  EXPECT_THROW(retry(policy, [&] { throw failure(++calls); }), failure);
  EXPECT_EQ(calls, 2);
  EXPECT_THROW(retry(policy, [&]() -> int { throw std::logic_error("not a failure"); }),
               std::logic_error);
}

// Goal    The hook is called for each attempt that is followed by another one, with its exception.
TEST(retry, the_hook_hears_of_each_retry) {
  std::vector<std::string> heard;
  retry_policy policy{.max_attempts = 3, .base = 0ns};
  policy.on_retry = [&](std::uint32_t attempt, const std::exception_ptr& error, nanoseconds delay) {
    EXPECT_EQ(delay, 0ns);
    try {
      std::rethrow_exception(error);
    } catch (const failure& f) {
      heard.push_back(std::to_string(attempt) + ": " + f.what());
    }
  };
  EXPECT_THROW(retry(policy, [n = 0]() mutable { throw failure(++n); }), failure);
  EXPECT_THAT(heard, ElementsAre("1: failure 1", "2: failure 2"));
}

// ---- sleeping -----------------------------------------------------------------------------------

/// A timer that reports a sleeper's last look: after the sleeper asked for the timer's kind, its
/// next look at the clock is followed by the sleep.
class watched_timer final : public singleflight::timer {
 public:
  explicit watched_timer(bool steady) : steady_(steady) {}
  time_point now() const noexcept override {
    const time_point present = steady_ ? std::chrono::steady_clock::now() : inner.now();
    if (asked_) sleeps.open();
    return present;
  }
  bool follows_steady_clock() const noexcept override {
    asked_ = true;
    return steady_;
  }
  void arm(singleflight::timer_node& node, time_point when) override { inner.arm(node, when); }
  void cancel(singleflight::timer_node& node) noexcept override { inner.cancel(node); }

  manual_timer inner;
  mutable support::gate sleeps;

 private:
  const bool steady_;
  mutable bool asked_ = false;  // used by the sleeper only
};

// Goal    An attempt begins when the delay has passed on the policy's timer, and not earlier.
// Method  Time only moves when the sleeper's alarm is armed; the second attempt checks the clock.
TEST(retry, sleeps_on_the_timer_of_the_policy) {
  watched_timer time(false);
  const auto start = time.now();
  std::optional<watched_timer::time_point> second;
  std::jthread caller([&] {
    retry({.max_attempts = 2, .base = 10s, .random = longest, .timer = &time},
          [&](std::uint32_t attempt) {
            if (attempt == 1) throw failure(1);
            second = time.now();
          });
  });
  time.sleeps.wait();
  time.inner.advance(9s);
  time.inner.advance(1s);
  caller.join();
  EXPECT_EQ(second, start + 10s);
}

// Goal    Under the steady clock the thread sleeps at least as long as the delay.
TEST(retry, sleeps_on_the_steady_clock) {
  const auto start = std::chrono::steady_clock::now();
  retry({.max_attempts = 2, .base = 2ms, .random = longest}, [](std::uint32_t attempt) {
    if (attempt == 1) throw failure(1);
  });
  EXPECT_GE(std::chrono::steady_clock::now() - start, 2ms);
}

// Goal    The budget covers attempts and sleeps: no sleep begins that would reach its end; the
//         exception of the attempt is thrown instead.
// Method  Each attempt takes 3 s, each sleep 0: after 9 s the fourth attempt is the last.
TEST(retry, the_budget_bounds_all_of_it) {
  manual_timer time;
  int calls = 0;
  EXPECT_THROW(retry({.max_attempts = 0, .base = 0ns, .budget = 10s, .timer = &time},
                     [&] {
                       time.advance(3s);
                       throw failure(++calls);
                     }),
               failure);
  EXPECT_EQ(calls, 4);
  // A sleep of 10 s within a budget of 10 s would leave no time.
  calls = 0;
  EXPECT_THROW(retry({.base = 10s, .budget = 10s, .random = longest, .timer = &time},
                     [&] { throw failure(++calls); }),
               failure);
  EXPECT_EQ(calls, 1);
}

// Goal    A deadline has the same effect, and the earlier of the two counts.
TEST(retry, the_deadline_bounds_all_of_it) {
  manual_timer time;
  int calls = 0;
  const auto fails = [&] {
    time.advance(3s);
    throw failure(++calls);
  };
  const retry_policy policy{.max_attempts = 0, .base = 0ns, .budget = 10s, .timer = &time};
  EXPECT_THROW(retry(policy, fails, {.deadline = time.now() + 5s}), failure);
  EXPECT_EQ(calls, 2);
  calls = 0;
  EXPECT_THROW(retry(policy, fails, {.deadline = time.now() + 1h}), failure);
  EXPECT_EQ(calls, 4);
  calls = 0;
  const retry_policy endless{.max_attempts = 0, .base = 0ns, .timer = &time};
  EXPECT_THROW(retry(endless, fails, {.deadline = time.now() + 5s}), failure);
  EXPECT_EQ(calls, 2);
}

flight_errc error_of(const std::function<void()>& what) {
  try {
    what();
  } catch (const flight_error& error) {
    return error.errc();
  }
  return {};
}

// Goal    If the limits are over beforehand, nothing is called.
TEST(retry, limits_that_are_over_let_nothing_begin) {
  manual_timer time;
  std::stop_source stop;
  stop.request_stop();
  const auto never = [] { FAIL() << "called"; };
  EXPECT_EQ(error_of([&] { retry(eager, never, {.stop = stop.get_token()}); }),
            flight_errc::cancelled);
  EXPECT_EQ(error_of([&] { retry({.timer = &time}, never, {.deadline = time.now()}); }),
            flight_errc::timed_out);
}

// Goal    A stop ends a sleep, on either kind of timer, and no attempt follows.
// Method  The stop comes after the sleeper's last look at the clock, and the sleep is an hour long,
//         so only the stop can have ended it.
void stop_ends_a_sleep(bool steady) {
  watched_timer time(steady);
  std::stop_source stop;
  int calls = 0;
  const retry_policy policy{.base = 1h, .cap = 1h, .random = longest, .timer = &time};
  std::jthread caller([&] {
    EXPECT_EQ(error_of([&] {
                retry(policy, [&] { throw failure(++calls); }, {.stop = stop.get_token()});
              }),
              flight_errc::cancelled);
  });
  time.sleeps.wait();
  stop.request_stop();
  caller.join();
  EXPECT_EQ(calls, 1);
  time.inner.advance(2h);  // no alarm is left that could fire
}
TEST(retry, a_stop_ends_a_sleep_on_the_steady_clock) { stop_ends_a_sleep(true); }
TEST(retry, a_stop_ends_a_sleep_on_a_manual_timer) { stop_ends_a_sleep(false); }

// Goal    A stop during an attempt takes effect once the attempt has failed; a success is still
//         returned.
TEST(retry, a_stop_during_an_attempt) {
  std::stop_source first;
  int calls = 0;
  EXPECT_EQ(error_of([&] {
              retry(eager,
                    [&] {
                      first.request_stop();
                      throw failure(++calls);
                    },
                    {.stop = first.get_token()});
            }),
            flight_errc::cancelled);
  EXPECT_EQ(calls, 1);
  std::stop_source second;
  EXPECT_EQ(retry(eager,
                  [&] {
                    second.request_stop();
                    return 7;
                  },
                  {.stop = second.get_token()}),
            7);
}

// Goal    After a stop during an attempt none of the policy's functions is called; the last
//         attempt's exception is still thrown.
TEST(retry, a_stop_comes_before_the_policys_functions) {
  retry_policy policy{.max_attempts = 2, .base = 1ns};
  policy.retry_if = [](const std::exception_ptr&) {
    ADD_FAILURE() << "retry_if was called after the stop";
    return true;
  };
  policy.on_retry = [](std::uint32_t, const std::exception_ptr&, nanoseconds) {
    ADD_FAILURE() << "on_retry was called after the stop";
  };
  policy.random = [] {
    ADD_FAILURE() << "random was called after the stop";
    return all_bits;
  };
  for (const std::uint32_t attempts : {1U, 2U}) {
    std::stop_source stop;
    policy.max_attempts = attempts;
    const auto fails = [&] {
      stop.request_stop();
      throw failure(1);
    };
    const limits until{.stop = stop.get_token()};
    if (attempts == 1) {
      EXPECT_THROW(retry(policy, fails, until), failure);
    } else {
      EXPECT_EQ(error_of([&] { retry(policy, fails, until); }), flight_errc::cancelled);
    }
  }
}

// Goal    A stop requested by one of the policy's functions ends the retries before the sleep, even
//         without a delay.
TEST(retry, a_stop_by_the_hook) {
  for (const auto base : {0ns, nanoseconds(1h)}) {
    std::stop_source stop;
    manual_timer time;
    int calls = 0;
    retry_policy policy{.base = base, .cap = 1h, .random = longest, .timer = &time};
    policy.on_retry = [&](std::uint32_t, const std::exception_ptr&, nanoseconds) {
      stop.request_stop();
    };
    EXPECT_EQ(error_of([&] {
                retry(policy, [&] { throw failure(++calls); }, {.stop = stop.get_token()});
              }),
              flight_errc::cancelled);
    EXPECT_EQ(calls, 1);
  }
}

// Goal    The time of the policy's functions counts: no attempt begins past the budget or the
//         deadline, and the last exception is thrown.
TEST(retry, a_slow_hook_does_not_stretch_the_limit) {
  for (const bool budget : {true, false}) {
    manual_timer time;
    int calls = 0;
    retry_policy policy{.max_attempts = 0, .base = 0ns, .timer = &time};
    policy.on_retry = [&](std::uint32_t attempt, const std::exception_ptr&, nanoseconds) {
      time.advance(attempt == 1 ? 4s : 1s);
    };
    limits until;
    if (budget) {
      policy.budget = 5s;
    } else {
      until.deadline = time.now() + 5s;
    }
    EXPECT_THROW(retry(
                     policy, [&] { throw failure(++calls); }, until),
                 failure);
    EXPECT_EQ(calls, 2) << "the second hook ends at the limit";
  }
}

// ---- failures that are returned -----------------------------------------------------------------

// Goal    An outcome without a value is a failed attempt: it is retried, judged and reported, and
//         the last one is returned unchanged.
TEST(retry, an_outcome_without_a_value_is_retried) {
  int calls = 0;
  EXPECT_EQ(*retry(eager,
                   [&]() -> outcome<int> {
                     if (++calls < 3) return flight_errc::timed_out;
                     return calls;
                   }),
            3);
  calls = 0;
  const auto last = retry(eager, [&]() -> outcome<int> {
    return ++calls < 5 ? flight_errc::timed_out : flight_errc::overloaded;
  });
  EXPECT_EQ(calls, 5);
  EXPECT_EQ(last.errc(), flight_errc::overloaded)
      << "must be the code, not an exception made from it";
  const auto error = std::make_exception_ptr(failure(1));
  EXPECT_EQ(retry(eager, [&] { return outcome<void>(error); }).exception(), error);

  calls = 0;
  int reported = 0;
  retry_policy policy = eager;
  policy.retry_if = [&](const std::exception_ptr& e) { return e == error; };
  policy.on_retry = [&](std::uint32_t, const std::exception_ptr& e, nanoseconds) {
    EXPECT_EQ(e, error);
    ++reported;
  };
  const auto turned_down = retry(policy, [&](std::uint32_t attempt) -> outcome<int> {
    ++calls;
    if (attempt == 1) return error;
    return flight_errc::rejected;
  });
  EXPECT_EQ(turned_down.errc(), flight_errc::rejected);
  EXPECT_EQ(calls, 2);
  EXPECT_EQ(reported, 1);
}

// Goal    A function that returns outcomes may also throw, its value may be move-only, and it may
//         return a reference; an exception from the policy's functions is not an attempt's failure.
TEST(retry, functions_that_return_outcomes) {
  const auto some = retry(eager, [](std::uint32_t attempt) -> outcome<std::unique_ptr<int>> {
    if (attempt == 1) throw failure(1);
    if (attempt == 2) return flight_errc::broken;
    return std::make_unique<int>(5);
  });
  EXPECT_EQ(**some, 5);
  EXPECT_THROW((void)retry(eager, []() -> outcome<int> { throw failure(1); }), failure);
  const outcome<int> here = 7;
  const auto copy = retry(eager, [&]() -> const outcome<int>& { return here; });
  EXPECT_EQ(*copy, 7);

  retry_policy policy = eager;
  int asked = 0;
  policy.retry_if = [&](const std::exception_ptr&) -> bool {
    ++asked;
    throw std::logic_error("odd");
  };
  EXPECT_THROW((void)retry(policy, []() -> outcome<int> { return flight_errc::broken; }),
               std::logic_error);
  EXPECT_EQ(asked, 1);

  std::stop_source stop;
  EXPECT_EQ(error_of([&] {
              (void)retry(eager,
                          [&]() -> outcome<int> {
                            stop.request_stop();
                            return flight_errc::broken;
                          },
                          {.stop = stop.get_token()});
            }),
            flight_errc::cancelled);
}

// Goal    A thread may end in an attempt: retry does not catch that.
TEST(retry, the_end_of_the_thread_is_not_retried) {
  int calls = 0;
  pthread_t caller{};
  ASSERT_EQ(pthread_create(
                &caller, nullptr,
                [](void* count) -> void* {
                  retry(eager, [count] {
                    ++*static_cast<int*>(count);
                    pthread_exit(nullptr);
                  });
                  ADD_FAILURE() << "the thread did not end";
                  return nullptr;
                },
                &calls),
            0);
  ASSERT_EQ(pthread_join(caller, nullptr), 0);
  EXPECT_EQ(calls, 1);
}

// Goal    A promise that is lost in a failed attempt ends its flight before the next attempt
//         begins, even where there is no delay between the two.
TEST(retry, a_promise_lost_in_an_attempt) {
  singleflight::group<int, int> flights({.executor = singleflight::inline_executor});
  bool over_by_then = false;
  auto f = flights.start(1, [&](singleflight::flight_promise<int> promise) {
    singleflight::retry({.max_attempts = 2, .base = 0ms, .cap = 1ms}, [&](std::uint32_t attempt) {
      if (attempt == 1) {
        const auto given = std::move(promise);
        throw std::runtime_error("the loop is full");
      }
      over_by_then = flights.in_flight().empty();
    });
  });
  EXPECT_TRUE(over_by_then);
  EXPECT_EQ(f.get_outcome().errc(), singleflight::flight_errc::broken);
}

// Goal    The number of an attempt is passed without truncation, as an integer that can hold it or
//         as a signed one of its width; for on_retry, too.
TEST(retry, the_number_of_an_attempt_is_not_truncated) {
  std::vector<std::int64_t> heard;
  retry_policy policy = eager;
  policy.on_retry = [&](int attempt, const std::exception_ptr&, nanoseconds) {
    heard.push_back(attempt);
  };
  const auto twice = [&](auto attempt) {
    heard.push_back(static_cast<std::int64_t>(attempt));
    if (attempt < 2) throw std::runtime_error("again");
    return attempt;
  };
  EXPECT_EQ(retry(policy, [&](int attempt) { return twice(attempt); }), 2);
  EXPECT_EQ(retry(policy, [&](std::int64_t attempt) { return twice(attempt); }), 2);
  EXPECT_EQ(retry(policy, [&](double attempt) { return twice(attempt); }), 2.0);
  EXPECT_THAT(heard, ElementsAre(1, 1, 2, 1, 1, 2, 1, 1, 2));
}

// Goal    A number that an attempt's argument cannot hold is refused and does not wrap around.
TEST(retry, the_number_of_an_attempt_that_does_not_fit) {
  const auto as_signed = [](std::int32_t attempt) { return attempt; };
  EXPECT_THROW(singleflight::detail::call_attempt(as_signed, 0x8000'0000U), std::invalid_argument);
}

}  // namespace
