// SPDX-License-Identifier: Apache-2.0
#include "lab/backend/faulty_backend.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <latch>
#include <thread>
#include <vector>

#include "lab/replay/experiment.hpp"
#include "lab/workload/generator.hpp"
#include "unit/lab/fake_backend.hpp"
#include "unit/lab/forever.hpp"

namespace singleflight::lab {
namespace {

using namespace std::chrono_literals;

row answer(const std::string& key) { return {key, 1}; }

// Returns the kind of the failure, or an empty string.
std::string outcome(backend& asked, const std::string& key) {
  try {
    EXPECT_EQ(asked.load(key, forever).text, key);
  } catch (const backend_error& error) {
    return error.kind();
  }
  return {};
}

// Returns one letter per load of `key`: x failed, s slow, - neither. If the backend
// was interrupted, a slow load fails at once.
std::string pattern(backend& asked, const std::string& key, int loads) {
  std::string seen;
  for (int i = 0; i < loads; ++i) {
    const auto kind = outcome(asked, key);
    seen += kind == "injected" ? 'x' : kind == "interrupted" ? 's' : '-';
  }
  return seen;
}

// Goal    0 % affects no load and 100 % every load, and each load reaches the backend.
TEST(faulty_backend, none_and_all_are_exact) {
  int loads = 0;
  fake_backend working([&](const std::string& key) {
    ++loads;
    return answer(key);
  });
  faulty_backend never(working, {}, 1);
  EXPECT_EQ(pattern(never, "k", 1000), std::string(1000, '-'));
  faulty_backend also_never(working, {0, 0, 1h}, 1);
  EXPECT_EQ(pattern(also_never, "k", 1000), std::string(1000, '-'));
  faulty_backend always(working, {1, 0, 0ns}, 1);
  EXPECT_EQ(pattern(always, "k", 1000), std::string(1000, 'x'));
  faulty_backend slow(working, {1, 1, 1h}, 1);
  slow.interrupt();
  EXPECT_EQ(pattern(slow, "k", 1000), std::string(1000, 's'));
  EXPECT_EQ(loads, 4000);
}

// Goal    The faults are the same on every machine; another seed or key has other faults, and a new
//         object begins from the first one.
TEST(faulty_backend, faults_follow_from_seed_key_and_number) {
  fake_backend working(answer);
  const auto seen = [&](std::uint64_t seed, const char* key) {
    faulty_backend faulty(working, {0.25, 0, 0ns}, seed);
    return pattern(faulty, key, 24);
  };
  EXPECT_EQ(seen(1, "a"), "x------x--x----x----x---");
  EXPECT_EQ(seen(1, "b"), "-x--------x----xxx----x-");
  EXPECT_EQ(seen(2, "a"), "x---xx----x---x----x-xx-");
  EXPECT_EQ(seen(1, "a"), seen(1, "a"));
}

// Goal    The number of failed loads of a key depends neither on other keys nor on the timing.
TEST(faulty_backend, faults_do_not_depend_on_threads) {
  constexpr int loads = 200;
  fake_backend working(answer);
  const auto failures_of = [](const std::string& seen) { return std::ranges::count(seen, 'x'); };
  faulty_backend alone(working, {0.1, 0, 0ns}, 7);
  const auto a = failures_of(pattern(alone, "a", loads));
  const auto b = failures_of(pattern(alone, "b", loads));

  faulty_backend shared(working, {0.1, 0, 0ns}, 7);
  std::atomic<std::ptrdiff_t> failed_a = 0;
  std::atomic<std::ptrdiff_t> failed_b = 0;
  std::latch start(4);
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < 4; ++i) {
      threads.emplace_back([&] {
        start.arrive_and_wait();
        for (int n = 0; n < loads / 4; ++n) {
          failed_a += failures_of(pattern(shared, "a", 1));
          failed_b += failures_of(pattern(shared, "b", 1));
        }
      });
    }
  }
  EXPECT_EQ(failed_a, a);
  EXPECT_EQ(failed_b, b);
}

