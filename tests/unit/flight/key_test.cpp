// SPDX-License-Identifier: Apache-2.0
//
// Keys of every kind, asked for with every kind of argument.

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cstdint>
#include <functional>
#include <limits>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <variant>
#include <vector>

#include "support/executors.hpp"
#include <singleflight/core.hpp>
#include <singleflight/flight.hpp>

namespace sf = singleflight;

struct place {
  int x;
  int y;
  friend bool operator==(const place&, const place&) = default;
};
template <>
struct std::hash<place> {
  std::size_t operator()(const place& p) const noexcept {
    return static_cast<std::size_t>(p.x) * 31 + static_cast<std::size_t>(p.y);
  }
};

namespace {

enum class colour : std::uint8_t { red, green };

/// One whose case does not count.
enum class letter : char {};
bool operator==(letter a, letter b) {
  return (static_cast<int>(a) | 0x20) == (static_cast<int>(b) | 0x20);
}

/// One whose case does not count, with the hash that goes with it.
enum class symbol : char {};
bool operator==(symbol a, symbol b) {
  return (static_cast<int>(a) | 0x20) == (static_cast<int>(b) | 0x20);
}
/// A place whose column counts by its last digit.
struct grid {
  int row;
  int column;
  friend bool operator==(const grid& a, const grid& b) {
    return a.row == b.row && a.column % 10 == b.column % 10;
  }
};

}  // namespace
template <>
struct std::hash<symbol> {
  std::size_t operator()(symbol m) const noexcept { return static_cast<std::size_t>(m) | 0x20; }
};
template <>
struct std::hash<grid> {
  std::size_t operator()(const grid& g) const noexcept {
    return static_cast<std::size_t>(g.row + g.column % 10);
  }
};
namespace {

/// Whether a flight begun for `first` is found by `second`: then the second call joins.
template <class Group, class A, class B>
bool meet(Group& flights, support::manual_executor& queue, const A& first, const B& second) {
  auto f = flights.start(first, [] { return 1; });
  auto g = flights.start(second, [] { return 2; });
  queue.run_all();
  EXPECT_EQ(*f.get(), 1);
  return *g.get() == 1;
}

template <class Key>
void check_kind(const Key& a, const Key& b) {
  support::manual_executor queue;
  sf::group<Key, int> flights({.executor = queue});
  EXPECT_TRUE(meet(flights, queue, a, Key(a)));
  EXPECT_FALSE(meet(flights, queue, a, b));
  EXPECT_EQ(*flights.run(a, [] { return 5; }), 5);
  EXPECT_FALSE(flights.forget(a));
}

// Goal    Equal keys meet, others do not, for every kind of key.
TEST(key, kinds) {
  const int n = 0;
  check_kind<int>(1, -1);
  check_kind<std::uint64_t>(1, ~std::uint64_t{0});
  check_kind<bool>(true, false);
  check_kind<colour>(colour::red, colour::green);
  check_kind<const int*>(&n, nullptr);
  check_kind<double>(0.5, 0.25);
  check_kind<std::string>("a key", "another key, much longer than the first");
  check_kind<std::string>("", "x");
  check_kind<std::wstring>(L"a", L"b");
  check_kind<std::string_view>("a", "b");
  check_kind<std::vector<int>>({1, 2, 3}, {1, 2});
  check_kind<std::vector<std::string>>({"a", "bc"}, {"ab", "c"});
  check_kind<std::vector<double>>({1.0}, {2.0});
  check_kind<std::vector<bool>>({true}, {false});
  check_kind<place>({1, 2}, {2, 1});
}

// Goal    A string group is asked with literals, views, arrays and strings alike; a vector group
//         with spans.
TEST(key, heterogeneous_look_up) {
  support::manual_executor queue;
  sf::group<std::string, int> strings({.executor = queue});
  const std::string s = "key";
  const std::string_view v = "key";
  const char* p = "key";
  EXPECT_TRUE(meet(strings, queue, s, v));
  EXPECT_TRUE(meet(strings, queue, v, "key"));
  EXPECT_TRUE(meet(strings, queue, p, s));
  EXPECT_FALSE(meet(strings, queue, s, "kex"));
  auto f = strings.start("key", [] { return 1; });
  EXPECT_TRUE(strings.forget(v));
  queue.run_all();
  EXPECT_EQ(strings.run(v, [] { return 2; }).get(), 2);

  sf::group<std::vector<int>, int> vectors({.executor = queue});
  const std::vector<int> a{1, 2};
  const int raw[] = {1, 2};
  EXPECT_TRUE(meet(vectors, queue, a, std::span<const int>(raw)));
  EXPECT_TRUE(meet(vectors, queue, std::span<const int>(raw), a));

  sf::group<std::uint64_t, int> numbers({.executor = queue});
  EXPECT_TRUE(meet(numbers, queue, 7, std::uint64_t{7}));
}

// Goal    An owned key outlives the argument it was made from.
TEST(key, start_owns_its_key) {
  support::manual_executor queue;
  sf::group<std::string, int> flights({.executor = queue});
  std::optional<sf::flight<int>> f;
  {
    std::string key(100, 'k');
    f.emplace(flights.start(key, [] { return 1; }));
    key.assign(100, 'x');
  }
  EXPECT_EQ(flights.in_flight().at(0).key, std::string(100, 'k'));
  EXPECT_TRUE(flights.forget(std::string(100, 'k')));
  queue.run_all();
}

// Goal    The user's own hash and comparison decide; a hash that always collides only costs time.
TEST(key, own_hash_and_comparison) {
  struct same {
    std::size_t operator()(const std::string&) const { return 0; }
  };
  struct ignoring_case {
    bool operator()(const std::string& a, const std::string& b) const {
      return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                        [](char x, char y) { return std::tolower(x) == std::tolower(y); });
    }
  };
  support::manual_executor queue;
  sf::group<std::string, int, same, ignoring_case> flights({.executor = queue});
  EXPECT_TRUE(meet(flights, queue, "KEY", "key"));
  std::vector<sf::flight<int>> many;
  for (int i = 0; i < 50; ++i) {
    many.push_back(flights.start(std::to_string(i), [i] { return i; }));
  }
  EXPECT_EQ(flights.in_flight().size(), 50U);
  EXPECT_TRUE(flights.forget("25"));
  queue.run_all();
  for (int i = 0; i < 50; ++i) EXPECT_EQ(*many[static_cast<std::size_t>(i)].get(), i);
}

