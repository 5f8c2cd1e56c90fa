// SPDX-License-Identifier: Apache-2.0
//
// Keys of every kind, looked up with every kind of argument.

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <bitset>
#include <cctype>
#include <cstdint>
#include <filesystem>
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
#include <singleflight/flight/detail/group_door.hpp>

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

/// A type whose case does not count.
enum class letter : char {};
bool operator==(letter a, letter b) {
  return (static_cast<int>(a) | 0x20) == (static_cast<int>(b) | 0x20);
}

/// A type whose case does not count, with a matching hash.
enum class symbol : char {};
bool operator==(symbol a, symbol b) {
  return (static_cast<int>(a) | 0x20) == (static_cast<int>(b) | 0x20);
}
/// A position whose column counts by its last digit.
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

// Goal    Equal keys share a flight, others do not, for every kind of key.
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
  check_kind<std::vector<bool>>({false}, {false, false});
  check_kind<std::bitset<65>>(1, 2);
  check_kind<float>(0.5F, 0.25F);
  check_kind<long double>(0.5L, -0.5L);
  check_kind<std::filesystem::path>("a/b", "a/c");
  check_kind<place>({1, 2}, {2, 1});
}

// Goal    A group of strings accepts literals, views, arrays and strings alike; a group of vectors
//         accepts spans.
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

// Goal    An owned key outlives the argument that it was made from.
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

// Goal    The user's own hash and comparison are used; a hash that always collides only costs time.
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

struct identity {
  std::size_t operator()(int key) const { return static_cast<std::size_t>(key); }
};
struct avalanching : identity {
  using is_avalanching = void;
};

// Goal    A hash that says that it is mixed already is used as it is, any other with the secret.
TEST(key, an_avalanching_hash_is_used_as_it_is) {
  const sf::group<int, int, identity> mixed;
  const sf::group<int, int, avalanching> unmixed;
  int changed = 0;
  for (int key = 0; key < 100; ++key) {
    EXPECT_EQ(sf::detail::group_door::hash_of(unmixed, key), static_cast<std::size_t>(key));
    if (sf::detail::group_door::hash_of(mixed, key) != static_cast<std::size_t>(key)) ++changed;
  }
  EXPECT_GE(changed, 99);
}

// Goal    The default hash spreads neighbouring numbers over the upper bits, which choose the
//         bucket.
TEST(key, the_default_hash_spreads) {
  constexpr int lower_bits = std::numeric_limits<std::size_t>::digits - 9;
  std::set<std::size_t> buckets;
  for (std::uint64_t i = 0; i < 512; ++i) {
    buckets.insert(sf::key_hash<std::uint64_t>{}(i) >> lower_bits);
    buckets.insert(sf::key_hash<std::string>{}("key" + std::to_string(i)) >> lower_bits);
  }
  EXPECT_GT(buckets.size(), 380U);  // for 1,024 balls in 512 bins, 443 are expected
  std::set<std::size_t> all;
  for (std::size_t length = 0; length < 100; ++length) {
    all.insert(sf::key_hash<std::string>{}(std::string(length, 'a')));
  }
  EXPECT_EQ(all.size(), 100U);
}

// Goal    Bytes compare by their values, whatever their number: one differing bit is detected,
//         wherever it is.
// Oracle  Not std::memcmp: the two differ by construction.
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

// Goal    Elements whose bytes do not decide whether they are equal are compared by their own ==.
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

/// Strings whose traits ignore case.
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
  check_equal<any_case<char8_t>>(u8"Example.ORG", u8"example.org");
  check_kind<any_case<char>>("a", "b");
  check_equal<std::vector<any_case<char>>>({"A", "b"}, {"a", "B"});
  check_equal<std::vector<symbol>>({symbol{'A'}}, {symbol{'a'}});
  check_equal<std::vector<grid>>({{1, 2}}, {{1, 12}});
  check_equal<symbol>(symbol{'A'}, symbol{'a'});
  check_equal<double>(0.0, -0.0);
  check_equal<std::vector<double>>({0.0}, {-0.0});
  check_equal<std::optional<double>>(0.0, -0.0);
  check_equal<float>(0.0F, -0.0F);
  check_equal<long double>(0.0L, -0.0L);
  check_equal<std::pair<any_case<char>, double>>({"A", 0.0}, {"a", -0.0});
  check_equal<std::variant<int, any_case<char>>>(any_case<char>("A"), any_case<char>("a"));
}

/// Traits that differ only in what does not affect equality.
template <class C>
struct with_state : std::char_traits<C> {
  using state_type = int;
};
/// Wide characters whose case does not count, with a std::hash of the view only, or of the string
/// only.
struct hashed_views : ignoring_case<char16_t> {};
struct hashed_strings : ignoring_case<char32_t> {};
using key_by_view = std::basic_string<char16_t, hashed_views>;
using key_by_string = std::basic_string<char32_t, hashed_strings>;

