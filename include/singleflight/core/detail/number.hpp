// SPDX-License-Identifier: Apache-2.0
#pragma once

// number: which numbers become which without loss. What else converts, and how, stands in
// conversion.hpp.

#include <cstdint>
#include <limits>
#include <stdexcept>
#include <string>
#include <type_traits>

#include "singleflight/core/detail/config.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

/// No arithmetic type for a strict compiler.
template <class>
inline constexpr bool is_wide_integer = false;
#if defined(__SIZEOF_INT128__)
__extension__ template <>
inline constexpr bool is_wide_integer<__int128> = true;
__extension__ template <>
inline constexpr bool is_wide_integer<unsigned __int128> = true;
#endif
template <class T>
inline constexpr bool is_integer = std::is_integral_v<T> || is_wide_integer<T>;
template <class T>
inline constexpr bool is_plain_number = std::is_arithmetic_v<T> || is_wide_integer<T>;

template <class T>
struct number_of {
  using type = T;
};
template <class T>
  requires std::is_enum_v<T>
struct number_of<T> {
  using type = std::underlying_type_t<T>;
};

/// What converts by the rules of arithmetic: arithmetic types and enumerations without `class`.
template <class T>
concept number = is_plain_number<T> ||
                 (std::is_enum_v<T> && std::is_convertible_v<T, typename number_of<T>::type>);

enum class number_fit : std::uint8_t {
  never,    ///< some values do not fit
  by_sign,  ///< those whose sign the other type has; to be looked at
  always,
};

/// Whether the values of From are values of To, an arithmetic type.
template <class From, class To>
consteval number_fit fit_of() {
  if constexpr (std::is_enum_v<From>) {
    return fit_of<typename number_of<From>::type, To>();
  } else {
    using from = std::numeric_limits<From>;
    using to = std::numeric_limits<To>;
    if constexpr (std::is_same_v<To, bool>) {
      return std::is_same_v<From, bool> ? number_fit::always : number_fit::never;
    } else if constexpr (std::is_floating_point_v<From>) {
      return std::is_floating_point_v<To> && from::digits <= to::digits &&
                     from::max_exponent <= to::max_exponent
                 ? number_fit::always
                 : number_fit::never;
    } else if constexpr (from::digits <= to::digits && (!from::is_signed || to::is_signed)) {
      return number_fit::always;
    } else {
      return is_integer<To> && from::is_signed != to::is_signed && sizeof(From) <= sizeof(To)
                 ? number_fit::by_sign
                 : number_fit::never;
    }
  }
}

[[noreturn]] SINGLEFLIGHT_COLD inline void refuse_number(const std::string& given) {
  throw std::invalid_argument("singleflight: " + given + " is no value of the type it is to be");
}

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
  if constexpr (fit_of<From, To>() == number_fit::by_sign) {
    const auto plain = static_cast<typename number_of<From>::type>(from);
    if (std::numeric_limits<typename number_of<From>::type>::is_signed
            ? plain < decltype(plain){}
            : static_cast<To>(plain) < To{}) [[unlikely]] {
      refuse_number(text_of_number(plain));
    }
  }
  return static_cast<To>(from);
}

/// Stands for a number where a constructor takes one: converts to what can hold it.
template <number From>
struct number_argument {
  template <class To>
    requires(is_plain_number<To> && fit_of<From, To>() != number_fit::never)
  constexpr operator To() const {  // NOLINT(google-explicit-constructor)
    return convert_number<To>(from);
  }
  From from;
};

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE
