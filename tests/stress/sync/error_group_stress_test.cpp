// SPDX-License-Identifier: Apache-2.0

// Groups under load: random limits, executors, failures, stops, nested goes, waiters and
// destructors. Each task records its fate, and each use must account for every go: run once or
// skipped, never both, none after its wait has returned, and never more at a time than the limit.
// The seed is printed; SINGLEFLIGHT_SEED repeats it, SINGLEFLIGHT_STRESS_MS sets the time box.

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <functional>
#include <mutex>
#include <optional>
#include <random>
#include <stop_token>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "support/executors.hpp"
#include <singleflight/sync.hpp>

namespace {

namespace sf = singleflight;
using std::chrono::steady_clock;

std::uint64_t setting(const char* name, std::uint64_t otherwise) {
  const char* const given = std::getenv(name);
  return given != nullptr ? std::strtoull(given, nullptr, 10) : otherwise;
}

struct task_failure {
  std::size_t number;
};

/// The fate of a task, recorded by its callable.
struct fate {
  std::atomic<int> ran{0};
  std::atomic<int> destroyed{0};  ///< its callable was destroyed
};

/// One use of a group, with its records.
class use {
 public:
  use(sf::error_group& group, std::size_t limit) : group_(group), limit_(limit) {}

  /// Submits a task with a random course: it may fail, request a stop, or submit more tasks.
  void go(std::uint64_t seed, int depth, bool try_only = false) {
    std::size_t at = 0;
    fate* mine = nullptr;
    {
      const std::lock_guard hold(lock_);
      at = fates_.size();
      mine = &fates_.emplace_back();
    }
    struct mark {
      fate* of;
      explicit mark(fate* f) : of(f) {}
      mark(mark&& other) noexcept : of(std::exchange(other.of, nullptr)) {}
      mark& operator=(mark&&) = delete;
      ~mark() {
        if (of != nullptr) ++of->destroyed;
      }
    };
    auto task = [this, seed, depth, at, m = mark(mine)](std::stop_token stop) {
      ++m.of->ran;
      EXPECT_FALSE(over_) << "a task ran after its wait had returned";
      if (const std::size_t now = ++running_; now > limit_)
        ADD_FAILURE() << now << " tasks run at a time";
      std::mt19937_64 random(seed);
      for (auto turns = random() % 64; turns > 0 && !stop.stop_requested(); --turns) {
        std::this_thread::yield();
      }
      if (depth > 0 && random() % 4 == 0) {
        for (int i = 0; i < 2; ++i) go(random(), depth - 1, random() % 4 == 0);
      }
      if (random() % 16 == 0) group_.request_stop();
      const bool fails = random() % 64 == 0;
      --running_;
      if (fails) throw task_failure{at};
    };
    if (!try_only) {
      group_.go(std::move(task));
      ++submitted_;
    } else if (group_.try_go(std::move(task))) {
      ++submitted_;
    } else {
      ++refused_;
    }
  }

  /// After the wait, or after the group is destroyed.
  void check(std::optional<std::size_t> skipped) {
    over_ = true;
    std::size_t ran = 0;
    for (const fate& one : fates_) {
      EXPECT_LE(one.ran, 1) << "a task ran twice";
      EXPECT_EQ(one.destroyed, 1) << "a callable was not destroyed";
      ran += static_cast<std::size_t>(one.ran);
    }
    EXPECT_EQ(submitted_ + refused_, fates_.size());
    if (skipped) {
      EXPECT_EQ(ran + *skipped, submitted_);
    }
    total += fates_.size();
  }

  static inline std::atomic<std::uint64_t> total{0};