// Goal    The default hash spreads neighbours over the upper bits, which choose the bucket.
TEST(key, the_default_hash_spreads) {
  constexpr int lower_bits = std::numeric_limits<std::size_t>::digits - 9;
  std::set<std::size_t> buckets;
  for (std::uint64_t i = 0; i < 512; ++i) {
    buckets.insert(sf::key_hash<std::uint64_t>{}(i) >> lower_bits);
    buckets.insert(sf::key_hash<std::string>{}("key" + std::to_string(i)) >> lower_bits);
  }
  EXPECT_GT(buckets.size(), 380U);  // 512 of 1024 balls: 443 expected
  std::set<std::size_t> all;
  for (std::size_t length = 0; length < 100; ++length) {
    all.insert(sf::key_hash<std::string>{}(std::string(length, 'a')));
  }
  EXPECT_EQ(all.size(), 100U);
}

// Goal    Bytes compare as they are, whatever their number: one bit tells two apart, wherever it
//         is.
// Oracle  std::memcmp has no part in it: the two differ by construction.
TEST(key, same_bytes) {
  for (std::size_t size = 0; size <= 70; ++size) {
    std::string one(size, '\0');
    for (std::size_t i = 0; i < size; ++i) one[i] = static_cast<char>(i * 37);
    const std::string two = one;
    EXPECT_TRUE(sf::key_equal{}(std::string_view(one), std::string_view(two)));
    for (std::size_t bit = 0; bit < size * 8; ++bit) {
      std::string other = one;
      other[bit / 8] = static_cast<char>(other[bit / 8] ^ (1 << bit % 8));
      EXPECT_FALSE(sf::key_equal{}(std::string_view(one), std::string_view(other)))
          << size << " bytes, bit " << bit;
    }
    EXPECT_FALSE(sf::key_equal{}(std::string_view(one), std::string_view(two + "x")));
  }
}

// Goal    Elements whose bytes do not tell whether they are equal are compared as what they are.
TEST(key, equal_zeroes) {
  const std::vector<double> plus{0.0, 1.0};
  const std::vector<double> minus{-0.0, 1.0};
  EXPECT_TRUE(sf::key_equal{}(std::span(plus), std::span(minus)));
  const std::vector<place> here{{1, 2}};
  const std::vector<place> there{{1, 3}};
  EXPECT_FALSE(sf::key_equal{}(std::span(here), std::span(there)));
  const std::vector<letter> large{letter{'A'}};
  const std::vector<letter> small{letter{'a'}};
  EXPECT_TRUE(sf::key_equal{}(std::span(large), std::span(small)));
}

