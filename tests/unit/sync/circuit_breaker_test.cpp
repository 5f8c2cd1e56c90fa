// SPDX-License-Identifier: Apache-2.0

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "support/eventually.hpp"
#include "support/failure.hpp"
#include "support/gate.hpp"
#include <singleflight/core/manual_timer.hpp>
#include <singleflight/sync/circuit_breaker.hpp>

namespace {

using namespace std::chrono_literals;
using singleflight::as_outcome;
using singleflight::breaker_state;
using singleflight::circuit_breaker;
using singleflight::circuit_breaker_options;
using singleflight::flight_errc;
using singleflight::flight_error;
using singleflight::manual_timer;
using support::failure;
using testing::ElementsAre;
using testing::HasSubstr;
using change = std::pair<breaker_state, breaker_state>;

struct not_found : std::runtime_error {
  not_found() : std::runtime_error("no such key") {}
};
bool is_no_answer(const std::exception_ptr& error) {
  try {
    std::rethrow_exception(error);
  } catch (const not_found&) {
    return false;
  } catch (...) {
    return true;
  }
}

void succeed(circuit_breaker& b, int times = 1) {
  for (int i = 0; i < times; ++i) EXPECT_EQ(b.call([] { return 5; }), 5);
}
void fail(circuit_breaker& b, int times = 1) {
  for (int i = 0; i < times; ++i) EXPECT_THROW(b.call([] { throw failure(); }), failure);
}
bool rejects(circuit_breaker& b) {
  bool called = false;
  const auto o = b.call(as_outcome, [&called] { called = true; });
  EXPECT_EQ(called, !o.errc());
  if (o.errc()) {
    EXPECT_EQ(o.errc(), flight_errc::rejected);
  }
  return o.errc().has_value();
}

/// Small numbers: opens when half of four calls within ten seconds fail, for five seconds; two
/// probes.
circuit_breaker_options small(manual_timer& time) {
  return {.error_rate = 0.5,
          .min_calls = 4,
          .window = 10s,
          .open_for = 5s,
          .probes = 2,
          .timer = &time};
}

// ---- rejected options ---------------------------------------------------------------------------

std::string refusal(circuit_breaker_options options) {
  try {
    const circuit_breaker b(std::move(options));
  } catch (const std::invalid_argument& error) {
    return error.what();
  }
  return {};
}

// Goal    Each value out of range is refused with a message that names it.
TEST(circuit_breaker, bad_options_are_refused) {
  EXPECT_THAT(refusal({.error_rate = 0}), HasSubstr("circuit_breaker: error_rate 0.0"));
  EXPECT_THAT(refusal({.error_rate = 1.5}), HasSubstr("error_rate 1.5"));
  EXPECT_THAT(refusal({.error_rate = std::nan("")}), HasSubstr("error_rate"));
  EXPECT_THAT(refusal({.slow_call_rate = -0.1, .slow_call = 1s}), HasSubstr("slow_call_rate -0.1"));
  EXPECT_THAT(refusal({.slow_call_rate = 1.1, .slow_call = 1s}), HasSubstr("slow_call_rate 1.1"));
  EXPECT_THAT(refusal({.slow_call_rate = 0.5}), HasSubstr("needs slow_call:"));
  EXPECT_THAT(refusal({.slow_call = 1s}), HasSubstr("needs slow_call_rate"));
  EXPECT_THAT(refusal({.slow_call_rate = 0.5, .slow_call = -1ns}), HasSubstr("slow_call -1 ns"));
  EXPECT_THAT(refusal({.min_calls = 0}), HasSubstr("min_calls 0"));
  EXPECT_THAT(refusal({.window = 0ns}), HasSubstr("window 0 ns"));
  EXPECT_THAT(refusal({.window = -1ns}), HasSubstr("window -1 ns"));
  EXPECT_THAT(refusal({.open_for = 0ns}), HasSubstr("open_for 0 ns"));
  EXPECT_THAT(refusal({.open_for = -1ns}), HasSubstr("open_for -1 ns"));
  EXPECT_THAT(refusal({.probes = 0}), HasSubstr("probes 0"));
  EXPECT_EQ(refusal({}), "");
  EXPECT_EQ(refusal({.error_rate = 1, .slow_call_rate = 1, .slow_call = 1ns, .window = 1ns}), "");
}

// ---- the forms of a call ------------------------------------------------------------------------

// Goal    Results and exceptions pass through a closed breaker unchanged.
TEST(circuit_breaker, a_closed_breaker_is_transparent) {
  struct immobile {
    explicit immobile(int of) : value(of) {}
    immobile(immobile&&) = delete;
    immobile& operator=(immobile&&) = delete;
    int value;
  };
  circuit_breaker b;
  int here = 0;
  static_assert(std::is_void_v<decltype(b.call([] {}))>);
  static_assert(std::is_same_v<int&, decltype(b.call([&]() -> int& { return here; }))>);
  EXPECT_EQ(&b.call([&]() -> int& { return here; }), &here);
  EXPECT_EQ(b.call([] { return immobile(6); }).value, 6);
  EXPECT_EQ(*b.call([] { return std::make_unique<int>(5); }), 5);
  EXPECT_THROW(b.call([] { throw failure(); }), failure);
  EXPECT_EQ(b.state(), breaker_state::closed);
  EXPECT_EQ(b.stats().calls, 4U);
  EXPECT_EQ(b.stats().failures, 1U);
}

// Goal    With as_outcome nothing is thrown; the result is a value, the exception itself, or
//         `rejected`.
TEST(circuit_breaker, as_outcome_does_not_throw) {
  manual_timer time;
  circuit_breaker b(small(time));
  EXPECT_EQ(*b.call(as_outcome, [] { return 3; }), 3);
  EXPECT_EQ(**b.call(as_outcome, [] { return std::make_unique<int>(4); }), 4);
  EXPECT_TRUE(b.call(as_outcome, [] {}));
  const auto failed = b.call(as_outcome, []() -> int { throw failure(); });
  EXPECT_THROW(failed.rethrow(), failure);
  b.force_open();
  EXPECT_EQ(b.call(as_outcome, [] { return 3; }).errc(), flight_errc::rejected);
  EXPECT_THROW(b.call([] { return 3; }), flight_error);
  EXPECT_EQ(b.stats().rejected, 2U);
}

// Goal    The fallback is called for a call that failed or was rejected, and for no other.
TEST(circuit_breaker, the_fallback_answers_for_failures_and_rejections) {
  manual_timer time;
  circuit_breaker_options options = small(time);
  options.is_failure = is_no_answer;
  circuit_breaker b(options);
  const auto stale = [] { return -1; };
  EXPECT_EQ(b.call([] { return 1; }, stale), 1);
  EXPECT_EQ(b.call([]() -> int { throw failure(); }, stale), -1);
  EXPECT_THROW(b.call([]() -> int { throw not_found(); }, stale), not_found);
  EXPECT_THROW(b.call([]() -> int { throw flight_error(flight_errc::cancelled); }, stale),
               flight_error);
  std::exception_ptr seen;
  const auto looks = [&seen](std::exception_ptr error) {
    seen = std::move(error);
    return -2;
  };
  EXPECT_EQ(b.call([]() -> int { throw failure(); }, looks), -2);
  EXPECT_THROW(std::rethrow_exception(seen), failure);
  b.force_open();
  EXPECT_EQ(b.call([] { return 1; }, stale), -1);
  EXPECT_EQ(b.call([] { return 1; }, looks), -2);
  try {
    std::rethrow_exception(seen);
  } catch (const flight_error& error) {
    EXPECT_EQ(error.errc(), flight_errc::rejected);
  }
  // An exception of the fallback reaches the caller.
  EXPECT_THROW(b.call([] { return 1; }, []() -> int { throw not_found(); }), not_found);
  EXPECT_EQ(b.stats().failures, 2U);
}

// Goal    The fallback's time does not count as the call's.
TEST(circuit_breaker, the_fallback_is_not_guarded) {
  manual_timer time;
  circuit_breaker_options options = small(time);
  options.slow_call_rate = 1;
  options.slow_call = 1s;
  circuit_breaker b(options);
  b.call([] { throw failure(); },
         [&] {
           EXPECT_EQ(b.stats().calls, 1U) << "the call must be settled before its fallback";
           time.advance(2s);
         });
  EXPECT_EQ(b.stats().slow, 0U);
}

// Goal    References also pass through with a fallback, if that returns one as well.
TEST(circuit_breaker, a_fallback_may_return_a_reference) {
  circuit_breaker b;
  int here = 1;
  const int there = 2;
  const auto stale = [&]() -> const int& { return there; };
  EXPECT_EQ(&b.call([&]() -> const int& { return here; }, stale), &here);
  b.force_open();
  EXPECT_EQ(&b.call([&]() -> const int& { return here; }, stale), &there);
  EXPECT_EQ(b.call([&] { return here; }, stale), 2);
}

// ---- failures that are returned -----------------------------------------------------------------

using singleflight::outcome;

// Goal    An outcome without a value counts as if its error had been thrown, and is returned
//         unchanged, in each form of a call.
TEST(circuit_breaker, an_outcome_without_a_value_is_a_failure) {
  manual_timer time;
  circuit_breaker b(small(time));
  const auto late = []() -> outcome<int> { return flight_errc::timed_out; };
  EXPECT_EQ(*b.call([]() -> outcome<int> { return 1; }), 1);
  EXPECT_EQ(b.stats().failures, 0U);
  EXPECT_EQ(b.call(late).errc(), flight_errc::timed_out);
  EXPECT_EQ(b.stats().failures, 1U);
  EXPECT_EQ(b.call(as_outcome, late).errc(), flight_errc::timed_out);
  EXPECT_EQ(b.stats().failures, 2U);
  EXPECT_EQ(*b.call(late, [] { return outcome<int>(7); }), 7);
  EXPECT_EQ(b.state(), breaker_state::open) << "three of four";
  EXPECT_EQ(b.call(as_outcome, late).errc(), flight_errc::rejected);
  static_assert(std::is_same_v<outcome<int>, decltype(b.call(as_outcome, late))>);
}

// Goal    An outcome is judged like an exception: by is_failure, and `cancelled` does not count, as
//         a code or as an exception.
TEST(circuit_breaker, an_outcome_is_judged_like_an_exception) {
  manual_timer time;
  circuit_breaker_options options = small(time);
  options.is_failure = is_no_answer;
  circuit_breaker b(options);
  const auto stale = [] { return outcome<void>(); };
  const auto with = [](const auto& error) { return [error]() -> outcome<void> { return error; }; };
  EXPECT_THROW(b.call(with(std::make_exception_ptr(not_found())), stale).rethrow(), not_found);
  EXPECT_EQ(b.stats().calls, 1U);
  EXPECT_EQ(b.stats().failures, 0U);
  EXPECT_EQ(b.call(with(flight_errc::cancelled), stale).errc(), flight_errc::cancelled);
  const auto thrown = std::make_exception_ptr(flight_error(flight_errc::cancelled));
  EXPECT_EQ(b.call(with(thrown), stale).exception(), thrown);
  EXPECT_EQ(b.stats().calls, 1U) << "cancelled does not count";
  EXPECT_TRUE(b.call(with(std::make_exception_ptr(failure())), stale));
  EXPECT_EQ(b.stats().failures, 1U);
  // A reference is returned as a reference.
  outcome<int> here = flight_errc::broken;
  EXPECT_EQ(&b.call([&]() -> outcome<int>& { return here; }), &here);
  EXPECT_EQ(b.stats().failures, 2U);
}

// Goal    A predicate that throws for an outcome harms its own call only.
TEST(circuit_breaker, a_throwing_predicate_about_an_outcome) {
  manual_timer time;
  circuit_breaker_options options = small(time);
  options.is_failure = [](const std::exception_ptr&) -> bool { throw std::logic_error("odd"); };
  circuit_breaker b(options);
  EXPECT_THROW((void)b.call([]() -> outcome<int> { return flight_errc::broken; }),
               std::logic_error);
  EXPECT_EQ(b.stats().calls, 0U);
}

// ---- opening ------------------------------------------------------------------------------------

// Goal    The breaker opens with the failure that reaches the rate, and not before min_calls.
TEST(circuit_breaker, opens_at_the_error_rate) {
  manual_timer time;
  {
    circuit_breaker b(small(time));
    fail(b, 3);
    EXPECT_EQ(b.state(), breaker_state::closed) << "three calls are not enough";
    fail(b);
    EXPECT_EQ(b.state(), breaker_state::open);
    EXPECT_TRUE(rejects(b));
    EXPECT_EQ(b.stats().opened, 1U);
  }
  {
    circuit_breaker b(small(time));
    succeed(b, 3);
    fail(b, 2);
    EXPECT_EQ(b.state(), breaker_state::closed) << "two of five";
    fail(b);
    EXPECT_EQ(b.state(), breaker_state::open) << "three of six";
  }
}

// Goal    A rate of k/n is reached by k failures of n calls, whatever its binary fraction.
TEST(circuit_breaker, rates_are_exact) {
  manual_timer time;
  for (int n = 1; n <= 40; ++n) {
    for (int k = 1; k <= n; ++k) {
      circuit_breaker_options options = small(time);
      options.error_rate = static_cast<double>(k) / n;
      options.min_calls = static_cast<std::uint32_t>(n);
      circuit_breaker b(options);
      succeed(b, n - k);
      fail(b, k - 1);
      EXPECT_EQ(b.state(), breaker_state::closed) << k << " of " << n;
      fail(b);
      EXPECT_EQ(b.state(), breaker_state::open) << k << " of " << n;
    }
  }
}

// Goal    Slow calls also open the breaker, failed or not; a call of exactly `slow_call` is slow;
//         before min_calls slow calls have no effect.
TEST(circuit_breaker, opens_at_the_slow_call_rate) {
  manual_timer time;
  circuit_breaker_options options = small(time);
  options.error_rate = 1;
  options.slow_call_rate = 0.5;
  options.slow_call = 100ms;
  circuit_breaker b(options);
  b.call([&] { time.advance(99ms); });
  b.call([&] { time.advance(100ms); });
  EXPECT_THROW(b.call([&] {
    time.advance(100ms);
    throw failure();
  }),
               failure);
  EXPECT_EQ(b.stats().slow, 2U);
  EXPECT_EQ(b.state(), breaker_state::closed);
  b.call([&] { time.advance(101ms); });
  EXPECT_EQ(b.state(), breaker_state::open);
}

// Goal    An exception that is_failure rejects counts as a success; flight_error(cancelled) is not
//         counted at all.
TEST(circuit_breaker, not_every_exception_is_a_failure) {
  manual_timer time;
  circuit_breaker_options options = small(time);
  options.is_failure = is_no_answer;
  circuit_breaker b(options);
  for (int i = 0; i < 8; ++i) {
    EXPECT_THROW(b.call([] { throw not_found(); }), not_found);
  }
  EXPECT_EQ(b.stats().calls, 8U);
  EXPECT_EQ(b.stats().failures, 0U);
  for (int i = 0; i < 8; ++i) {
    EXPECT_THROW(b.call([] { throw flight_error(flight_errc::cancelled); }), flight_error);
  }
  EXPECT_EQ(b.stats().calls, 8U);
  EXPECT_THROW(b.call([] { throw flight_error(flight_errc::timed_out); }), flight_error);
  EXPECT_EQ(b.stats().failures, 1U);
}

// Goal    A predicate that throws harms its own call only.
TEST(circuit_breaker, a_throwing_predicate_counts_nothing) {
  manual_timer time;
  circuit_breaker_options options = small(time);
  options.probes = 1;
  options.is_failure = [](const std::exception_ptr&) -> bool { throw std::logic_error("odd"); };
  circuit_breaker b(options);
  b.force_open();
  time.advance(5s);
  EXPECT_THROW(b.call([] { throw failure(); }), std::logic_error);
  EXPECT_EQ(b.stats().calls, 0U);
  succeed(b);  // the probe's place is free again
  EXPECT_EQ(b.state(), breaker_state::closed);
}

// ---- the window ---------------------------------------------------------------------------------

// Goal    Failures leave the window in tenths, and none stays longer than its length.
TEST(circuit_breaker, old_failures_do_not_count) {
  for (const auto age : {8900ms, 9000ms, 10000ms, 10001ms, 25000ms, 3600000ms}) {
    manual_timer time;
    circuit_breaker b(small(time));
    time.advance(999ms);  // the end of the first bucket
    fail(b, 3);
    time.advance(age);
    fail(b);
    EXPECT_EQ(b.state(), age <= 9000ms ? breaker_state::open : breaker_state::closed)
        << age.count() << " ms";
  }
}

// Goal    The window agrees with a list of all calls, restricted to those of this bucket and the
//         nine before.
// Method  Calls at random moments are checked against such a list after every one; the breaker must
//         open exactly when the list requires it, and then starts afresh.
TEST(circuit_breaker, the_window_agrees_with_a_list_of_calls) {
  std::uint64_t seed = 88172645463325252ULL;
  const auto draw = [&seed](std::uint64_t below) {  // xorshift64
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed % below;
  };
  manual_timer time;
  const auto start = time.now();
  circuit_breaker b(small(time));
  std::vector<std::pair<std::int64_t, bool>> calls;  // bucket, failed
  std::uint64_t opened = 0;
  for (int i = 0; i < 20'000; ++i) {
    const std::uint64_t pace = draw(20);
    time.advance(pace == 0 ? std::chrono::milliseconds(draw(30'000))
                           : std::chrono::milliseconds(draw(900)));
    const std::int64_t bucket = (time.now() - start) / 1s;
    const bool failed = draw(10) < 4;
    calls.emplace_back(bucket, failed);
    failed ? fail(b) : succeed(b);
    int in = 0;
    int bad = 0;
    for (const auto& [at, was_bad] : calls) {
      if (at <= bucket - 10) continue;
      ++in;
      bad += was_bad;
    }
    if (failed && in >= 4 && 2 * bad >= in) {
      ASSERT_EQ(b.state(), breaker_state::open) << "call " << i << ", " << bad << " of " << in;
      EXPECT_EQ(b.stats().opened, ++opened);
      b.reset();
      calls.clear();
    } else {
      ASSERT_EQ(b.state(), breaker_state::closed) << "call " << i << ", " << bad << " of " << in;
    }
  }
  EXPECT_GT(opened, 100U);
}

// ---- recovery -----------------------------------------------------------------------------------

// Goal    Recovery: the breaker rejects for open_for, admits probes, and closes without any memory
//         of the past.
TEST(circuit_breaker, closes_after_good_probes) {
  manual_timer time;
  circuit_breaker b(small(time));
  fail(b, 4);
  time.advance(5s - 1ns);
  EXPECT_TRUE(rejects(b));
  EXPECT_EQ(b.state(), breaker_state::open);
  time.advance(1ns);
  EXPECT_EQ(b.state(), breaker_state::open) << "only a call makes it half_open";
  b.call([&] { EXPECT_EQ(b.state(), breaker_state::half_open); });
  EXPECT_EQ(b.state(), breaker_state::half_open) << "the second probe could still be half of two";
  succeed(b);
  EXPECT_EQ(b.state(), breaker_state::closed);
  fail(b, 3);
  EXPECT_EQ(b.state(), breaker_state::closed) << "a fresh window";
  fail(b);
  EXPECT_EQ(b.state(), breaker_state::open);
}

// Goal    The round is decided by the same rates, as soon as no further result can change the
//         verdict.
TEST(circuit_breaker, probes_decide_as_early_as_they_can) {
  manual_timer time;
  circuit_breaker_options options = small(time);
  options.probes = 10;
  const auto half_open = [&](circuit_breaker& b) {
    b.force_open();
    time.advance(5s);
  };
  {
    circuit_breaker b(options);
    half_open(b);
    fail(b, 4);
    EXPECT_EQ(b.state(), breaker_state::half_open);
    fail(b);
    EXPECT_EQ(b.state(), breaker_state::open)
        << "five of ten are half, whatever the other probes do";
    EXPECT_TRUE(rejects(b));
    EXPECT_EQ(b.stats().opened, 2U);
  }
  {
    circuit_breaker b(options);
    half_open(b);
    fail(b, 4);
    succeed(b, 5);
    EXPECT_EQ(b.state(), breaker_state::half_open);
    succeed(b);
    EXPECT_EQ(b.state(), breaker_state::closed) << "four of ten";
  }
  {
    circuit_breaker b(options);
    half_open(b);
    succeed(b, 5);
    EXPECT_EQ(b.state(), breaker_state::half_open);
    succeed(b);
    EXPECT_EQ(b.state(), breaker_state::closed) << "the other four cannot make it half";
  }
}

// Goal    A slow probe also counts against the backend.
TEST(circuit_breaker, slow_probes_open_it_again) {
  manual_timer time;
  circuit_breaker_options options = small(time);
  options.probes = 1;
  options.slow_call_rate = 1;
  options.slow_call = 1s;
  circuit_breaker b(options);
  b.force_open();
  time.advance(5s);
  b.call([&] { time.advance(1s); });
  EXPECT_EQ(b.state(), breaker_state::open);
}

// Goal    The time that on_change takes as the first probe begins is not part of that probe's time.
TEST(circuit_breaker, the_hook_makes_no_probe_slow) {
  manual_timer time;
  circuit_breaker_options options = small(time);
  options.probes = 1;
  options.slow_call_rate = 1;
  options.slow_call = 1s;
  options.on_change = [&](breaker_state, breaker_state) { time.advance(2s); };
  circuit_breaker b(options);
  b.force_open();
  time.advance(5s);
  succeed(b);
  EXPECT_EQ(b.state(), breaker_state::closed);
  EXPECT_EQ(b.stats().slow, 0U);
}

// Goal    Neither verdict is reached while slow probes could still change it.
TEST(circuit_breaker, probes_that_are_out_may_be_slow) {
  manual_timer time;
  circuit_breaker_options options = small(time);
  options.error_rate = 1;
  options.slow_call_rate = 0.5;
  options.slow_call = 1s;
  circuit_breaker b(options);
  b.force_open();
  time.advance(5s);
  succeed(b);
  EXPECT_EQ(b.state(), breaker_state::half_open);
  b.call([&] { time.advance(1s); });
  EXPECT_EQ(b.state(), breaker_state::open);
}

// Goal    A round has no memory of the previous one, however that one ended.
TEST(circuit_breaker, each_round_starts_afresh) {
  manual_timer time;
  circuit_breaker_options options = small(time);
  options.probes = 3;
  circuit_breaker b(options);
  for (const bool undecided : {true, false}) {
    b.force_open();
    time.advance(5s);
    fail(b, undecided ? 1 : 2);
    b.force_open();
    time.advance(5s);
    fail(b);
    EXPECT_EQ(b.state(), breaker_state::half_open) << "one of three";
    succeed(b, 2);
    EXPECT_EQ(b.state(), breaker_state::closed);
  }
}

// Goal    While probes run, no more than `probes` calls are admitted, at a time and in total.
// Method  The probes wait at a gate; every other call is rejected meanwhile.
TEST(circuit_breaker, probes_are_bounded) {
  manual_timer time;
  circuit_breaker b(small(time));
  b.force_open();
  time.advance(5s);
  support::gate hold;
  std::vector<std::jthread> probes;
  for (int i = 0; i < 2; ++i) {
    probes.emplace_back([&] { b.call([&] { hold.wait(); }); });
  }
  hold.await_arrivals(2);
  for (int i = 0; i < 10; ++i) EXPECT_TRUE(rejects(b));
  EXPECT_EQ(b.state(), breaker_state::half_open);
  hold.open();
  probes.clear();
  EXPECT_EQ(b.state(), breaker_state::closed);
  EXPECT_EQ(b.stats().rejected, 10U);
}

// Goal    Probes that hang do not block recovery: open_for after the last of them began, one more
//         call is admitted, and a probe that returns a result also frees a place. Results that
//         arrive late in the round count in it.
TEST(circuit_breaker, hung_probes_do_not_block_recovery) {
  manual_timer time;
  std::vector<change> heard;
  circuit_breaker_options options = small(time);
  options.on_change = [&](breaker_state from, breaker_state to) { heard.emplace_back(from, to); };
  circuit_breaker b(options);
  b.force_open();
  time.advance(5s);
  support::gate hold;
  std::vector<std::jthread> hung;
  for (std::size_t i = 1; i <= 2; ++i) {
    time.advance(1s);
    hung.emplace_back([&] {
      EXPECT_THROW(b.call([&] {
        hold.wait();
        throw failure();
      }),
                   failure);
    });
    hold.await_arrivals(i);
  }
  time.advance(5s - 1ns);
  EXPECT_TRUE(rejects(b));
  time.advance(1ns);
  b.call([&] { EXPECT_TRUE(rejects(b)) << "more than one extra call"; });
  EXPECT_EQ(b.state(), breaker_state::half_open);
  succeed(b);
  EXPECT_EQ(b.state(), breaker_state::closed);
  hold.open();
  hung.clear();
  EXPECT_EQ(b.state(), breaker_state::closed);
  EXPECT_EQ(b.stats().failures, 0U);
  EXPECT_THAT(heard, ElementsAre(change{breaker_state::closed, breaker_state::open},
                                 change{breaker_state::open, breaker_state::half_open},
                                 change{breaker_state::half_open, breaker_state::closed}));
}

/// Calls that overlap in virtual time, a hundred per second, for as long as a test specifies.
struct traffic {
  using core = singleflight::detail::breaker_core;
  using call_result = singleflight::detail::call_result;

  explicit traffic(circuit_breaker_options options) : time(), breaker(with(options, time)) {
    breaker.force_open();
  }
  static circuit_breaker_options with(circuit_breaker_options options, manual_timer& time) {
    options.timer = &time;
    return options;
  }
  /// Each call ends with `result` after `length`; for at most `during`, or until the state is `to`.
  void run(std::chrono::nanoseconds during, std::chrono::nanoseconds length, call_result result,
           breaker_state to) {
    for (const auto end = time.now() + during; time.now() < end && breaker.state() != to;) {
      time.advance(10ms);
      while (!out.empty() && out.begin()->first <= time.now()) {
        breaker.settle(out.begin()->second, result);
        out.erase(out.begin());
      }
      if (const auto leave = breaker.admit()) {
        out.emplace(time.now() + length, leave);
        ++admitted;
      }
      most = std::max(most, out.size());
    }
  }

  manual_timer time;
  core breaker;
  std::multimap<manual_timer::time_point, core::admission> out;  // keyed by their ends
  std::size_t most = 0;                                          // at any time
  std::size_t admitted = 0;
};

// Goal    A backend that answers, but later than open_for, closes the breaker with its first
//         results; meanwhile one call per open_for is admitted in addition to the probes.
TEST(circuit_breaker, a_slow_backend_closes_it) {
  for (const auto length : {4s, 6s, 12s, 100s}) {
    traffic t({.open_for = 5s, .probes = 10});
    t.run(5s, length, traffic::call_result::success, breaker_state::half_open);
    const auto began = t.time.now();
    t.run(1h, length, traffic::call_result::success, breaker_state::closed);
    EXPECT_EQ(t.breaker.state(), breaker_state::closed) << length.count() << " s";
    EXPECT_LE(t.time.now() - began, length + 100ms);
    EXPECT_LE(t.most, 10U + static_cast<std::size_t>(length / 5s));
  }
}

// Goal    Likewise, a backend that fails after that time opens the breaker.
TEST(circuit_breaker, a_slow_backend_that_fails_opens_it) {
  traffic t({.open_for = 5s, .probes = 10});
  t.run(5s, 6s, traffic::call_result::failure, breaker_state::half_open);
  t.run(7s, 6s, traffic::call_result::failure, breaker_state::open);
  EXPECT_EQ(t.breaker.state(), breaker_state::open);
  EXPECT_EQ(t.breaker.stats().failures, 5U);
}

// Goal    A backend that hangs is called once per open_for, however long it hangs; once it
//         recovers, the breaker closes within an open_for, although the hung calls never end.
TEST(circuit_breaker, a_hung_backend_is_called_once_per_open_for) {
  traffic t({.open_for = 5s, .probes = 10});
  t.run(5s, 24h, traffic::call_result::success, breaker_state::half_open);
  t.run(1h, 24h, traffic::call_result::success, breaker_state::closed);
  EXPECT_EQ(t.breaker.state(), breaker_state::half_open);
  EXPECT_GE(t.admitted, 10U + 700U);
  EXPECT_LE(t.admitted, 10U + 720U);
  t.run(5200ms, 10ms, traffic::call_result::success, breaker_state::closed);
  EXPECT_EQ(t.breaker.state(), breaker_state::closed);
}

// Goal    Calls that are all cancelled after more than open_for decide nothing, and their number
//         does not grow from one open_for to the next.
TEST(circuit_breaker, cancelled_slow_probes_are_bounded) {
  traffic t({.open_for = 5s, .probes = 10});
  t.run(2h, 6s, traffic::call_result::none, breaker_state::closed);
  EXPECT_EQ(t.breaker.state(), breaker_state::half_open);
  EXPECT_LE(t.most, 12U);
  t.run(7s, 10ms, traffic::call_result::success, breaker_state::closed);
  EXPECT_EQ(t.breaker.state(), breaker_state::closed);
}

// Goal    An extra probe that is cancelled frees no place: the next one is admitted open_for later.
TEST(circuit_breaker, a_cancelled_extra_probe) {
  traffic t({.open_for = 5s, .probes = 1});
  t.time.advance(5s);
  const auto hung = t.breaker.admit();
  t.time.advance(5s);
  t.breaker.settle(t.breaker.admit(), traffic::call_result::none);
  EXPECT_FALSE(t.breaker.admit());
  t.time.advance(5s);
  const auto next = t.breaker.admit();
  EXPECT_TRUE(next);
  EXPECT_FALSE(t.breaker.admit());
  t.breaker.settle(hung, traffic::call_result::failure);
  EXPECT_EQ(t.breaker.state(), breaker_state::open);
  t.breaker.settle(next, traffic::call_result::success);
  EXPECT_EQ(t.breaker.state(), breaker_state::open);
}

// Goal    Probes that hang in many successive rounds grow by no more than `probes` per open_for,
//         and their late results count nowhere.
// Method  Half of each round hangs; the other half fails, which ends the round.
TEST(circuit_breaker, hung_probes_of_many_rounds_are_bounded) {
  traffic t({.open_for = 5s, .probes = 10});
  std::vector<traffic::core::admission> hung;
  constexpr int rounds = 20;
  for (int round = 0; round < rounds; ++round) {
    t.time.advance(5s);
    for (int i = 0; i < 5; ++i) hung.push_back(t.breaker.admit());
    for (int i = 0; i < 5; ++i) {
      t.breaker.settle(t.breaker.admit(), traffic::call_result::failure);
    }
    EXPECT_EQ(t.breaker.state(), breaker_state::open);
    EXPECT_FALSE(t.breaker.admit());
  }
  t.time.advance(5s);
  const auto probe = t.breaker.admit();
  for (const auto& late : hung) t.breaker.settle(late, traffic::call_result::failure);
  EXPECT_EQ(t.breaker.state(), breaker_state::half_open);
  EXPECT_EQ(t.breaker.stats().failures, 5U * rounds);
  t.breaker.settle(probe, traffic::call_result::success);
}

// Goal    Where calls are rare a round may last longer than open_for; the results of its probes are
//         kept.
TEST(circuit_breaker, a_round_waits_for_its_calls) {
  manual_timer time;
  circuit_breaker b(small(time));
  b.force_open();
  time.advance(1h);
  succeed(b);
  time.advance(1h);
  succeed(b);
  EXPECT_EQ(b.state(), breaker_state::closed);
}

// Goal    A probe that is cancelled, or whose thread ends, frees its place.
TEST(circuit_breaker, a_probe_without_a_result_gives_its_place_back) {
  manual_timer time;
  circuit_breaker_options options = small(time);
  options.probes = 1;
  circuit_breaker b(options);
  b.force_open();
  time.advance(5s);
  EXPECT_THROW(b.call([] { throw flight_error(flight_errc::cancelled); }), flight_error);
  EXPECT_EQ(b.state(), breaker_state::half_open);
  for (const bool outcome : {false, true}) {
    struct call {
      circuit_breaker& b;
      bool outcome;
    } of{b, outcome};
    pthread_t caller{};
    ASSERT_EQ(pthread_create(
                  &caller, nullptr,
                  [](void* from) -> void* {
                    const auto& c = *static_cast<call*>(from);
                    const auto ends = []() -> int { pthread_exit(nullptr); };
                    if (c.outcome) {
                      (void)c.b.call(as_outcome, ends);
                    } else {
                      c.b.call(ends, [] { return 1; });
                    }
                    ADD_FAILURE() << "the thread did not end";
                    return nullptr;
                  },
                  &of),
              0);
    ASSERT_EQ(pthread_join(caller, nullptr), 0);
    EXPECT_EQ(b.state(), breaker_state::half_open);
  }
  EXPECT_EQ(b.stats().calls, 0U);
  succeed(b);
  EXPECT_EQ(b.state(), breaker_state::closed);
}

// Goal    A call that began before the breaker changed counts neither in the new state nor later.
// Method  Its thread waits at a gate while the breaker opens and closes again; then it fails, in a
//         state that one failure would open.
TEST(circuit_breaker, late_results_do_not_count) {
  manual_timer time;
  circuit_breaker_options options = small(time);
  options.min_calls = 1;
  options.probes = 1;
  circuit_breaker b(options);
  support::gate hold;
  std::jthread late([&] {
    EXPECT_THROW(b.call([&] {
      hold.wait();
      throw failure();
    }),
                 failure);
  });
  hold.await_arrivals();
  fail(b);
  EXPECT_EQ(b.state(), breaker_state::open);
  time.advance(5s);
  succeed(b);
  EXPECT_EQ(b.state(), breaker_state::closed);
  hold.open();
  late.join();
  EXPECT_EQ(b.state(), breaker_state::closed);
  EXPECT_EQ(b.stats().failures, 1U);
}

// ---- changes ------------------------------------------------------------------------------------

// Goal    The hook is called for every change, with no lock held: it may use the breaker, and the
//         changes that this causes are reported after it has returned.
TEST(circuit_breaker, the_hook_may_use_the_breaker) {
  manual_timer time;
  std::vector<change> heard;
  int inside = 0;
  circuit_breaker_options options = small(time);
  circuit_breaker* self = nullptr;
  options.on_change = [&](breaker_state from, breaker_state to) {
    EXPECT_EQ(++inside, 1) << "the hook was called within the hook";
    heard.emplace_back(from, to);
    if (to == breaker_state::open && heard.size() == 1) {
      self->reset();
      succeed(*self);
    }
    --inside;
  };
  circuit_breaker b(options);
  self = &b;
  fail(b, 4);
  EXPECT_EQ(b.state(), breaker_state::closed);
  EXPECT_THAT(heard, ElementsAre(change{breaker_state::closed, breaker_state::open},
                                 change{breaker_state::open, breaker_state::closed}));
}

// Goal    A hook that falls behind gets the latest changes, in order, and nothing blocks. Its calls
//         are a chain: the change after lost ones begins at the state reported last, and is skipped
//         where it would lead back to it.
TEST(circuit_breaker, a_hook_that_falls_behind_loses_the_oldest) {
  for (const bool ends_closed : {false, true}) {
    manual_timer time;
    std::vector<change> heard;
    circuit_breaker* self = nullptr;
    circuit_breaker_options options = small(time);
    options.on_change = [&](breaker_state from, breaker_state to) {
      heard.emplace_back(from, to);
      if (heard.size() > 1) return;
      for (int i = 0; i < 50; ++i) {
        self->reset();
        self->force_open();
      }
      if (ends_closed) self->reset();
    };
    circuit_breaker b(options);
    self = &b;
    b.force_open();
    // Of the last 32 changes, the first opens what was reported open, if the last closes.
    ASSERT_EQ(heard.size(), ends_closed ? 32U : 33U);
    for (std::size_t i = 1; i < heard.size(); ++i) {
      EXPECT_EQ(heard[i].first, heard[i - 1].second);
      EXPECT_NE(heard[i].first, heard[i].second);
    }
    EXPECT_EQ(heard.back().second, b.state());
  }
}

// Goal    reset and force_open act in every state; where nothing changes, the hook is not called.
TEST(circuit_breaker, reset_and_force_open) {
  manual_timer time;
  std::vector<change> heard;
  circuit_breaker_options options = small(time);
  options.on_change = [&](breaker_state from, breaker_state to) { heard.emplace_back(from, to); };
  circuit_breaker b(options);
  fail(b, 3);
  b.reset();
  fail(b, 3);
  EXPECT_EQ(b.state(), breaker_state::closed) << "reset empties the window";
  EXPECT_TRUE(heard.empty());
  b.force_open();
  time.advance(4s);
  b.force_open();  // from now on
  time.advance(4s);
  EXPECT_TRUE(rejects(b));
  time.advance(1s);
  EXPECT_FALSE(rejects(b));
  b.reset();
  EXPECT_EQ(b.state(), breaker_state::closed);
  EXPECT_EQ(heard.size(), 3U);
  EXPECT_EQ(b.stats().opened, 1U);
}

// Goal    With an open_for beyond the range of the clock, only reset closes the breaker.
TEST(circuit_breaker, open_for_ever) {
  manual_timer time;
  circuit_breaker_options options = small(time);
  options.open_for = std::chrono::nanoseconds::max();
  circuit_breaker eternal(options);
  eternal.force_open();
  time.advance(24h * 365);
  EXPECT_TRUE(rejects(eternal));
}

// Goal    The statistics reach a visitor by name.
TEST(circuit_breaker, is_observable) {
  struct visitor final : singleflight::metric_visitor {
    void visit(std::string_view name, singleflight::metric_kind, double value) override {
      seen[std::string(name)] = value;
    }
    std::map<std::string, double> seen;
  } v;
  manual_timer time;
  circuit_breaker b(small(time));
  fail(b, 4);
  EXPECT_TRUE(rejects(b));
  b.observe(v);
  EXPECT_EQ(v.seen, (std::map<std::string, double>{{"calls", 4},
                                                   {"failures", 4},
                                                   {"slow", 0},
                                                   {"rejected", 1},
                                                   {"opened", 1},
                                                   {"state", 1}}));
}

// Goal    When threads count concurrently, no result is lost.
// Method  Threads that run at the same time report one failure fewer than would open the breaker.
TEST(circuit_breaker, threads_count_together) {
  manual_timer time;
  constexpr int threads = 12;  // more than there are adjacent stripes
  constexpr int each = 500;
  circuit_breaker_options options = small(time);
  options.error_rate = 1;
  options.min_calls = threads * each + 1;
  circuit_breaker b(options);
  support::gate begin;
  std::vector<std::jthread> all;
  for (int i = 0; i < threads; ++i) {
    all.emplace_back([&] {
      begin.wait();
      for (int n = 0; n < each; ++n) (void)b.call(as_outcome, [] { throw failure(); });
    });
  }
  begin.await_arrivals(threads);
  begin.open();
  all.clear();
  EXPECT_EQ(b.stats().failures, threads * each);
  EXPECT_EQ(b.state(), breaker_state::closed);
  fail(b);
  EXPECT_EQ(b.state(), breaker_state::open);
}

}  // namespace
