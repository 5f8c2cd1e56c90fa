// SPDX-License-Identifier: Apache-2.0

#include <gtest/gtest.h>

#include <atomic>
#include <cstddef>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>

#include "support/eventually.hpp"
#include "support/gate.hpp"
#include <singleflight/core.hpp>
#include <singleflight/flight.hpp>

namespace sf = singleflight;

/// A key that counts how often it is compared.
struct counting_key {
  int number;
  std::atomic<int>* comparisons;
  friend bool operator==(const counting_key& a, const counting_key& b) {
    ++*a.comparisons;
    return a.number == b.number;
  }
};
template <>
struct std::hash<counting_key> {
  std::size_t operator()(const counting_key& key) const noexcept {
    return static_cast<std::size_t>(key.number);
  }
};

namespace {

int twice(int n) { return 2 * n; }

// Goal    The returned callable has the function's signature: arguments in, copies out, exceptions
//         through.
TEST(deduplicate, behaves_like_the_function) {
  const auto f = sf::deduplicate([](const std::string& s, int n) { return s + std::to_string(n); },
                                 [](const std::string& s, int) { return s; });
  EXPECT_EQ(f("a", 1), "a1");
  EXPECT_EQ(f("a", 2), "a2") << "calls in series do not share";
  const auto g = sf::deduplicate(twice, [](int n) { return n; });
  EXPECT_EQ(g(4), 8);
  const auto h = sf::deduplicate(
      [](int n) {
        if (n > 0) throw std::out_of_range("n");
      },
      [](int n) { return n; });
  h(0);
  EXPECT_THROW(h(1), std::out_of_range);
  const auto moved = sf::deduplicate([](std::unique_ptr<int> p) { return *p; },
                                     [](const std::unique_ptr<int>& p) { return *p; });
  EXPECT_EQ(moved(std::make_unique<int>(3)), 3);
}

// Goal    Overlapping calls with one key share one execution, over all copies of the callable;
//         other keys do not.
// Method  The key counts its comparisons. At the second one the joiner stands in the critical
//         section in which it joins: only then is the function let go, so it cannot have ended
//         before.
TEST(deduplicate, overlapping_calls_share) {
  std::atomic<int> calls{0};
  std::atomic<int> comparisons{0};
  support::gate hold;
  const auto f = sf::deduplicate(
      [&](int number, std::string who) {
        ++calls;
        if (number == 1) hold.wait();
        return who;
      },
      [&](int number, const std::string&) {
        return counting_key{number, &comparisons};
      });
  std::string first;
  std::string second;
  std::jthread a([&] { first = f(1, "a"); });
  hold.await_arrivals();
  std::jthread b([&, copy = f] { second = copy(1, "b"); });
  support::eventually([&] { return comparisons >= 2; }, "the joiner");
  EXPECT_EQ(f(2, "c"), "c");
  EXPECT_FALSE(hold.is_open());
  hold.open();
  a.join();
  b.join();
  EXPECT_EQ(first, "a");
  EXPECT_EQ(second, "a") << "the arguments of the call that led";
  EXPECT_EQ(calls, 2);
}

// Goal    A key_of that returns a part of an argument: the key stays what it was while `fn` moves
//         that argument on.
// Method  The call that leads has swallowed its argument when the second one comes.
TEST(deduplicate, a_key_that_is_an_argument) {
  struct : sf::observer {
    void joined(std::uint64_t) noexcept override { hold.open(); }
    support::gate hold;
  } observer;
  std::atomic<int> calls{0};
  const auto f = sf::deduplicate(
      [&](std::string name) {
        const std::string swallowed = std::move(name);
        if (++calls == 1) observer.hold.wait();
        return swallowed.size();
      },
      std::identity(), {.observer = &observer});
  const std::string name(40, 'n');
  std::size_t first = 0;
  std::jthread a([&] { first = f(name); });
  observer.hold.await_arrivals();
  EXPECT_EQ(f(name), 40U);
  EXPECT_EQ(calls, 1) << "the second call has joined";
  a.join();
  EXPECT_EQ(first, 40U);
}

}  // namespace