 private:
  sf::error_group& group_;
  const std::size_t limit_;
  std::mutex lock_;
  std::deque<fate> fates_;
  std::atomic<std::size_t> running_{0};
  std::atomic<std::size_t> submitted_{0};
  std::atomic<std::size_t> refused_{0};
  std::atomic<bool> over_{false};
};

void round(std::uint64_t seed, const std::vector<sf::any_executor>& executors) {
  std::mt19937_64 random(seed);
  const std::size_t limits[] = {1, 2, 3, sf::error_group_options::no_limit};
  const std::size_t limit = limits[random() % 4];
  std::stop_source parent;
  std::optional<sf::error_group> group;
  group.emplace(sf::error_group_options{.executor = executors[random() % executors.size()],
                                        .limit = limit,
                                        .stop = parent.get_token()});
  std::deque<use> uses;
  for (auto left = 1 + random() % 3; left > 0; --left) {
    use& now = uses.emplace_back(*group, limit);
    {
      std::vector<std::jthread> callers;  // concurrent with this one
      for (auto n = random() % 3; n > 0; --n) {
        callers.emplace_back([&now, seed = random()] {
          std::mt19937_64 own(seed);
          for (auto tasks = own() % 16; tasks > 0; --tasks) now.go(own(), 2, own() % 8 == 0);
        });
      }
      // At least one task: a wait without tasks keeps the records of the previous use.
      for (auto tasks = 1 + random() % 32; tasks > 0; --tasks) now.go(random(), 2);
      if (random() % 16 == 0) parent.request_stop();
    }
    if (left == 1 && random() % 4 == 0) {
      group.reset();
      now.check(std::nullopt);
      return;
    }
    bool ok = true;
    try {
      group->wait();
    } catch (const task_failure&) {
      ok = false;
      EXPECT_FALSE(group->errors().empty());
    } catch (const sf::flight_error& error) {
      ok = false;
      EXPECT_EQ(error.errc(), sf::flight_errc::cancelled);
      EXPECT_GT(group->skipped(), 0U);
    }
    if (ok) {
      EXPECT_EQ(group->skipped(), 0U);
      EXPECT_TRUE(group->errors().empty());
    }
    now.check(group->skipped());
  }
}

// Scenario 29.
// Goal    Each task is run or skipped exactly once, whatever happens concurrently.
TEST(error_group_stress, each_task_is_run_or_skipped_once) {
  const std::uint64_t seed = setting("SINGLEFLIGHT_SEED", std::random_device{}());
  std::printf("seed %ju\n", static_cast<std::uintmax_t>(seed));
  const auto until =
      steady_clock::now() + std::chrono::milliseconds(setting("SINGLEFLIGHT_STRESS_MS", 3'000));
  sf::thread_pool one({.max_threads = 1});
  sf::thread_pool four({.max_threads = 4});
  const std::vector<sf::any_executor> executors{
      one, four, sf::any_executor(), support::dropping_executor{}, support::refusing_executor{}};
  std::vector<std::jthread> threads;
  for (std::uint64_t t = 0; t < 3; ++t) {
    threads.emplace_back([&, t] {
      std::mt19937_64 random(seed + t);
      while (steady_clock::now() < until && !testing::Test::HasFailure()) {
        round(random(), executors);
      }
    });
  }
  threads.clear();
  std::printf("%ju tasks\n", static_cast<std::uintmax_t>(use::total.load()));
  EXPECT_GT(use::total, 100U);
}

// Goal    Nested groups on a bounded pool end, even where each level is wider than the pool.
TEST(error_group_stress, nested_groups_on_a_bounded_pool) {
  const auto until =
      steady_clock::now() + std::chrono::milliseconds(setting("SINGLEFLIGHT_STRESS_MS", 3'000) / 3);
  while (steady_clock::now() < until) {
    sf::thread_pool pool({.max_threads = 2});
    std::atomic<int> leaves{0};
    std::function<void(int)> fan_out = [&](int levels) {
      if (levels == 0) {
        ++leaves;
        return;
      }
      sf::error_group group({.executor = pool, .limit = 3});
      for (int i = 0; i < 5; ++i) group.go([&fan_out, levels] { fan_out(levels - 1); });
      group.wait();
    };
    fan_out(4);
    ASSERT_EQ(leaves, 625);
  }
}

}  // namespace