/// Strings whose case does not count, by their traits.
template <class C>
struct ignoring_case : std::char_traits<C> {
  static C low(C c) { return c >= 'A' && c <= 'Z' ? static_cast<C>(c + ('a' - 'A')) : c; }
  static bool eq(C a, C b) { return low(a) == low(b); }
  static bool lt(C a, C b) { return low(a) < low(b); }
  static int compare(const C* a, const C* b, std::size_t n) {
    for (; n > 0; --n, ++a, ++b) {
      if (!eq(*a, *b)) return lt(*a, *b) ? -1 : 1;
    }
    return 0;
  }
};
template <class C>
using any_case = std::basic_string<C, ignoring_case<C>>;

template <class Key>
void check_equal(const Key& a, const Key& b) {
  support::manual_executor queue;
  sf::group<Key, int> flights({.executor = queue});
  EXPECT_TRUE(meet(flights, queue, a, b));
}

// Goal    Keys that are equal by rules of their own are one key (scenario 55): by a string's
//         traits, an element's ==, an enumeration's own hash, a float's zeroes; alone and as parts.
TEST(key, keeps_its_own_rules) {
  check_equal<any_case<char>>("Example.ORG", "example.org");
  check_equal<any_case<char16_t>>(u"Example.ORG \u4e2d", u"example.org \u4e2d");
  check_kind<any_case<char>>("a", "b");
  check_equal<std::vector<any_case<char>>>({"A", "b"}, {"a", "B"});
  check_equal<std::vector<symbol>>({symbol{'A'}}, {symbol{'a'}});
  check_equal<std::vector<grid>>({{1, 2}}, {{1, 12}});
  check_equal<symbol>(symbol{'A'}, symbol{'a'});
  check_equal<double>(0.0, -0.0);
  check_equal<std::vector<double>>({0.0}, {-0.0});
  check_equal<std::optional<double>>(0.0, -0.0);
  check_equal<std::pair<any_case<char>, double>>({"A", 0.0}, {"a", -0.0});
  check_equal<std::variant<int, any_case<char>>>(any_case<char>("A"), any_case<char>("a"));
}

// Goal    What is put together of keys is a key.
TEST(key, kinds_of_parts) {
  check_kind<std::pair<std::string, int>>({"a", 1}, {"a", 2});
  check_kind<std::tuple<int, std::string, bool>>({1, "a", true}, {1, "a", false});
  check_kind<std::array<int, 2>>({1, 2}, {2, 1});
  check_kind<std::array<std::string, 2>>({"a", "b"}, {"b", "a"});
  check_kind<std::optional<int>>(std::nullopt, 0);
  check_kind<std::variant<int, std::string>>(1, "1");
}

/// Whose & is for out-parameters, and whose comma is its own.
struct out_parameter {
  int n = 0;
  int* operator&() { return nullptr; }
  const int* operator&() const { return nullptr; }
  friend void operator,(const out_parameter&, const out_parameter&) { ADD_FAILURE(); }
  friend bool operator==(const out_parameter& a, const out_parameter& b) { return a.n == b.n; }
};
struct hash_of_out_parameter {
  std::size_t operator()(const out_parameter& key) const { return static_cast<std::size_t>(key.n); }
};

// Goal    Keys and values whose & is overloaded are where they are (scenario 55).
TEST(key, overloaded_address) {
  support::manual_executor queue;
  sf::group<out_parameter, out_parameter, hash_of_out_parameter> flights({.executor = queue});
  auto f = flights.start(out_parameter{1}, [] { return out_parameter{7}; });
  auto g = flights.start(out_parameter{1}, [] { return out_parameter{8}; });
  queue.run_all();
  EXPECT_EQ(f.get()->n, 7);
  EXPECT_EQ(g.get()->n, 7);
  EXPECT_EQ(flights.run(out_parameter{2}, [] { return out_parameter{9}; })->n, 9);
  const auto many = flights.run_many(
      std::vector{out_parameter{1}, out_parameter{2}},
      [](auto keys) { return std::vector<sf::outcome<out_parameter>>(keys.begin(), keys.end()); });
  EXPECT_EQ(many[1].value()->n, 2);
  EXPECT_EQ(flights.run(out_parameter{2}, [] { return out_parameter{9}; }).share()->n, 9);
}

}  // namespace
