// SPDX-License-Identifier: Apache-2.0

// Numbers between signed and unsigned: looked at when they come. What does not compile stands in
// tests/compile/.

#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>
#include <limits>
#include <optional>
#include <ratio>
#include <span>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include <singleflight/flight.hpp>

namespace {

using singleflight::as_outcome;
using singleflight::deduplicate;

// Goal    An int asks an unsigned group, and what has no unsigned value is refused: never another
//         key's answer (scenario 54).
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

// Goal    A result that is no Value is the load's error, for everybody on the flight; one that is
//         becomes it.
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

// Goal    Units of time convert as the numbers they hold: a finer one that cannot hold so many is
//         refused, a shorter number does not compile. What a variant would narrow neither.
TEST(conversion, a_duration_keeps_its_length) {
  using namespace std::chrono_literals;
  using singleflight::detail::converts;
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
// Goal    Numbers of 128 bits are numbers, also for a strict compiler.
TEST(conversion, a_wide_number_keeps_its_value) {
  using singleflight::detail::converts;
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
  using singleflight::detail::converts;
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

// Goal    A promise makes a container of how many and of what, and the latter keeps its sign.
TEST(conversion, how_many_of_what) {
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

// Goal    A function that is wrapped is called with what fits its parameters.
TEST(conversion, an_argument_keeps_its_sign) {
  const auto doubled = deduplicate([](unsigned n) { return 2 * n; }, [](unsigned n) { return n; });
  EXPECT_EQ(doubled(4), 8U);
  EXPECT_EQ(doubled(4U), 8U);
  EXPECT_THROW(doubled(-4), std::invalid_argument);
}

}  // namespace