// Goal    Both faults have their share, over many loads of one key and over the first loads of many
//         keys, and the two faults are independent.
TEST(faulty_backend, shares_are_met) {
  constexpr int loads = 10'000;
  fake_backend working(answer);
  faulty_backend failing(working, {0.05, 0, 0ns}, 1);
  faulty_backend slow(working, {0, 0.2, 1h}, 1);
  slow.interrupt();
  const auto failed = pattern(failing, "k", loads);
  const auto late = pattern(slow, "k", loads);
  int both = 0;
  for (std::size_t i = 0; i < loads; ++i) both += int{failed[i] == 'x' && late[i] == 's'};
  EXPECT_NEAR(static_cast<double>(std::ranges::count(failed, 'x')), 500, 100);
  EXPECT_NEAR(static_cast<double>(std::ranges::count(late, 's')), 2000, 200);
  EXPECT_NEAR(both, 100, 40);

  int first = 0;
  for (int key = 0; key < loads; ++key)
    first += int{!outcome(failing, std::to_string(key)).empty()};
  EXPECT_NEAR(first, 500, 100);
}

TEST(faulty_backend, a_slow_answer_is_delayed_by_its_time) {
  fake_backend working(answer);
  faulty_backend faulty(working, {0, 1, 5ms}, 1);
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_EQ(outcome(faulty, "k"), "");
  EXPECT_GE(std::chrono::steady_clock::now() - begin, 5ms);
}

// Goal    An interrupt ends the delay of a finished load, whether the delay has begun or is about
//         to,
//         and it is passed to the backend.
TEST(faulty_backend, interrupt_ends_a_slow_load) {
  std::latch loaded(1);
  fake_backend working([&](const std::string& key) {
    loaded.count_down();
    return answer(key);
  });
  faulty_backend faulty(working, {0, 1, 1h}, 1);
  std::string kind;
  std::jthread loading([&] { kind = outcome(faulty, "k"); });
  loaded.wait();
  faulty.interrupt();
  loading.join();
  EXPECT_EQ(kind, "interrupted");
  EXPECT_TRUE(working.interrupted);
}

// Goal    The backend's own failures are passed on, and do not count as answers.
TEST(faulty_backend, own_failures_pass) {
  bool works = false;
  bool reached = true;
  fake_backend working([&](const std::string& key) {
    if (!reached) throw no_connection();
    if (!works) throw backend_error("odd", "odd");
    return answer(key);
  });
  faulty_backend faulty(working, {1, 1, 0ns}, 1);
  EXPECT_EQ(outcome(faulty, "k"), "odd");
  reached = false;
  EXPECT_THROW(faulty.load("k", forever), no_connection);

  reached = true;
  faulty_backend half(working, {0.5, 0, 0ns}, 1);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(outcome(half, "k"), "odd");
  works = true;
  faulty_backend fresh(working, {0.5, 0, 0ns}, 1);
  EXPECT_EQ(pattern(half, "k", 50), pattern(fresh, "k", 50));
}

TEST(faulty_backend, its_name_describes_the_faults) {
  fake_backend working(answer);
  const auto name = [&](const faults& injected) {
    return faulty_backend(working, injected, 1).name();
  };
  EXPECT_EQ(name({}), "fake");
  EXPECT_EQ(name({0.07, 0, 0ns}), "fake that fails 7 % of the loads");
  EXPECT_EQ(name({0, 0.005, 2s}), "fake that delays 0.5 % of the loads by 2.00 s");
  EXPECT_EQ(name({0.05, 0.01, 50ms}),
            "fake that fails 5 % of the loads and delays 1 % of the loads by 50.0 ms");
}

// Goal    Each run has the same faults, whatever the timing of its callers, and its counts add up.
TEST(faulty_backend, runs_meet_the_same_faults) {
  fake_backend working(answer);
  const auto requests = generator::parse("uniform:keys=20").make(2000, 1);
  pacing pace;
  pace.callers = 4;
  const auto run = [&](const char* protection) {
    faulty_backend faulty(working, {0.1, 0, 0ns}, 1);
    std::atomic<std::uint64_t> done = 0;
    return measure({requests, pace, {}}, protection, faulty, {}, done);
  };
  const auto first = run("none");
  const auto failed = first.seen.errors.at("injected").count;
  EXPECT_EQ(first.backend_loads, 2000U);
  EXPECT_EQ(first.seen.answered + failed, 2000U);
  EXPECT_EQ(run("none").seen.errors.at("injected").count, failed);
  const auto shared = run("flight");
  EXPECT_EQ(shared.backend_loads + shared.seen.saved, 2000U);
  EXPECT_EQ(shared.seen.answered + shared.seen.errors.at("injected").count, 2000U);
}

}  // namespace
}  // namespace singleflight::lab
