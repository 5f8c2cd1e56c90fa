// SPDX-License-Identifier: Apache-2.0
#pragma once

// fit: decides which keys and values the library converts: those that lose nothing.
//
// The library takes an argument as `const Arg&` and converts it inside a header, where no compiler
// warning points at the caller. So it converts only
//   numbers      if every value of the source type is a value of the target type (int to long or
//                double, float to double, bool to any). Between signed and unsigned of the same
//                width or a wider one, the value itself is checked: one that does not fit is
//                rejected at run time with std::invalid_argument, so that `get(7)` works for
//                unsigned keys. Other conversions that may lose bits do not compile, nor does a
//                number or a pointer as a bool.
//   classes      by their implicit conversions, with the same rule for a number that a constructor
//                takes or that a conversion function returns; a string is also made from a view.
//   parts        A pair, a tuple, an optional and an expected convert part by part, a variant by
//                the alternative that it chooses. A duration and a time_point convert as the
//                numbers that they hold; a value that the finer unit cannot hold is rejected at run
//                time. A class derived from one of these converts as its base; to such a class only
//                values convert that need no check, since its inherited constructors check nothing.
// An explicit constructor is not called, and no aggregate is initialised from its first member. Nor
// is a view or a reference made from a temporary that owns what it would refer to: the temporary is
// destroyed before the view is used.

#include <algorithm>
#include <chrono>
#include <concepts>
#include <cstddef>
#include <initializer_list>
#include <optional>
#include <ratio>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>
#include <variant>

#include "singleflight/core/detail/parts.hpp"
#include "singleflight/core/support/number.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

// ---- the rule -----------------------------------------------------------------------------------

/// How an expression of type From converts to a To.
template <class From, class To>
consteval fit fit_to();
template <class From, class To>
concept converts = fit_to<From, To>() != fit::never;

/// How an expression of type From converts to a part. The whole would pass it to any constructor,
/// even an explicit one, so a part of class type is converted by convert().
template <class From, class Part>
consteval fit part_fit() {
  constexpr bool as_it_is = !is_made<Part> || std::is_same_v<std::decay_t<From>, Part>;
  return std::min(fit_to<From, Part>(), as_it_is ? fit::always : fit::by_parts);
}
template <class From, class To, std::size_t... I>
consteval fit parts_fit(std::index_sequence<I...>) {
  return std::min(
      {fit::always,
       part_fit<decltype(std::get<I>(std::declval<From>())), std::tuple_element_t<I, To>>()...});
}

/// For a To that is constructed from an Element: From converts to that, or to To by a conversion
/// function.
template <class From, class To, class Element>
consteval fit element_fit() {
  if constexpr (std::is_convertible_v<From, To> && !std::is_constructible_v<Element, From>) {
    return fit::always;
  } else if constexpr (std::is_void_v<Element>) {
    return fit::never;
  } else {
    return part_fit<From, Element>();
  }
}

/// Whether From's contained value is converted, and not From itself: an Of<Value> may hold an
/// Of<...>.
template <class From, template <class...> class Of, class Value>
inline constexpr bool is_unwrapped = false;
template <class From, template <class...> class Of, class Value>
  requires has_base<std::decay_t<From>, Of>
inline constexpr bool is_unwrapped<From, Of, Value> = !std::is_convertible_v<From, Value>;

template <class From, class To>
consteval fit into_optional() {
  using plain = std::decay_t<From>;
  using value = typename To::value_type;
  if constexpr (std::is_same_v<plain, std::nullopt_t>) {
    return fit::always;
  } else if constexpr (is_unwrapped<From, std::optional, value>) {
    using base = as_base<From, base_of<plain, std::optional>>;
    return part_fit<decltype(*std::declval<base>()), value>();
  } else {
    return element_fit<From, To, value>();
  }
}

