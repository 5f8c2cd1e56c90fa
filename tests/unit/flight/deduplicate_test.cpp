// SPDX-License-Identifier: Apache-2.0

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <tuple>
#include <utility>
#include <variant>
#include <vector>

#include "support/eventually.hpp"
#include "support/gate.hpp"
#include <singleflight/core.hpp>
#include <singleflight/flight.hpp>

namespace sf = singleflight;

/// A key that counts its comparisons.
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

// Goal    The returned callable behaves like the function: it takes the arguments, returns copies,
//         and lets exceptions pass.
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
//         calls with other keys do not.
// Method  The key counts its comparisons. At the second one the joiner is in the critical section
//         in which it joins: only then is the function released, so it cannot have ended before.
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

// Goal    When key_of returns a part of an argument, the key keeps its value while `fn` moves from
//         that argument.
// Method  The leading call has moved from its argument when the second call arrives.
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
  EXPECT_EQ(calls, 1) << "the second call must join";
  a.join();
  EXPECT_EQ(first, 40U);
}

/// Whether a second call joins the first, which has moved from its argument and destroyed it, where
/// key_of returns a view of that argument.
template <class Argument, class KeyOf>
bool second_call_joins(const Argument& argument, KeyOf key_of) {
  struct : sf::observer {
    void joined(std::uint64_t) noexcept override { hold.open(); }
    support::gate hold;
  } observer;
  std::atomic<int> calls{0};
  const auto f = sf::deduplicate(
      [&](Argument swallowed) {
        { const Argument destroyed = std::move(swallowed); }
        if (++calls == 1) {
          observer.hold.wait();
        } else {
          observer.hold.open();  // it has not joined
        }
      },
      std::move(key_of), {.observer = &observer});
  std::jthread a([&] { f(argument); });
  observer.hold.await_arrivals();
  f(argument);
  a.join();
  return calls == 1;
}

// Goal    When key_of returns a view of an argument, the group stores what the view shows, not the
//         view, so `fn` may move from that argument.
// Method  The leading call has moved from its argument when the second call arrives.
TEST(deduplicate, a_key_that_is_a_view_of_an_argument) {
  const std::string name(40, 'n');
  const auto view = [](const std::string& s) { return std::string_view(s); };
  EXPECT_TRUE(second_call_joins(name, view));
  EXPECT_TRUE(second_call_joins(std::string("short"), view));
  EXPECT_TRUE(second_call_joins(std::vector<int>(40, 1),
                                [](const std::vector<int>& v) { return std::span(v); }));
}

// Goal    The same where the view is a part of the key.
TEST(deduplicate, a_key_that_holds_a_view_of_an_argument) {
  const std::string name(40, 'n');
  using view = std::string_view;
  EXPECT_TRUE(second_call_joins(name, [](const std::string& s) { return std::optional<view>(s); }));
  EXPECT_TRUE(second_call_joins(name, [](const std::string& s) { return std::pair(view(s), 1); }));
  EXPECT_TRUE(second_call_joins(name, [](const std::string& s) { return std::tie(s); }));
  EXPECT_TRUE(second_call_joins(name, [](const std::string& s) { return std::array{view(s)}; }));
  EXPECT_TRUE(second_call_joins(name, [](const std::string& s) { return std::vector{view(s)}; }));
  EXPECT_TRUE(second_call_joins(
      name, [](const std::string& s) { return std::variant<int, view>(view(s)); }));
}

// Goal    A view of a long-lived object, and an empty optional of a view, are keys as well.
TEST(deduplicate, a_key_that_is_a_view_of_something_else) {
  const auto f = sf::deduplicate([](bool yes) { return yes ? 1 : 0; },
                                 [](bool yes) { return std::string_view(yes ? "yes" : "no"); });
  EXPECT_EQ(f(true), 1);
  EXPECT_EQ(f(false), 0);
  const auto g = sf::deduplicate([](int n) { return n; },
                                 [](int) { return std::optional<std::string_view>(); });
  EXPECT_EQ(g(2), 2);
  static constexpr char name[] = "name";
  const auto h = sf::deduplicate([](int n) { return n; },
                                 [](int) -> const char(&)[sizeof name] { return name; });
  EXPECT_EQ(h(3), 3);
}

// Goal    A char* that key_of returns is compared by its text, not by its address.
TEST(deduplicate, a_key_that_is_a_text) {
  int executed = 0;
  std::string one = "name";
  std::string other = "name";
  std::function<void()> meanwhile;
  const auto f = sf::deduplicate(
      [&](const char*) {
        if (++executed == 1) meanwhile();
        return executed;
      },
      [](const char* text) { return text; }, {.executor = sf::inline_executor});
  bool refused = false;
  meanwhile = [&] {
    try {
      (void)f(other.c_str());  // the same key, within its load
    } catch (const sf::flight_error& error) {
      refused = error.code() == sf::flight_errc::recursive;
    }
  };
  EXPECT_EQ(f(one.c_str()), 1);
  EXPECT_TRUE(refused);
}

// Goal    A flight that is handed over keeps its key, of which the leading call returned a view.
// Method  The first call fails once a second one has joined, and destroys its argument. The second
//         one runs the function until a third call arrives, which joins.
TEST(deduplicate, a_key_that_is_handed_over) {
  struct : sf::observer {
    void joined(std::uint64_t) noexcept override { (++joiners == 1 ? first : second).open(); }
    support::gate first;
    support::gate second;
    std::atomic<int> joiners{0};
  } observer;
  std::atomic<int> calls{0};
  const auto f = sf::deduplicate(
      [&](std::string name) {
        const std::string swallowed = std::move(name);
        const int call = ++calls;
        if (call == 1) {
          observer.first.wait();
          throw std::runtime_error("handed over");
        }
        if (call == 2) {
          observer.second.wait();
        } else {
          observer.second.open();  // it has not joined
        }
        return swallowed.size();
      },
      [](const std::string& s) { return std::string_view(s); },
      {.on_error = sf::error_policy::hand_over(1), .observer = &observer});
  std::jthread a([&] { EXPECT_THROW(f(std::string(40, 'n')), std::runtime_error); });
  observer.first.await_arrivals();
  std::jthread b([&] { EXPECT_EQ(f(std::string(40, 'n')), 40U); });
  a.join();
  observer.second.await_arrivals();
  EXPECT_EQ(f(std::string(40, 'n')), 40U);
  b.join();
  EXPECT_EQ(calls, 2);
}

}  // namespace
