// SPDX-License-Identifier: Apache-2.0

// One breaker, many threads and the real clock, with times so short that the window advances and
// the breaker opens and closes many times a second.
//
// The seed is printed; SINGLEFLIGHT_SEED repeats it, SINGLEFLIGHT_STRESS_MS sets the time box of
// each test.

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <iostream>
#include <random>
#include <stdexcept>
#include <thread>
#include <vector>

#include "support/eventually.hpp"
#include "support/gate.hpp"
#include "support/stress.hpp"
#include <singleflight/sync/circuit_breaker.hpp>

namespace {

using namespace std::chrono_literals;
using singleflight::as_outcome;
using singleflight::breaker_state;
using singleflight::circuit_breaker;
using singleflight::flight_errc;
using singleflight::flight_error;
using clock = std::chrono::steady_clock;

constexpr int breaker_callers = 12;  // more than there are adjacent stripes

struct backend_failure : std::runtime_error {
  backend_failure() : std::runtime_error("the backend failed") {}
};

/// Lets all callers loop on `step(caller)` until the time is up; returns how long that took.
clock::duration run_callers(const std::function<void(int)>& step) {
  support::gate begin;
  std::atomic<bool> over{false};
  std::vector<std::jthread> threads;
  for (int i = 0; i < breaker_callers; ++i) {
    threads.emplace_back([&, i] {
      begin.wait();
      while (!over.load(std::memory_order_relaxed)) step(i);
    });
  }
  begin.await_arrivals(breaker_callers);
  const auto start = clock::now();
  begin.open();
  std::this_thread::sleep_for(support::time_box(1000));
  over = true;
  threads.clear();
  return clock::now() - start;
}

/// An on_change hook that checks that it gets a chain of changes, one at a time.
class chain {
 public:
  void operator()(breaker_state from, breaker_state to) {
    EXPECT_FALSE(inside_.exchange(true)) << "the hook was called twice at the same time";
    EXPECT_EQ(from, last_) << "changes were reported out of order";
    last_ = to;
    if (to == breaker_state::open) ++opened_;
    inside_ = false;
  }
  std::uint64_t opened() const { return opened_; }
  breaker_state last() const { return last_; }

 private:
  std::atomic<bool> inside_{false};
  breaker_state last_ = breaker_state::closed;
  std::uint64_t opened_ = 0;
};

// Goal    A backend that fails one call in ten never opens a breaker that opens at a half: no
//         relevant count is lost, and no bucket is reused with its old counts.
// Method  Each caller fails every tenth of its calls, in a window of 2 ms. min_calls is so large
//         that the inaccuracy that CW1 and CW2 in call_window.hpp allow, some calls per thread,
//         cannot make a half.
TEST(circuit_breaker_stress, a_healthy_backend_opens_nothing) {
  circuit_breaker b({.error_rate = 0.5, .min_calls = 200, .window = 2ms, .open_for = 1h});
  std::vector<std::uint64_t> made(breaker_callers *
                                  16);  // spread, so that callers share no cache lines
  run_callers([&](int caller) {
    const bool fails = ++made[static_cast<std::size_t>(caller) * 16] % 10 == 0;
    const auto o = b.call(as_outcome, [fails] {
      if (fails) throw backend_failure();
    });
    EXPECT_NE(o.errc(), flight_errc::rejected);
  });
  EXPECT_EQ(b.state(), breaker_state::closed);
  std::uint64_t calls = 0;
  std::uint64_t failures = 0;
  for (const std::uint64_t n : made) {
    calls += n;
    failures += n / 10;
  }
  EXPECT_EQ(b.stats().calls, calls);
  EXPECT_EQ(b.stats().failures, failures);
}

// Goal    A dead backend is called by probes only, and by no more of them than allowed.
// Method  After force_open every call fails. A round of probes begins at least open_for after the
//         last probe of the previous one, so the elapsed time bounds the number of rounds; the
//         coarse clock may add the beginnings of two.
TEST(circuit_breaker_stress, probes_are_bounded) {
  constexpr std::uint64_t probes = 3;
  constexpr auto open_for = 5ms;
  chain changes;
  circuit_breaker b({.open_for = open_for, .probes = probes, .on_change = std::ref(changes)});
  b.force_open();
  std::atomic<std::uint64_t> asked{0};
  const auto took = run_callers([&](int) {
    (void)b.call(as_outcome, [&] {
      ++asked;
      throw backend_failure();
    });
  });
  EXPECT_LE(asked, probes * (static_cast<std::uint64_t>(took / open_for) + 2));
  EXPECT_GT(changes.opened(), 2U) << "the breaker was never half open";
  EXPECT_NE(b.state(), breaker_state::closed);
}

// Goal    Whatever the backend does, each call ends in one way and is counted at most once, changes
//         are reported as a chain, and no probe's place is lost: once the backend recovers, the
//         breaker closes.
// Method  A backend that fails and recovers at random, cancelled calls, and resets.
TEST(circuit_breaker_stress, closes_after_a_storm) {
  const std::uint64_t seed = support::new_seed();
  chain changes;
  circuit_breaker b({.error_rate = 0.5,
                     .min_calls = 5,
                     .window = 5ms,
                     .open_for = 1ms,
                     .probes = 2,
                     .on_change = std::ref(changes)});
  std::atomic<bool> down{false};
  std::atomic<std::uint64_t> admitted{0};
  std::atomic<std::uint64_t> failed{0};
  std::atomic<std::uint64_t> turned_away{0};
  std::vector<std::mt19937_64> random;
  for (std::uint64_t i = 0; i < breaker_callers; ++i) random.emplace_back(seed + i);
  run_callers([&](int caller) {
    const std::uint64_t draw = random[static_cast<std::size_t>(caller)]();
    if (draw % 1000 == 0) down = !down;
    if (draw % 10'000 == 1) b.reset();
    if (draw % 10'000 == 2) b.force_open();
    bool called = false;
    const auto backend = [&]() -> int {
      called = true;
      if (draw % 7 == 0) throw flight_error(flight_errc::cancelled);
      ++admitted;
      if (draw % 5 == 0) std::this_thread::yield();
      if (!down) return 1;
      ++failed;
      throw backend_failure();
    };
    switch (draw / 64 % 3) {
      case 0:
        if (b.call(as_outcome, backend).errc() == flight_errc::rejected) ++turned_away;
        break;
      case 1: try { EXPECT_EQ(b.call(backend), 1);
        } catch (const backend_failure&) {
        } catch (const flight_error& error) {
          if (error.errc() == flight_errc::rejected) ++turned_away;
          EXPECT_EQ(error.errc() == flight_errc::rejected, !called);
        }
        break;
      default:
        try {
          const int answer = b.call(backend, [&] {
            if (!called) ++turned_away;
            return 2;
          });
          EXPECT_TRUE(answer == 2 || called);
        } catch (const flight_error& error) {
          EXPECT_EQ(error.errc(), flight_errc::cancelled);
        }
    }
  });
  EXPECT_EQ(b.stats().rejected, turned_away);
  EXPECT_LE(b.stats().calls, admitted);  // minus late results
  EXPECT_LE(b.stats().failures, failed);
  EXPECT_LE(changes.opened(), b.stats().opened);  // minus those lost while the hook's thread stood
  EXPECT_EQ(b.state(), changes.last());
  EXPECT_GT(changes.opened(), 2U) << "the breaker never opened";
  support::eventually(
      [&b] {
        (void)b.call(as_outcome, [] {});
        return b.state() == breaker_state::closed;
      },
      "a breaker that closes");
}

}  // namespace