template <class From, class To>
consteval fit into_tuple() {
  using plain = std::decay_t<From>;
  constexpr std::size_t size = std::tuple_size_v<To>;
  if constexpr (part_count<plain> == size && size > 0) {
    return parts_fit<as_base<From, parts_of<plain>>, To>(std::make_index_sequence<size>{});
  } else if constexpr (size == 1) {
    return element_fit<From, To, std::tuple_element_t<0, To>>();
  } else {
    return std::is_convertible_v<From, To> ? fit::always : fit::never;
  }
}

#if defined(__cpp_lib_expected)
template <class From, class To>
consteval fit into_expected() {
  using plain = std::decay_t<From>;
  using value = typename To::value_type;
  using error = typename To::error_type;
  if constexpr (is_unwrapped<From, std::expected, value>) {
    using base = as_base<From, base_of<plain, std::expected>>;
    constexpr fit of_error = part_fit<decltype(std::declval<base>().error()), error>();
    if constexpr (std::is_void_v<value>) {
      constexpr bool both = std::is_void_v<decltype(*std::declval<base>())>;
      return both ? of_error : fit::never;
    } else {
      return std::min(of_error, part_fit<decltype(*std::declval<base>()), value>());
    }
  } else if constexpr (has_base<plain, std::unexpected>) {
    using base = as_base<From, base_of<plain, std::unexpected>>;
    return part_fit<decltype(std::declval<base>().error()), error>();
  } else {
    return element_fit<From, To, value>();
  }
}
#endif

template <class From, class To>
consteval fit into_variant() {
  if constexpr (chooses<From, To>) {
    return part_fit<From, std::variant_alternative_t<chosen<From, To>, To>>();
  } else {
    return std::is_convertible_v<From, To> ? fit::always : fit::never;
  }
}

/// A fraction in another unit would be rounded; an integer may overflow in a finer unit.
template <class From, class To>
consteval fit into_duration() {
  using ratio = std::ratio_divide<typename From::period, typename To::period>;
  constexpr bool same_unit = ratio::num == 1 && ratio::den == 1;
  if (!std::is_convertible_v<From, To> ||
      fit_of<typename From::rep, typename To::rep>() != fit::always) {
    return fit::never;
  }
  if (same_unit) return fit::always;
  return is_integer<typename To::rep> ? fit::checked : fit::never;
}

// ---- which constructor is called ----------------------------------------------------------------

/// Whether `To x = {from}` is well-formed: the language rejects an explicit constructor, and a
/// narrowed number, also as a constructor's argument.
template <class From, class To>
concept fills_implicitly = requires(void (&take)(To)) { take({std::declval<From>()}); };
template <class From, class To>
concept fills_directly = requires { To{std::declval<From>()}; };

struct any_list {
  template <class Element>
  operator std::initializer_list<Element>() const;  // NOLINT(google-explicit-constructor)
};
/// Whether braces may mean a list of elements, and so choose a different constructor.
template <class T>
concept takes_a_list = std::is_constructible_v<T, any_list>;

template <class From, class To>
consteval fit scalar_fit() {
  if constexpr (number<From> && is_plain_number<To>) {
    return fit_of<From, To>();
  } else if constexpr (std::is_same_v<From, To>) {
    return fit::always;
  } else {
    return !is_plain_number<To> && std::is_scalar_v<To> && std::is_convertible_v<From, To>
               ? fit::always
               : fit::never;
  }
}
/// A stand-in for a number or a pointer as a constructor's argument: converts to types that hold
/// it.
template <class From, fit Least = fit::checked>
struct stands_for {
  template <class To>
    requires(scalar_fit<From, To>() >= Least)
  constexpr operator To() const {  // NOLINT(google-explicit-constructor)
    if constexpr (number<From> && is_plain_number<To>) {
      return detail::convert_number<To>(from);
    } else {
      return from;
    }
  }
  From from;
};
/// A stand-in for an argument of exactly this type.
template <class T>
struct exactly {
  template <class To>
    requires std::same_as<To, T>
  operator To() const;  // NOLINT(google-explicit-constructor)
};

