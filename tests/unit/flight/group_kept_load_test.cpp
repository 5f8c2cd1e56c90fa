// SPDX-License-Identifier: Apache-2.0
//
// Owned loads that do not lead at once: kept with a flight, waiting behind one, or run once more.

#include <gtest/gtest.h>

#include <atomic>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>

#include "support/eventually.hpp"
#include "support/executors.hpp"
#include "support/gate.hpp"
#include "support/task.hpp"
#include <singleflight/core.hpp>
#include <singleflight/flight.hpp>

namespace sf = singleflight;
using namespace std::chrono_literals;

namespace {

// Goal    A started call that joins where errors are handed over keeps its loader, and that loader
//         runs when the leader fails.
TEST(kept_load, a_joining_start_takes_over_with_its_own_loader) {
  support::manual_executor queue;
  sf::group<int, std::string> flights(
      {.executor = queue, .on_error = sf::error_policy::hand_over(3)});
  int first_loads = 0;
  int second_loads = 0;
  auto first =
      flights.start(1, [&first_loads, only_once = std::unique_ptr<int>()]() -> std::string {
        ++first_loads;
        throw std::runtime_error("first");
      });
  auto second = flights.start(1, [&second_loads]() -> std::string {
    ++second_loads;
    return "second";
  });
  EXPECT_EQ(flights.stats().joined, 1U);
  EXPECT_EQ(queue.run_all(), 2U);
  EXPECT_EQ(first.get().get(), "second");
  EXPECT_EQ(second.get().get(), "second");
  EXPECT_EQ(first_loads, 1);
  EXPECT_EQ(second_loads, 1);
  EXPECT_EQ(flights.stats().handed_over, 1U);
  EXPECT_TRUE(flights.in_flight().empty());
}

// Goal    A kept loader is destroyed as soon as its caller leaves, and never runs.
TEST(kept_load, is_destroyed_when_its_caller_leaves) {
  support::manual_executor queue;
  sf::group<int, int> flights({.executor = queue, .on_error = sf::error_policy::hand_over(3)});
  auto alive = std::make_shared<int>(0);
  int loads = 0;
  auto first = flights.start(1, [&loads, none = std::unique_ptr<int>()]() -> int {
    ++loads;
    throw std::runtime_error("first");
  });
  {
    const auto second = flights.start(1, [alive, &loads] { return ++loads; });
    EXPECT_EQ(alive.use_count(), 2);
  }
  EXPECT_EQ(alive.use_count(), 1);
  queue.run_all();
  EXPECT_THROW(first.get(), std::runtime_error);
  EXPECT_EQ(loads, 1);
}

// Goal    Several start_fresh behind one running flight share one successor; if the first of them
//         leaves, another one's loader runs.
TEST(kept_load, fresh_starts_behind_a_flight_share_one_successor) {
  support::manual_executor queue;
  sf::group<int, int> flights({.executor = queue});
  auto running = flights.start(1, [] { return 1; });
  auto a = flights.start_fresh(1, [] { return 2; });
  auto b = flights.start_fresh(1, [] { return 3; });
  auto c = flights.start_fresh(1, [] { return 4; });
  { const auto left = std::move(a); }
  queue.run_all();
  EXPECT_EQ(running.get().get(), 1);
  EXPECT_EQ(b.get().get(), 3);
  EXPECT_EQ(c.get().get(), 3);
  EXPECT_EQ(flights.stats().loads, 2U);
  EXPECT_TRUE(flights.in_flight().empty());
}

/// A loader that, when it is first moved or copied, makes another call begin a flight for its key.
struct interrupted_loader {
  explicit interrupted_loader(std::function<void()> on_copy, int result)
      : interrupt(std::move(on_copy)), value(result) {}
  interrupted_loader(const interrupted_loader& other)
      : interrupt(other.interrupt), value(other.value) {
    if (interrupt) std::exchange(interrupt, nullptr)();
  }
  interrupted_loader(interrupted_loader&& other) noexcept
      : interrupt(std::exchange(other.interrupt, nullptr)), value(other.value) {
    if (interrupt) std::exchange(interrupt, nullptr)();
  }
  int operator()() const { return value; }
  std::function<void()> interrupt;
  int value;
};

// Goal    A start_fresh that finds the key free, but taken once it has made its block, still runs
//         its load.
// Method  The loader's own move constructor begins the other flight: exactly between the look and
//         the entry.
TEST(kept_load, a_fresh_start_that_lost_the_race_to_lead_still_loads) {
  support::manual_executor queue;
  sf::group<int, int> flights({.executor = queue});
  std::optional<sf::flight<int>> other;
  auto fresh = flights.start_fresh(
      1, interrupted_loader([&] { other.emplace(flights.start(1, [] { return 1; })); }, 2));
  ASSERT_TRUE(other.has_value());
  queue.run_all();
  ASSERT_TRUE(other->ready());
  EXPECT_EQ(other->get().get(), 1);
  ASSERT_TRUE(fresh.ready()) << "the successor's load was never launched";
  EXPECT_EQ(fresh.get().get(), 2);
}

// Goal    The same for a start that joins and keeps its loader for a hand-over.
TEST(kept_load, a_start_that_lost_the_race_to_lead_can_still_take_over) {
  support::manual_executor queue;
  sf::group<int, int> flights({.executor = queue, .on_error = sf::error_policy::hand_over(1)});
  std::optional<sf::flight<int>> other;
  auto kept = flights.start(
      1, interrupted_loader(
             [&] {
               other.emplace(flights.start(1, [none = std::unique_ptr<int>()]() -> int {
                 throw std::runtime_error("failed");
               }));
             },
             2));
  ASSERT_TRUE(other.has_value());
  queue.run_all();
  ASSERT_TRUE(kept.ready()) << "the load that takes over was never launched";
  EXPECT_EQ(kept.get().get(), 2);
  EXPECT_EQ(other->get().get(), 2);
}

// Goal    A joiner that does not keep its loader leaves nothing of its own behind, whenever it lost
//         the race.
TEST(kept_load, a_start_that_lost_the_race_and_joins_frees_its_loader) {
  support::manual_executor queue;
  sf::group<int, int> flights({.executor = queue});
  auto alive = std::make_shared<int>(0);
  struct counted : interrupted_loader {
    counted(std::function<void()> f, std::shared_ptr<int> t)
        : interrupted_loader(std::move(f), 2), token(std::move(t)) {}
    std::shared_ptr<int> token;
  };
  std::optional<sf::flight<int>> other;
  auto joiner =
      flights.start(1, counted([&] { other.emplace(flights.start(1, [] { return 1; })); }, alive));
  EXPECT_EQ(alive.use_count(), 1);
  queue.run_all();
  EXPECT_EQ(joiner.get().get(), 1);
}

// Goal    An awaitable loader that fails is run once more, from the loader as it was passed.
// Method  The loader suspends; the test resumes it, so the second run begins while the first one's
//         coroutine is still on the stack.
TEST(kept_load, an_awaitable_loader_is_repeated_after_a_failure) {
  sf::group<int, std::string> flights(
      {.executor = sf::inline_executor, .on_error = sf::error_policy::hand_over(2)});
  support::suspension stop;
  std::atomic<int> attempts{0};
  auto load = [&stop, &attempts]() -> support::lazy<std::string> {
    const int attempt = ++attempts;
    const std::string large(64, static_cast<char>('a' + attempt));
    co_await stop;
    if (attempt < 3) throw std::runtime_error(large);
    co_return large;
  };
  auto f = flights.start(1, load);
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(stop.taken()) << "attempt " << i;
    EXPECT_FALSE(f.ready());
    stop.resume();
  }
  ASSERT_TRUE(f.ready());
  EXPECT_EQ(f.get().get(), std::string(64, 'd'));
  EXPECT_EQ(attempts, 3);
  EXPECT_EQ(flights.stats().handed_over, 2U);
}