struct low_letters {
  template <class C>
  std::size_t operator()(std::basic_string_view<C, ignoring_case<C>> key) const noexcept {
    return of<ignoring_case<C>>(key);
  }
  template <class Traits>
  static std::size_t of(const auto& key) noexcept {
    std::size_t sum = 0;
    for (const auto c : key) sum = sum * 31 + static_cast<std::size_t>(Traits::low(c));
    return sum;
  }
};

}  // namespace
template <>
struct std::hash<std::basic_string_view<char16_t, hashed_views>> {
  std::size_t operator()(std::basic_string_view<char16_t, hashed_views> key) const noexcept {
    return low_letters::of<hashed_views>(key);
  }
};
template <>
struct std::hash<key_by_string> {
  std::size_t operator()(const key_by_string& key) const noexcept {
    return low_letters::of<hashed_strings>(key);
  }
};
namespace {

// Goal    Wide characters with an eq of their own are hashed by a std::hash of the string or of its
//         view, or by a Hash; where eq is the usual one, and where the characters are enumerations,
//         by their values.
TEST(key, wide_characters_with_traits_of_their_own) {
  check_equal<key_by_view>(u"Example \u0416\u4e2d", u"example \u0416\u4e2d");
  check_kind<key_by_view>(u"\u0416", u"\u0417");
  check_equal<key_by_string>(U"Example \u0416\u4e2d", U"example \u0416\u4e2d");
  check_kind<key_by_string>(U"\u0416", U"\u0417");
  support::manual_executor queue;
  sf::group<any_case<wchar_t>, int, low_letters> flights({.executor = queue});
  EXPECT_TRUE(meet(flights, queue, L"Example \u0416", L"example \u0416"));
  EXPECT_FALSE(meet(flights, queue, L"\u0416", L"\u0417"));

  using usual = std::basic_string<wchar_t, with_state<wchar_t>>;
  check_kind<usual>(L"\u0416", L"\u0417");
  EXPECT_NE(sf::key_hash<usual>{}(L"\u0416"), sf::key_hash<usual>{}(L"\u0417"));
  check_kind<std::basic_string<char, with_state<char>>>("a", "b");
#ifdef __GLIBCXX__  // libc++ accepts only character types
  enum class glyph : std::uint16_t { first = 1000, second = 2000 };
  using glyphs = std::basic_string<glyph>;
  check_kind<glyphs>(glyphs(3, glyph::first), glyphs(3, glyph::second));
  EXPECT_NE(sf::key_hash<glyphs>{}(glyphs(3, glyph::first)),
            sf::key_hash<glyphs>{}(glyphs(3, glyph::second)));
#endif
}

/// Looks like a path of the standard library, but has rules of its own.
struct caseless_path {
  using string_type = std::string;
  using value_type = char;
  static constexpr char preferred_separator = '/';
  const std::string& native() const { return text; }
  friend bool operator==(const caseless_path& a, const caseless_path& b) {
    return std::equal(a.text.begin(), a.text.end(), b.text.begin(), b.text.end(),
                      [](char x, char y) { return std::tolower(x) == std::tolower(y); });
  }
  std::string text;
};

}  // namespace
template <>
struct std::hash<caseless_path> {
  std::size_t operator()(const caseless_path& key) const noexcept { return key.text.size(); }
};
namespace {

// Goal    Paths that == considers equal are one key, however they are written; alone and as parts.
//         A type that only looks like a path keeps its own rules.
TEST(key, paths) {
  using std::filesystem::path;
  const std::vector<path> all{
      "",      "/",      "//",   "///",   "a",    "/a",    "//a",   "///a",   "a/", "a//", "a/b",
      "a//b",  "a///b",  "a/b/", "a/b//", "/a/b", "//a/b", "/a//b", "/a//b/", "ab", ".",   "a/.",
      "a/./b", "a/../b", "b",    "a/b/c", "a\\b", "..",    "/..",   "a b",    "A",  "a/B"};
  const sf::key_hash<path> hash;
  for (const path& a : all) {
    for (const path& b : all) {
      if (a == b) {
        EXPECT_EQ(hash(a), hash(b)) << a << ' ' << b;
        if (a.native() != b.native()) check_equal<path>(a, b);
      } else {
        EXPECT_NE(hash(a), hash(b)) << a << ' ' << b;
      }
    }
  }
  check_equal<std::pair<path, int>>({"a//b", 1}, {"a/b", 1});
  check_equal<std::vector<path>>({"a//b", "c"}, {"a/b", "c"});
  check_equal<std::optional<path>>("a//b", "a/b");
  support::manual_executor queue;
  sf::group<path, int> flights({.executor = queue});
  EXPECT_TRUE(meet(flights, queue, "a//b", std::string("a/b")));
  check_equal<caseless_path>({"A/b"}, {"a/B"});
}

// Goal    Types that are made of keys are keys.
TEST(key, kinds_of_parts) {
  check_kind<std::pair<std::string, int>>({"a", 1}, {"a", 2});
  check_kind<std::tuple<int, std::string, bool>>({1, "a", true}, {1, "a", false});
  check_kind<std::array<int, 2>>({1, 2}, {2, 1});
  check_kind<std::array<std::string, 2>>({"a", "b"}, {"b", "a"});
  check_kind<std::optional<int>>(std::nullopt, 0);
  check_kind<std::variant<int, std::string>>(1, "1");
}

/// A type with its own & (for out-parameters) and its own comma operator.
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

struct equal_of_out_parameters {
  int* operator&() { return nullptr; }
  const int* operator&() const { return nullptr; }
  bool operator()(const out_parameter& a, const out_parameter& b) const {
    return a.n % modulus == b.n % modulus;
  }
  int modulus = 100;
};

// Goal    Keys, values and comparisons with an overloaded & are stored and found correctly
//         (scenario 55).
TEST(key, overloaded_address) {
  support::manual_executor queue;
  sf::group<out_parameter, out_parameter, hash_of_out_parameter, equal_of_out_parameters> flights(
      {.executor = queue});
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