/// Whether a To has a constructor for one of the numbers that does not hold all values of From.
template <class From, class To, class... Numbers>
inline constexpr bool takes_one_of = ((scalar_fit<From, Numbers>() != fit::always &&
                                       std::is_constructible_v<To, exactly<Numbers>>) ||
                                      ...);
template <class From, class To>
consteval bool takes_less() {
  if constexpr (number<From>) {
    return
#if defined(__SIZEOF_INT128__)
        takes_one_of<From, To, wide_integer, unsigned_wide_integer> ||
#endif
        takes_one_of<From, To, bool, char, signed char, unsigned char, char8_t, char16_t, char32_t,
                     wchar_t, short, unsigned short, int, unsigned, long, unsigned long, long long,
                     unsigned long long, float, double, long double>;
  } else {
    return takes_one_of<From, To, bool>;
  }
}
/// Whether a To has a constructor for exactly From, which the language prefers.
template <class From, class To>
consteval bool takes_just() {
  if constexpr (std::is_same_v<From, float>) {
    return std::is_constructible_v<To, exactly<float>> ||
           std::is_constructible_v<To, exactly<double>>;
  } else if constexpr (number<From>) {
    return std::is_constructible_v<To, exactly<From>> ||
           std::is_constructible_v<To, exactly<decltype(+From{})>>;
  } else {
    return std::is_constructible_v<To, exactly<From>> ||
           std::is_constructible_v<To, stands_for<From>>;
  }
}

/// For a class with an implicit conversion from a number or a pointer. A trait cannot see which
/// constructor that calls, only which one braces would call: the same, unless that one takes a list
/// or is explicit.
template <class From, class To>
consteval fit scalar_into_class() {
  using plain = std::decay_t<From>;
  // Each branch tests only what the ones before leave open. NOLINTNEXTLINE(bugprone-branch-clone)
  if constexpr (fills_implicitly<From, To> && !takes_a_list<To>) {
    return fit::always;
  } else if constexpr (!takes_less<plain, To>() && (takes_a_list<To> || fills_directly<From, To>)) {
    return fit::always;
  } else if constexpr (fills_implicitly<From, To> && takes_just<plain, To>()) {
    return fit::always;
  } else if constexpr (number<plain> && fills_implicitly<stands_for<plain>, To>) {
    return std::is_constructible_v<To, stands_for<plain>> ? fit::checked : fit::never;
  } else {
    return fit::never;
  }
}

/// Whether To derives from an Of<...> whose constructor, which To may have inherited, would lose
/// part of From.
template <class From, class To, template <class...> class Of>
consteval bool base_loses() {
  if constexpr (has_base<To, Of> && !is_a<To, Of>) {
    if constexpr (std::is_convertible_v<From, base_of<To, Of>>) {
      return fit_to<From, base_of<To, Of>>() < fit::by_parts;
    }
  }
  return false;
}
/// Whether this holds for any such base, unless To has a constructor of its own for From.
template <class From, class To>
consteval bool any_base_loses() {
  bool loses = base_loses<From, To, std::optional>() || base_loses<From, To, std::pair>() ||
               base_loses<From, To, std::tuple>() || base_loses<From, To, std::variant>() ||
               base_loses<From, To, std::chrono::duration>() ||
               base_loses<From, To, std::chrono::time_point>();
#if defined(__cpp_lib_expected)
  loses = loses || base_loses<From, To, std::expected>();
#endif
  if constexpr (number<std::decay_t<From>>) {
    return loses && !takes_just<std::decay_t<From>, To>();
  } else {
    return loses && !std::is_constructible_v<To, exactly<std::decay_t<From>>>;
  }
}

/// For a To that does not convert part by part, and to which From converts implicitly.
template <class From, class To>
consteval fit into_other() {
  using plain = std::decay_t<From>;
  if constexpr (is_plain_number<To>) {
    return !std::is_scalar_v<plain> && fills_implicitly<From, To> ? fit::always : fit::never;
  } else if constexpr (any_base_loses<From, To>()) {
    return fit::never;
  } else if constexpr (is_made<To> && (std::is_scalar_v<plain> || number<plain>)) {
    return scalar_into_class<From, To>();
  } else {
    return fit::always;
  }
}

