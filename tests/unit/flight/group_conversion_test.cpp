// SPDX-License-Identifier: Apache-2.0

// Conversions of numbers between signed and unsigned, which are checked at run time. Conversions
// that must not compile are listed in tests/compile/.

#include <gtest/gtest.h>

#include <any>
#include <array>
#include <chrono>
#include <complex>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <limits>
#include <memory>
#include <optional>
#include <ratio>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>
#include <version>
#if defined(__cpp_lib_expected)
#include <expected>
#endif

#include <singleflight/flight.hpp>

namespace {

using singleflight::as_outcome;
using singleflight::deduplicate;
using singleflight::detail::converts;
using singleflight::detail::made_of;
using wide_pair = std::pair<std::int64_t, std::int64_t>;
constexpr std::int64_t five_billion = 5'000'000'000;

// Constructible from a number: `=` calls one constructor, braces or parentheses call another.
struct narrow_by_copy {
  narrow_by_copy(int);
  explicit narrow_by_copy(std::int64_t);
};
struct narrow_or_list {
  narrow_or_list(int);
  narrow_or_list(std::initializer_list<std::int64_t>);
};
struct unsigned_or_list {
  unsigned_or_list(std::uint64_t from) : value(from) {}
  unsigned_or_list(std::initializer_list<int>);
  std::uint64_t value;
};
union small_word {
  small_word(int from) : value(from) {}
  int value;
};
struct money {
  money(double euros) : value(euros) {}
  explicit money(int cents) : value(cents / 100.0) {}
  double value;
};
struct decimal {
  operator double() const { return 7.9; }
  explicit operator int() const { return 7; }
};
/// Like many JSON classes: made of any number, or of a list.
struct anything {
  template <class Number>
    requires std::is_arithmetic_v<Number>
  anything(Number from) : is_list(false), value(static_cast<double>(from)) {}
  anything(std::initializer_list<anything>) : is_list(true), value(0) {}
  bool is_list;
  double value;
};

struct cell : wide_pair {
  using pair::pair;
};
struct few : std::pair<int, int> {
  using pair::pair;
};
struct span_of : std::chrono::duration<std::int64_t> {
  using duration::duration;
};
struct few_seconds_of : std::chrono::duration<int> {
  using duration::duration;
};
struct maybe : std::optional<std::int64_t> {
  using optional::optional;
};
struct maybe_few : std::optional<int> {
  using optional::optional;
};
struct name_or_number : std::variant<int, std::string> {
  using variant::variant;
};
struct checked_pair : std::pair<int, int> {
  using pair::pair;
  checked_pair(const wide_pair&);
};
struct makes_optional {
  operator std::optional<int>() const;
};
struct id {
  id(int from) : value(from) {}
  int value;
};

// Goal    An int can be a key of an unsigned group, and a value that has no unsigned equivalent is
//         refused: it never gets another key's answer (scenario 54).
TEST(conversion, a_key_keeps_its_sign) {
  singleflight::group<std::uint64_t, int> flights;
  EXPECT_EQ(*flights.run(7, [] { return 1; }), 1);
  bool loaded = false;
  const auto load = [&] {
    loaded = true;
    return 1;
  };
  EXPECT_THROW(flights.run(-1, load), std::invalid_argument);
  EXPECT_THROW((void)flights.start(-1, load), std::invalid_argument);
  EXPECT_THROW(flights.forget(-1), std::invalid_argument);
  EXPECT_THROW((void)flights.run(as_outcome, -1, load).value(), std::invalid_argument);
  EXPECT_FALSE(loaded);

  singleflight::group<std::int64_t, int> other;
  EXPECT_EQ(*other.run(std::uint64_t{7}, [] { return 1; }), 1);
  EXPECT_THROW(other.run(std::numeric_limits<std::uint64_t>::max(), load), std::invalid_argument);
}

// Goal    The same for a part of a key.
TEST(conversion, a_part_of_a_key_keeps_its_sign) {
  singleflight::group<std::pair<std::uint32_t, int>, int> flights;
  EXPECT_EQ(*flights.run(std::pair(7, 1), [] { return 1; }), 1);
  EXPECT_THROW(flights.run(std::pair(-7, 1), [] { return 1; }), std::invalid_argument);
}

// Goal    A result that Value cannot represent is the load's error, for every caller of the flight;
//         any other result becomes the value.
TEST(conversion, a_result_keeps_its_sign) {
  singleflight::group<int, std::uint64_t> flights;
  EXPECT_EQ(*flights.run(1, [] { return 5; }), 5U);
  EXPECT_THROW(flights.run(1, [] { return -5; }), std::invalid_argument);
  auto f = flights.start(1, [](singleflight::flight_promise<std::uint64_t> p) { p.set_value(-5); });
  EXPECT_THROW((void)f.get(), std::invalid_argument);
  const auto many = flights.run_many(std::vector{1, 2}, [](std::span<const int> keys) {
    return std::vector<singleflight::outcome<std::uint64_t>>(keys.size(), 5);
  });
  EXPECT_EQ(*many[1].value(), 5U);
}

// Goal    Durations convert as the numbers they hold: a value that a finer unit cannot hold is
//         refused, and a smaller representation does not compile. Nor does a conversion that a
//         variant would narrow.
TEST(conversion, a_duration_keeps_its_length) {
  using namespace std::chrono_literals;
  using few_seconds = std::chrono::duration<int>;
  using clock = std::chrono::steady_clock;
  static_assert(!converts<std::chrono::seconds, few_seconds>);
  static_assert(converts<few_seconds, std::chrono::nanoseconds>);
  static_assert(converts<std::chrono::duration<float>, std::chrono::duration<double>>);
  static_assert(
      !converts<std::chrono::duration<double, std::milli>, std::chrono::duration<double>>);
  static_assert(!converts<std::chrono::milliseconds, std::chrono::seconds>);
  static_assert(!converts<std::chrono::time_point<clock, std::chrono::seconds>,
                          std::chrono::time_point<clock, few_seconds>>);
  static_assert(converts<std::chrono::time_point<clock, std::chrono::seconds>, clock::time_point>);
  singleflight::group<int, std::chrono::nanoseconds> flights;
  EXPECT_EQ(*flights.run(1, [] { return 5s; }), 5s);
  EXPECT_THROW(flights.run(1, [] { return std::chrono::hours(3'000'000); }), std::invalid_argument);
  EXPECT_THROW(flights.run(1, [] { return std::chrono::hours(-3'000'000); }),
               std::invalid_argument);
}
#if defined(__SIZEOF_INT128__)
// Goal    128-bit integers are treated as numbers, also by a strictly conforming compiler.
TEST(conversion, a_wide_number_keeps_its_value) {
  __extension__ using wide = __int128;
  __extension__ using unsigned_wide = unsigned __int128;
  static_assert(!converts<double, wide> && !converts<wide, long> && !converts<wide, double>);
  static_assert(!converts<double, unsigned_wide> && converts<long, wide>);
  static_assert(converts<std::uint64_t, unsigned_wide> && converts<int, unsigned_wide>);
  singleflight::group<unsigned_wide, int> flights;
  EXPECT_EQ(*flights.run(7, [] { return 1; }), 1);
  EXPECT_THROW(flights.run(-1, [] { return 1; }), std::invalid_argument);
  EXPECT_THROW(flights.run(wide{-1}, [] { return 1; }), std::invalid_argument);
}
#endif
TEST(conversion, a_variant_takes_what_it_is_made_of) {
  using text_or_pair = std::variant<std::pair<int, int>, std::string>;
  static_assert(!converts<std::pair<std::int64_t, std::int64_t>, text_or_pair>);
  static_assert(!converts<std::int64_t, std::variant<std::optional<int>, std::string>>);
  static_assert(!converts<std::int64_t, std::variant<int, std::string>>);
  static_assert(converts<std::int64_t, std::variant<int, std::int64_t>>);
  static_assert(converts<const char*, std::variant<bool, std::string>>);
  static_assert(converts<std::pair<int, int>, text_or_pair>);
  singleflight::group<text_or_pair, std::variant<int, std::string>> flights;
  EXPECT_EQ(*flights.run(std::pair(1, 2), [] { return "a"; }),
            (std::variant<int, std::string>("a")));
}

// Goal    The check of a conversion examines the constructor that is called: an explicit
//         constructor or conversion, and one that takes a list, does not hide that another would
//         truncate the number.
TEST(conversion, the_constructor_that_is_called) {
  static_assert(!converts<std::int64_t, narrow_by_copy> && converts<int, narrow_by_copy>);
  static_assert(!converts<std::int64_t, narrow_or_list> && converts<int, narrow_or_list>);
  static_assert(!converts<decimal, int> && converts<decimal, double> && !converts<decimal, float>);
  static_assert(!converts<std::reference_wrapper<std::int64_t>, int>);
  static_assert(!converts<int, std::complex<float>> && converts<float, std::complex<float>>);
  static_assert(converts<std::int64_t, unsigned_or_list> && !converts<std::int64_t, id>);
  static_assert(!converts<std::int64_t, small_word> && converts<int, small_word>);
  static_assert(converts<int, std::any> && converts<const char*, std::any>);
  singleflight::group<int, unsigned_or_list> flights;
  EXPECT_EQ(flights.run(1, [] { return 5; })->value, 5U);
  EXPECT_THROW(flights.run(1, [] { return -5; }), std::invalid_argument);
  singleflight::group<int, anything> all;
  EXPECT_FALSE(all.run(1, [] { return 5; })->is_list);
  EXPECT_EQ(all.start(1, [] { return std::int64_t{5}; }).get()->value, 5);
}

// Goal    No verb calls an explicit constructor, nor one of a part.
TEST(conversion, no_constructor_that_is_explicit) {
  singleflight::group<int, money> flights;
  EXPECT_EQ(flights.run(1, [] { return 5; })->value, 5);
  EXPECT_EQ(flights.start(1, [] { return 5; }).get()->value, 5);
  const auto answer = [](auto promise) { promise.set_value(5); };
  EXPECT_EQ(flights.start(1, [&](singleflight::flight_promise<money> p) { answer(std::move(p)); })
                .get()
                ->value,
            5);
  EXPECT_EQ(singleflight::outcome<money>(5)->value, 5);
  singleflight::group<int, std::optional<money>> absent;
  EXPECT_EQ((*absent.run(1, [] { return 5; }))->value, 5);
  singleflight::group<int, std::pair<money, int>> pairs;
  EXPECT_EQ(pairs.run(1, [] { return std::pair(5, 1); })->first.value, 5);
  singleflight::group<int, std::variant<money, std::string>> variants;
  EXPECT_EQ(std::get<money>(*variants.run(1, [] { return 5; })).value, 5);
}

// Goal    A class derived from a pair, a duration or an optional converts as its base does, in both
//         directions.
TEST(conversion, a_class_counts_as_its_base) {
  using few_seconds = std::chrono::duration<int>;
  using small_pair = std::pair<int, int>;
  static_assert(!converts<cell, small_pair> && !converts<const cell&, std::tuple<int, int>>);
  static_assert(!converts<wide_pair, few> && converts<std::pair<short, short>, few>);
  static_assert(!converts<span_of, few_seconds> && !converts<std::chrono::seconds, few_seconds_of>);
  static_assert(!converts<maybe, std::optional<int>> && !converts<std::int64_t, maybe_few>);
  static_assert(!converts<maybe, maybe_few> && converts<maybe, std::optional<std::int64_t>>);
  static_assert(!converts<std::pair<int, int>, std::tuple<int, bool>>);
  singleflight::group<std::pair<std::uint64_t, std::int64_t>, int> flights;
  EXPECT_EQ(*flights.run(cell(7, 1), [] { return 1; }), 1);
  EXPECT_THROW(flights.run(cell(-7, 1), [] { return 1; }), std::invalid_argument);
  singleflight::group<int, std::chrono::nanoseconds> times;
  EXPECT_EQ(*times.run(1, [] { return span_of(5); }), std::chrono::seconds(5));
  EXPECT_THROW(times.run(1, [] { return span_of(10 * five_billion); }), std::invalid_argument);
}

/// A typical class of JSON libraries.
struct json {
  json(bool) {}
  json(const char*) {}
  json(std::nullptr_t) {}
  json(std::initializer_list<json>) {}
};

// Goal    A conversion that the language itself makes without loss is accepted as before.
TEST(conversion, lossless_conversions_of_a_class) {
  static_assert(converts<const char*, name_or_number> && !converts<std::int64_t, name_or_number>);
  static_assert(converts<wide_pair, checked_pair> &&
                !converts<std::pair<bool, std::int64_t>, checked_pair>);
  static_assert(converts<makes_optional, std::optional<int>>);
  static_assert(converts<std::nullptr_t, json> && converts<const char*, json> &&
                converts<bool, json> && !converts<int, json>);
  static_assert(converts<std::array<int, 2>, wide_pair> && converts<int, std::complex<double>>);
  static_assert(converts<std::shared_ptr<int>, std::optional<std::shared_ptr<const int>>>);
  // A view is made of an object that stays, and of another view; not of a temporary that owns its
  // elements.
  using std::string_view;
  static_assert(converts<const std::string&, string_view> && converts<const char*, string_view> &&
                !converts<std::string, string_view> && !converts<std::string&&, string_view>);
  struct shows_its_own {
    std::string text;
    operator string_view() const { return text; }  // NOLINT(google-explicit-constructor)
  };
  static_assert(converts<const shows_its_own&, string_view> &&
                !converts<shows_its_own, string_view>);
  static_assert(converts<std::optional<string_view>, std::optional<string_view>> &&
                !converts<std::optional<std::string>, std::optional<string_view>> &&
                converts<const std::optional<std::string>&, std::optional<string_view>>);
  static_assert(!converts<std::pair<std::string, int>, std::pair<string_view, long>> &&
                !converts<std::pair<std::string, int>, std::pair<const std::string&, long>> &&
                converts<std::pair<const std::string&, int>, std::pair<string_view, long>>);
  static_assert(converts<std::vector<int>&, std::span<const int>> &&
                !converts<std::vector<int>, std::span<const int>> &&
                !converts<std::array<int, 2>, std::span<const int>> &&
                converts<std::span<int>, std::span<const int>>);
  static_assert(converts<std::pair<const char*, int>, std::pair<std::string, std::int64_t>>);
  static_assert(converts<std::function<int()>, std::function<void()>>);
  singleflight::group<int, std::pair<std::unique_ptr<const int>, std::uint64_t>> flights;
  const auto load = [] { return std::pair(std::make_unique<int>(5), 1); };
  EXPECT_EQ(*flights.run(1, load)->first, 5);
}

// Goal    A tuple of one part takes no number that the part would truncate.
TEST(conversion, a_tuple_of_one_part) {
  static_assert(!converts<std::int64_t, std::tuple<int>> && !converts<double, std::tuple<int>>);
  static_assert(!converts<int, std::tuple<bool>> && !converts<decimal, std::tuple<int>>);
  static_assert(!converts<std::nullptr_t, std::tuple<std::string>>);
  static_assert(!converts<std::int64_t, std::optional<std::tuple<int>>>);
  static_assert(!converts<std::int64_t, std::variant<std::tuple<int>, std::string>>);
  static_assert(!converts<std::int64_t&, std::tuple<const int&>>);
  singleflight::group<std::tuple<std::uint64_t>, int> flights;
  EXPECT_EQ(*flights.run(7, [] { return 1; }), 1);
  EXPECT_THROW(flights.run(-7, [] { return 1; }), std::invalid_argument);
}

// Goal    An optional of an optional is made as in the language: the inner one is its value.
TEST(conversion, an_optional_within_another) {
  using twice = std::optional<std::optional<int>>;
  singleflight::group<int, twice> flights;
  const auto got = flights.run(1, [] { return std::optional<int>(); });
  ASSERT_TRUE(got->has_value());
  EXPECT_FALSE((*got)->has_value());
  static_assert(!converts<std::optional<std::int64_t>, twice>);
}

#if defined(__cpp_lib_expected)
TEST(conversion, an_expected_converts_part_by_part) {
  using small = std::expected<int, std::string>;
  using unsigned_or = std::expected<std::uint64_t, std::string>;
  static_assert(!converts<std::int64_t, small> && !converts<double, small>);
  static_assert(!converts<std::expected<std::int64_t, std::string>, small>);
  static_assert(!converts<std::unexpected<std::int64_t>, std::expected<int, int>>);
  static_assert(!converts<std::expected<void, std::int64_t>, std::expected<void, int>>);
  static_assert(converts<std::unexpected<const char*>, small>);
  singleflight::group<int, unsigned_or> flights;
  EXPECT_EQ(**flights.run(1, [] { return 5; }), 5U);
  EXPECT_EQ(**flights.run(1, [] { return std::expected<int, std::string>(5); }), 5U);
  EXPECT_THROW(flights.run(1, [] { return std::expected<int, std::string>(-5); }),
               std::invalid_argument);
  EXPECT_EQ(
      flights.run(1, [] { return std::expected<int, const char*>(std::unexpect, "a"); })->error(),
      "a");
}
#endif

// Goal    Floating-point types in addition to the standard three are numbers.
#if defined(__SIZEOF_FLOAT128__) && defined(__x86_64__)
TEST(conversion, a_floating_type_of_the_compiler) {
  __extension__ using quad = __float128;
  __extension__ using wide = __int128;
  static_assert(!converts<wide, quad> && converts<std::int64_t, quad> && converts<double, quad>);
  static_assert(!converts<quad, double> && !converts<quad, int>);
#if defined(__FLT16_MANT_DIG__)
  __extension__ using half = _Float16;
  static_assert(!converts<double, half> && !converts<int, half> && converts<half, float>);
#endif
}
#endif

// Goal    A promise makes a container from a count and an element, and the element keeps its sign.
TEST(conversion, a_count_and_an_element) {
  const auto made = []<class Value>(std::type_identity<Value>, auto count, auto of) {
    singleflight::group<int, Value> flights;
    return *flights.start(1, [=](singleflight::flight_promise<Value> p) { p.set_value(count, of); })
                .get();
  };
  EXPECT_EQ(made(std::type_identity<std::vector<long>>{}, 2, 7), (std::vector<long>{7, 7}));
  EXPECT_EQ(made(std::type_identity<std::string>{}, 3, 'x'), "xxx");
  EXPECT_EQ(made(std::type_identity<std::vector<unsigned>>{}, 1, 7), std::vector<unsigned>{7});
  EXPECT_THROW((void)made(std::type_identity<std::vector<unsigned>>{}, 1, -7),
               std::invalid_argument);
}

// Goal    Several arguments are passed to a constructor, which must not truncate a number among
//         them.
TEST(conversion, a_value_of_several_arguments) {
  static_assert(!made_of<std::string, const char*, double>());
  static_assert(!made_of<std::string, std::string, double, double>());
  static_assert(!made_of<std::optional<int>, std::in_place_t, std::int64_t>());
  static_assert(!made_of<std::variant<int, char>, std::in_place_index_t<0>, std::int64_t>());
  static_assert(
      !made_of<std::tuple<int>, std::allocator_arg_t, std::allocator<int>, std::int64_t>());
  static_assert(!made_of<std::complex<float>, double, double>());
  static_assert(made_of<std::vector<int>, const int*, const int*>());
  const auto made = []<class Value>(std::type_identity<Value>, auto... args) {
    singleflight::group<int, Value> flights;
    return *flights.start(1, [=](singleflight::flight_promise<Value> p) { p.set_value(args...); })
                .get();
  };
  using unsigned_pair = std::pair<std::uint64_t, int>;
  EXPECT_EQ(made(std::type_identity<unsigned_pair>{}, 7, 1), unsigned_pair(7, 1));
  EXPECT_THROW((void)made(std::type_identity<unsigned_pair>{}, -7, 1), std::invalid_argument);
  EXPECT_EQ(made(std::type_identity<std::string>{}, "abcdef", 3), "abc");
  EXPECT_EQ(made(std::type_identity<std::optional<unsigned>>{}, std::in_place, 7), 7U);
  EXPECT_THROW((void)made(std::type_identity<std::optional<unsigned>>{}, std::in_place, -7),
               std::invalid_argument);
  EXPECT_EQ(std::any_cast<int>(made(std::type_identity<std::vector<std::any>>{}, 2, 5).at(1)), 5);
  EXPECT_EQ(made(std::type_identity<std::vector<std::string>>{}, 2, "a").at(1), "a");
}

// Goal    A wrapped function is called only with arguments that fit its parameters.
TEST(conversion, an_argument_keeps_its_sign) {
  const auto doubled = deduplicate([](unsigned n) { return 2 * n; }, [](unsigned n) { return n; });
  EXPECT_EQ(doubled(4), 8U);
  EXPECT_EQ(doubled(4U), 8U);
  EXPECT_THROW(doubled(-4), std::invalid_argument);
  using part = std::pair<unsigned, int>;
  const auto first = deduplicate([](const part& p) { return p.first; },
                                 [](std::pair<unsigned, std::int64_t> p) { return p.second; });
  EXPECT_EQ(first(std::pair(4, 1)), 4U);
  EXPECT_THROW(first(std::pair(-4, 1)), std::invalid_argument);
}

// Goal    A function whose parameter is made of smaller numbers is not called with larger ones.
TEST(conversion, an_argument_is_not_truncated) {
  using singleflight::detail::may_lose;
  static_assert(may_lose<std::optional<int>, const std::int64_t&>());
  static_assert(may_lose<id, const std::int64_t&>() && !converts<const std::int64_t&, id>);
  static_assert(may_lose<const std::pair<int, int>&, const wide_pair&>());
  static_assert(!may_lose<id, const int&>() && !may_lose<const std::any&, const std::int64_t&>());
  static_assert(!may_lose<std::string_view, const std::string&>());
  static_assert(!may_lose<const wide_pair&, const cell&>());
}

}  // namespace
