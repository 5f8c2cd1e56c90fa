// SPDX-License-Identifier: Apache-2.0

// Conversions without loss that are accepted by type; tests/unit/flight/group_conversion_test.cpp
// tests those that are checked by value.

#include <any>
#include <chrono>
#include <complex>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <variant>
#include <vector>

#include <singleflight/core/support/conversion.hpp>

using singleflight::detail::converts;
using singleflight::detail::made_of;
using i64 = std::int64_t;
using u64 = std::uint64_t;

struct to_long {
  operator long() const;
};
struct to_int {
  operator int() const;
};
struct from_int {
  from_int(int);
};
struct from_u64 {
  from_u64(u64);
};
struct from_double {
  from_double(double);
};
struct from_bool {
  from_bool(bool);
};
struct of_one {
  explicit of_one(int);
};
struct user {
  std::string name;
  int age;
};
struct count {
  int n;
};
struct from_all {
  template <class T>
  from_all(T&&);
};
struct pinned {
  pinned(int);
  pinned(pinned&&) = delete;
};
enum small : int {};
enum wide : i64 {};
enum class scoped : int {};

// Numbers.
static_assert(converts<int, long> && converts<int, double> && converts<float, double>);
static_assert(converts<short, float> && converts<bool, int> && converts<bool, bool>);
static_assert(!converts<long, int> && !converts<u64, int> && !converts<int, short>);
static_assert(!converts<i64, unsigned> && !converts<int, unsigned char>);
static_assert(!converts<double, int> && !converts<double, float> && !converts<long, double>);
static_assert(!converts<int, float> && !converts<int, bool> && !converts<double, bool>);
static_assert(converts<small, int> && converts<wide, i64> && !converts<wide, int>);
static_assert(!converts<scoped, int> && !converts<int, scoped> && converts<scoped, scoped>);
// Types whose sign is checked by value.
static_assert(converts<int, u64> && converts<int, unsigned> && converts<u64, i64>);
// A pointer is not a bool, and nullptr is not a string.
static_assert(!converts<int*, bool> && !converts<const char (&)[4], bool>);
static_assert(!converts<std::nullptr_t, bool> && !converts<std::nullptr_t, std::string>);
// Classes.
static_assert(converts<to_long, long> && !converts<to_long, int> && !converts<to_int, bool>);
static_assert(converts<int, from_int> && !converts<i64, from_int> && !converts<double, from_int>);
static_assert(converts<int, from_u64> && converts<int, from_double>);
static_assert(!converts<i64, from_double> && !converts<int, from_bool>);
static_assert(!converts<const char*, from_bool> && converts<int, from_all>);
static_assert(!converts<int, of_one> && !converts<int, std::vector<int>>);
static_assert(!converts<std::string, user> && !converts<int, count> && converts<user, user>);
static_assert(converts<pinned, pinned> && !converts<pinned&, pinned>);
static_assert(converts<const char*, std::string> && converts<std::string_view, std::string>);
static_assert(!converts<char, std::string> && converts<i64, std::any>);
static_assert(converts<std::unique_ptr<int>, std::shared_ptr<const int>>);
static_assert(!converts<int*, std::unique_ptr<int>>);
static_assert(converts<int, std::complex<double>> && !converts<double, std::complex<float>>);
static_assert(converts<std::chrono::seconds, std::chrono::nanoseconds>);
static_assert(!converts<std::chrono::nanoseconds, std::chrono::seconds>);
// Parts.
static_assert(converts<std::pair<int, int>, std::pair<long, u64>>);
static_assert(!converts<std::pair<long, int>, std::pair<int, int>>);
static_assert(!converts<std::pair<long, int>, std::tuple<int, int>>);
static_assert(converts<int, std::optional<long>> && !converts<long, std::optional<int>>);
static_assert(!converts<std::optional<long>, std::optional<int>>);
static_assert(!converts<long, std::variant<int, std::string>>);
// Objects that a value is constructed from.
static_assert(made_of<std::pair<int, int>, int, int>());
static_assert(!made_of<std::pair<int, int>, long, int>());
static_assert(made_of<std::string, int, char>() && made_of<std::vector<int>, std::size_t, int>());
static_assert(made_of<user, const char*, int>() && !made_of<user, const char*, long>());