/// For a To that converts part by part: `always` only if the language would convert it as well.
template <class From, class To>
consteval fit as_whole(fit parts) {
  return std::min(parts, std::is_convertible_v<From, To> ? fit::always : fit::by_parts);
}

/// Whether a To would refer into the temporary From that it is made from. A trivially copyable From
/// that is not an array is assumed to be a view of the program's own.
template <class From, class To>
consteval bool would_dangle() {
  using plain = std::decay_t<From>;
  if constexpr (std::is_lvalue_reference_v<From>) {
    return false;
  } else if constexpr (std::is_lvalue_reference_v<To>) {
    return true;
  } else {
    constexpr bool has_elements = requires(plain& owner) {
      owner.begin();
      owner.end();
    };
    constexpr bool owns =
        !std::is_trivially_destructible_v<plain> ||
        (has_elements && (!std::is_trivially_copyable_v<plain> || part_count<plain> > 0));
    return std::ranges::enable_borrowed_range<To> && !std::ranges::enable_borrowed_range<plain> &&
           owns;
  }
}

template <class From, class To>
consteval fit fit_to() {
  using plain = std::decay_t<From>;
  if constexpr (std::is_void_v<From> || std::is_void_v<To>) {
    return std::is_void_v<From> && std::is_void_v<To> ? fit::always : fit::never;
  } else if constexpr (std::is_const_v<To>) {
    return fit_to<From, std::remove_const_t<To>>();
  } else if constexpr (std::is_reference_v<To>) {
    return !would_dangle<From, To>() && std::is_convertible_v<From, To> &&
                   std::is_convertible_v<std::remove_reference_t<From>*,
                                         std::remove_reference_t<To>*>
               ? fit::always
               : fit::never;
  } else if constexpr (std::is_same_v<plain, To>) {
    return !std::is_reference_v<From> || std::is_constructible_v<To, From> ? fit::always
                                                                           : fit::never;
  } else if constexpr (is_plain_number<To> && number<plain>) {
    return fit_of<plain, To>();
  } else if constexpr (std::is_class_v<To> && std::derived_from<plain, To>) {
    return std::is_convertible_v<From, To> ? fit::always : fit::never;
  } else if constexpr (is_optional<To>) {
    return as_whole<From, To>(into_optional<From, To>());
  } else if constexpr (is_tuple<To>) {
    return as_whole<From, To>(into_tuple<From, To>());
#if defined(__cpp_lib_expected)
  } else if constexpr (is_a<To, std::expected>) {
    return as_whole<From, To>(into_expected<From, To>());
#endif
  } else if constexpr (is_a<To, std::variant>) {
    return as_whole<From, To>(into_variant<From, To>());
  } else if constexpr (is_a<To, std::chrono::duration> && has_base<plain, std::chrono::duration>) {
    return into_duration<base_of<plain, std::chrono::duration>, To>();
  } else if constexpr (is_a<To, std::chrono::time_point> &&
                       has_base<plain, std::chrono::time_point>) {
    using from = base_of<plain, std::chrono::time_point>;
    return std::is_convertible_v<From, To>
               ? into_duration<typename from::duration, typename To::duration>()
               : fit::never;
  } else if constexpr (would_dangle<From, To>() ||
                       (std::is_null_pointer_v<plain> && (has_base<To, std::basic_string> ||
                                                          has_base<To, std::basic_string_view>))) {
    return fit::never;
  } else if constexpr (!std::is_convertible_v<From, To>) {
    if constexpr (string_like<To>) {
      return std::is_convertible_v<From, typename string_view_of<To>::type> ? fit::checked
                                                                            : fit::never;
    } else {
      return fit::never;
    }
  } else {
    return into_other<From, To>();
  }
}

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE
