// SPDX-License-Identifier: Apache-2.0

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <functional>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "support/gate.hpp"
#include <singleflight/cache/memoize.hpp>
#include <singleflight/core.hpp>

namespace sf = singleflight;
using namespace std::chrono_literals;

namespace {

struct point {
  int x = 0;
  int y = 0;
  friend bool operator==(const point&, const point&) = default;
};
struct point_hash {
  std::size_t operator()(const point& p) const noexcept {
    return static_cast<std::size_t>(p.x * 31 + p.y);
  }
};

int twice(int n) { return 2 * n; }

// Goal    A result is computed once per argument, and later calls get a copy of it.
TEST(memoize, keeps_results_by_argument) {
  int calls = 0;
  const auto f = sf::memoize([&](int n) {
    ++calls;
    return std::to_string(n);
  });
  static_assert(std::is_same_v<decltype(f(1)), std::string>);
  EXPECT_EQ(f(1), "1");
  EXPECT_EQ(f(1), "1");
  EXPECT_EQ(f(2), "2");
  EXPECT_EQ(calls, 2);
  const auto g = sf::memoize(twice);
  EXPECT_EQ(g(21), 42);
  EXPECT_EQ(g(21), 42);
  EXPECT_EQ(g.cache().stats().loads, 1U);
}

// Goal    Several arguments form one key, which depends on each of them and on their order.
TEST(memoize, several_arguments) {
  int calls = 0;
  const auto f = sf::memoize([&](const std::string& a, int b, const std::string& c) {
    ++calls;
    return a + std::to_string(b) + c;
  });
  static_assert(
      std::is_same_v<sf::memoize_key<std::function<int(const std::string&, int, std::string_view)>>,
                     std::tuple<std::string, int, std::string>>);
  EXPECT_EQ(f("a", 1, "b"), "a1b");
  EXPECT_EQ(f("a", 1, "b"), "a1b");
  EXPECT_EQ(f("b", 1, "a"), "b1a");
  EXPECT_EQ(f("a", 2, "b"), "a2b");
  EXPECT_EQ(calls, 3);
}

// Goal    The hash of a tuple depends on each of its parts, and on their order.
TEST(memoize, tuple_hash_mixes_its_parts) {
  const sf::key_hash<std::tuple<int, int>> hash;
  EXPECT_NE(hash({1, 2}), hash({2, 1}));
  EXPECT_NE(hash({0, 1}), hash({0, 2}));
  EXPECT_NE(hash({1, 0}), hash({2, 0}));
  EXPECT_EQ(hash({7, 8}), hash({7, 8}));
}

// Goal    For a view the characters are stored, not their address.
// Method  The string that the first call views changes before the second call.
TEST(memoize, views_are_kept_as_strings) {
  int calls = 0;
  const auto f = sf::memoize([&](std::string_view text) {
    ++calls;
    return text.size();
  });
  std::string text(40, 'a');
  EXPECT_EQ(f(text), 40U);
  text.assign(40, 'b');
  EXPECT_EQ(f(text), 40U);
  EXPECT_EQ(calls, 2) << "a different text at the same address";
  EXPECT_EQ(f(std::string(40, 'a')), 40U);
  EXPECT_EQ(calls, 2) << "the same text at another address";
}

// Goal    Arguments of a user-defined type work with a custom hash.
TEST(memoize, a_hash_of_ones_own) {
  int calls = 0;
  const auto f = sf::memoize(
      [&](point p) {
        ++calls;
        return p.x + p.y;
      },
      {}, point_hash{});
  EXPECT_EQ(f({1, 2}), 3);
  EXPECT_EQ(f({1, 2}), 3);
  EXPECT_EQ(f({2, 1}), 3);
  EXPECT_EQ(calls, 2);
}

// Goal    An exception reaches the caller with its own type, and is not kept.
TEST(memoize, exceptions_are_not_kept) {
  int calls = 0;
  const auto f = sf::memoize([&](int n) {
    if (++calls == 1) throw std::out_of_range("first");
    return n;
  });
  EXPECT_THROW(f(1), std::out_of_range);
  EXPECT_EQ(f(1), 1);
  EXPECT_EQ(calls, 2);
}

// Goal    An empty optional is a result like any other.
TEST(memoize, an_absence_is_a_result) {
  int calls = 0;
  const auto f = sf::memoize([&](int) -> std::optional<int> {
    ++calls;
    return std::nullopt;
  });
  EXPECT_FALSE(f(1).has_value());
  EXPECT_FALSE(f(1).has_value());
  EXPECT_EQ(calls, 1);
}

// Goal    The cache's options apply.
TEST(memoize, results_expire) {
  sf::manual_timer time;
  int calls = 0;
  const auto f = sf::memoize([&](int n) { return n + ++calls; },
                             {.ttl = 10s, .jitter = 0, .group = {.timer = &time}});
  EXPECT_EQ(f(0), 1);
  time.advance(9s);
  EXPECT_EQ(f(0), 1);
  time.advance(2s);
  EXPECT_EQ(f(0), 2);
}

// Goal    forget makes the next call compute the result again; copies of the callable share the
//         results.
TEST(memoize, forget_and_copies) {
  int calls = 0;
  const auto f = sf::memoize([&](const std::string&, int) { return ++calls; });
  const auto copy = f;
  EXPECT_EQ(f("a", 1), 1);
  EXPECT_EQ(copy("a", 1), 1);
  EXPECT_TRUE(copy.forget("a", 1));
  EXPECT_FALSE(copy.forget("a", 1));
  EXPECT_EQ(f("a", 1), 2);
  const auto one = sf::memoize([&](std::string_view) { return ++calls; });
  EXPECT_EQ(one("x"), 3);
  EXPECT_TRUE(one.forget("x"));
  EXPECT_EQ(one("x"), 4);
}

// Goal    Arguments that the caller passes by move are still intact when the function runs.
TEST(memoize, moved_arguments) {
  const auto f =
      sf::memoize([](std::string a, std::vector<int> b) { return a + std::to_string(b.size()); });
  std::string a(40, 'a');
  EXPECT_EQ(f(std::move(a), {1, 2, 3}), std::string(40, 'a') + "3");
  EXPECT_EQ(f(std::string(40, 'a'), {1, 2, 3}), std::string(40, 'a') + "3");
  EXPECT_EQ(f.cache().stats().loads, 1U);
}

// Goal    Overlapping calls share one execution.
// Method  The leading call stays in the function until the observer reports a joiner.
TEST(memoize, overlapping_calls_share) {
  struct : sf::observer {
    void joined(std::uint64_t) noexcept override { in.open(); }
    support::gate in;
  } observer;
  std::atomic<int> calls{0};
  const auto f = sf::memoize(
      [&](int n) {
        ++calls;
        observer.in.wait();
        return n;
      },
      {.group = {.observer = &observer}});
  int first = 0;
  std::jthread leader([&] { first = f(7); });
  observer.in.await_arrivals();
  EXPECT_EQ(f(7), 7);
  leader.join();
  EXPECT_EQ(first, 7);
  EXPECT_EQ(calls, 1);
}

// Goal    If a function calls its own memoized form, other arguments are computed, and the same
//         ones fail.
TEST(memoize, recursion) {
  std::function<long(int)> self;
  int calls = 0;
  const auto fibonacci = sf::memoize([&](int n) -> long {
    ++calls;
    if (n < 0) return self(n);
    return n < 2 ? n : self(n - 1) + self(n - 2);
  });
  self = fibonacci;
  EXPECT_EQ(fibonacci(40), 102334155);
  EXPECT_EQ(calls, 41);
  try {
    (void)fibonacci(-1);
    ADD_FAILURE() << "the call waited for itself";
  } catch (const sf::flight_error& error) {
    EXPECT_EQ(error.errc(), sf::flight_errc::recursive);
  }
  self = nullptr;
}

// Goal    Arguments that contain no view, and string views, are stored by value, even if they are
//         made of parts: the stored key stays when the caller changes its own object.
TEST(memoize, keeps_arguments_made_of_parts) {
  int calls = 0;
  const auto f = sf::memoize([&](std::string_view name, const std::optional<std::string>& more,
                                 const std::vector<std::pair<const int, std::string>>& all) {
    ++calls;
    return name.size() + (more ? more->size() : 0) + all.size();
  });
  std::string name(40, 'n');
  EXPECT_EQ(f(name, name, {{1, name}}), 81U);
  name.assign(40, 'm');
  EXPECT_EQ(f(name, name, {{1, name}}), 81U);
  name.assign(40, 'n');
  EXPECT_EQ(f(name, name, {{1, name}}), 81U);
  EXPECT_EQ(calls, 2);
}

}  // namespace
