// SPDX-License-Identifier: Apache-2.0
#pragma once

// number: decides which number types convert to which without loss. fit.hpp does so for other
// types; conversion.hpp converts.

#include <concepts>
#include <cstdint>
#include <limits>
#include <string>
#include <type_traits>

#include "singleflight/core/support/config.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

/// 128-bit integers, which are not arithmetic types in a strict mode.
template <class>
inline constexpr bool is_wide_integer = false;
#if defined(__SIZEOF_INT128__)
__extension__ using wide_integer = __int128;
__extension__ using unsigned_wide_integer = unsigned __int128;
template <>
inline constexpr bool is_wide_integer<wide_integer> = true;
template <>
inline constexpr bool is_wide_integer<unsigned_wide_integer> = true;
#endif
template <class T>
inline constexpr bool is_integer = std::is_integral_v<T> || is_wide_integer<T>;

/// A floating-point type of the compiler besides the language's three, such as _Float16 or
/// __float128; in a strict mode it is not an arithmetic type.
template <class T>
concept other_real =
    std::is_object_v<T> && !std::is_class_v<T> && !std::is_union_v<T> && !std::is_enum_v<T> &&
    !std::is_pointer_v<T> && !std::is_member_pointer_v<T> && !std::is_null_pointer_v<T> &&
    !std::is_array_v<T> && !std::is_arithmetic_v<T> && !is_wide_integer<T> && requires(T t) {
      { t < t } -> std::same_as<bool>;
      t = static_cast<T>(1.0);
      static_cast<double>(t);
    };
template <class T>
inline constexpr bool is_real = std::is_floating_point_v<T> || other_real<T>;
template <class T>
inline constexpr bool is_plain_number =
    std::is_arithmetic_v<T> || is_wide_integer<T> || other_real<T>;

template <class T>
struct number_of {
  using type = T;
};
template <class T>
  requires std::is_enum_v<T>
struct number_of<T> {
  using type = std::underlying_type_t<T>;
};

/// A type that converts by the rules of arithmetic: arithmetic types and unscoped enumerations.
template <class T>
concept number = is_plain_number<T> ||
                 (std::is_enum_v<T> && std::is_convertible_v<T, typename number_of<T>::type>);

/// How one type converts to another.
enum class fit : std::uint8_t {
  never,     ///< not, or with a loss
  checked,   ///< by convert(), which may reject the value
  by_parts,  ///< by convert(), which rejects no value
  always,    ///< by the language's own implicit conversion, which loses nothing
};

/// std::numeric_limits<Number>::digits; counted if that is not specialized.
template <class Number>
consteval int digits_of() {
  if constexpr (std::numeric_limits<Number>::is_specialized) {
    return std::numeric_limits<Number>::digits;
  } else {
    const auto one = static_cast<Number>(1.0);
    int count = 0;
    for (Number power = one;; power = static_cast<Number>(power + power)) {
      const auto next = static_cast<Number>(power + one);
      const auto step = static_cast<Number>(next - power);
      if (step < one || one < step) return count;
      ++count;
    }
  }
}
/// std::numeric_limits<Number>::max_exponent; counted if that is not specialized: there are as many
/// powers of 2 above 1 as below, and denormal numbers.
template <class Number>
consteval int max_exponent_of() {
  if constexpr (std::numeric_limits<Number>::is_specialized) {
    return std::numeric_limits<Number>::max_exponent;
  } else {
    const auto half = static_cast<Number>(0.5);
    int count = 0;
    for (auto power = half; static_cast<Number>(0.0) < power;) {
      power = static_cast<Number>(power * half);
      ++count;
    }
    return count - digits_of<Number>() + 3;
  }
}

/// Whether all values of From are values of To, a plain number. If only the sign may not fit (From
/// is signed and To unsigned or the reverse, and To is at least as wide), each value is checked at
/// run time.
template <class From, class To>
consteval fit fit_of() {
  if constexpr (std::is_enum_v<From>) {
    return fit_of<typename number_of<From>::type, To>();
  } else if constexpr (std::is_same_v<From, To>) {
    return fit::always;
  } else if constexpr (std::is_same_v<To, bool>) {
    return fit::never;
  } else if constexpr (is_real<From>) {
    return is_real<To> && digits_of<From>() <= digits_of<To>() &&
                   max_exponent_of<From>() <= max_exponent_of<To>()
               ? fit::always
               : fit::never;
  } else if constexpr (is_real<To>) {
    return digits_of<From>() <= digits_of<To>() ? fit::always : fit::never;
  } else {
    using from = std::numeric_limits<From>;
    using to = std::numeric_limits<To>;
    if constexpr (from::digits <= to::digits && (!from::is_signed || to::is_signed)) {
      return fit::always;
    } else {
      return from::is_signed != to::is_signed && sizeof(From) <= sizeof(To) ? fit::checked
                                                                            : fit::never;
    }
  }
}

[[noreturn]] void refuse_number(const std::string& given);

template <class Number>
std::string text_of_number(Number of) {
  if constexpr (std::is_floating_point_v<Number> || sizeof(Number) <= sizeof(long long)) {
    return std::to_string(of);
  } else {
    return "a number";  // of 128 bits
  }
}

/// Requires that fit_of() is not `never`.
template <class To, number From>
constexpr To convert_number(From from) {
  if constexpr (fit_of<From, To>() == fit::checked) {
    const auto plain = static_cast<typename number_of<From>::type>(from);
    if (std::numeric_limits<typename number_of<From>::type>::is_signed
            ? plain < decltype(plain){}
            : static_cast<To>(plain) < To{}) [[unlikely]] {
      refuse_number(text_of_number(plain));
    }
  }
  return static_cast<To>(from);
}

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE

#if !defined(SINGLEFLIGHT_COMPILED)
#include "singleflight/core/impl/number.hpp"
#endif