// Goal    The same on a pool: the next run may begin on another thread before the last one's frame
//         is destroyed.
TEST(kept_load, an_awaitable_loader_is_repeated_on_a_pool) {
  sf::thread_pool pool({.max_threads = 2});
  for (int round = 0; round < 200; ++round) {
    sf::group<int, std::string> flights(
        {.executor = pool, .on_error = sf::error_policy::hand_over(5)});
    std::atomic<int> attempts{0};
    auto f = flights.start(1, [&attempts]() -> support::lazy<std::string> {
      const std::string large(64, 'x');
      if (++attempts < 6) throw std::runtime_error(large);
      co_return large;
    });
    EXPECT_EQ(f.get().get(), std::string(64, 'x'));
    EXPECT_EQ(attempts, 6);
  }
}

// Goal    Promise loaders and plain loaders are repeated too.
TEST(kept_load, plain_and_promise_loaders_are_repeated) {
  support::manual_executor queue;
  sf::group<int, int> flights({.executor = queue, .on_error = sf::error_policy::hand_over(2)});
  int attempts = 0;
  auto plain = flights.start(1, [&attempts]() -> int {
    if (++attempts < 3) throw std::runtime_error("again");
    return attempts;
  });
  queue.run_all();
  EXPECT_EQ(plain.get().get(), 3);
  attempts = 0;
  auto promised = flights.start(1, [&attempts](sf::flight_promise<int> promise) {
    if (++attempts < 3) {
      promise.set_error(std::make_exception_ptr(std::runtime_error("again")));
    } else {
      promise.set_value(attempts);
    }
  });
  queue.run_all();
  EXPECT_EQ(promised.get().get(), 3);
}

// Goal    Hand-overs are bounded even when one loader is repeated: then every caller gets the last
//         error.
TEST(kept_load, repeats_are_bounded) {
  support::manual_executor queue;
  sf::group<int, int> flights({.executor = queue, .on_error = sf::error_policy::hand_over(2)});
  int attempts = 0;
  auto f = flights.start(1, [&attempts]() -> int {
    throw std::runtime_error("attempt " + std::to_string(++attempts));
  });
  queue.run_all();
  EXPECT_EQ(attempts, 3);
  try {
    f.get();
    ADD_FAILURE();
  } catch (const std::runtime_error& e) {
    EXPECT_STREQ(e.what(), "attempt 3");
  }
}

}  // namespace
