// SPDX-License-Identifier: Apache-2.0
#pragma once

// conversion: converts keys and values; fit.hpp decides which ones convert. The result is
// initialised as in `To x = from`: no explicit constructor is called.

#include <chrono>
#include <concepts>
#include <cstddef>
#include <limits>
#include <new>
#include <optional>
#include <ratio>
#include <tuple>
#include <type_traits>
#include <utility>
#include <variant>

#include "singleflight/core/detail/fit.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

template <class To, class From>
constexpr To convert(From&& from);

template <class To, class From>
constexpr To convert_duration(const From& from) {
  using ratio = std::ratio_divide<typename From::period, typename To::period>;
  if constexpr (is_integer<typename To::rep> && ratio::num > 1) {
    using to = std::numeric_limits<typename To::rep>;
    const typename To::rep count = from.count();
    if (count > to::max() / ratio::num || count < to::min() / ratio::num) [[unlikely]] {
      refuse_number(text_of_number(count) + " of a coarser unit");
    }
  }
  return from;
}

#if defined(__cpp_lib_expected)
template <class To, class From>
constexpr To convert_expected(From&& from) {
  using plain = std::decay_t<From>;
  using value = typename To::value_type;
  using error = typename To::error_type;
  if constexpr (is_unwrapped<From, std::expected, value>) {
    auto&& base = static_cast<as_base<From, base_of<plain, std::expected>>>(from);
    if (!base.has_value()) {
      return To(std::unexpect, detail::convert<error>(std::forward<decltype(base)>(base).error()));
    }
    if constexpr (std::is_void_v<value>) {
      return To();
    } else {
      return To(std::in_place, detail::convert<value>(*std::forward<decltype(base)>(base)));
    }
  } else if constexpr (has_base<plain, std::unexpected>) {
    return To(std::unexpect, detail::convert<error>(std::forward<From>(from).error()));
  } else {
    return To(std::in_place, detail::convert<value>(std::forward<From>(from)));
  }
}
#endif

/// convert() for types that differ.
template <class To, class From>
constexpr To convert_other(From&& from) {
  using plain = std::decay_t<From>;
  if constexpr (is_plain_number<To> && number<plain>) {
    return detail::convert_number<To>(from);
  } else if constexpr (fit_to<From, To>() == fit::always) {
    return std::forward<From>(from);
  } else if constexpr (is_optional<To>) {
    using value = typename To::value_type;
    if constexpr (is_unwrapped<From, std::optional, value>) {
      auto&& base = static_cast<as_base<From, base_of<plain, std::optional>>>(from);
      if (!base.has_value()) return std::nullopt;
      return To(std::in_place, detail::convert<value>(*std::forward<decltype(base)>(base)));
    } else {
      return To(std::in_place, detail::convert<value>(std::forward<From>(from)));
    }
  } else if constexpr (is_tuple<To>) {
    constexpr std::size_t size = std::tuple_size_v<To>;
    if constexpr (part_count<plain> == size) {
      using base = as_base<From, parts_of<plain>>;
      return [&]<std::size_t... I>(std::index_sequence<I...>) {
        return To(
            detail::convert<std::tuple_element_t<I, To>>(std::get<I>(static_cast<base>(from)))...);
      }(std::make_index_sequence<size>{});
    } else {
      return To(detail::convert<std::tuple_element_t<0, To>>(std::forward<From>(from)));
    }
#if defined(__cpp_lib_expected)
  } else if constexpr (is_a<To, std::expected>) {
    return detail::convert_expected<To>(std::forward<From>(from));
#endif
  } else if constexpr (is_a<To, std::variant>) {
    constexpr std::size_t at = chosen<From, To>;
    return To(std::in_place_index<at>,
              detail::convert<std::variant_alternative_t<at, To>>(std::forward<From>(from)));
  } else if constexpr (is_a<To, std::chrono::duration>) {
    return detail::convert_duration<To>(
        static_cast<const base_of<plain, std::chrono::duration>&>(from));
  } else if constexpr (is_a<To, std::chrono::time_point>) {
    return To(detail::convert_duration<typename To::duration>(from.time_since_epoch()));
  } else if constexpr (string_like<To>) {
    return To(static_cast<typename string_view_of<To>::type>(std::forward<From>(from)));
  } else {
    return To(stands_for<plain>{from});
  }
}

/// Requires converts<From, To>.
template <class To, class From>
constexpr To convert(From&& from) {
  if constexpr (std::is_same_v<std::decay_t<From>, std::remove_const_t<To>>) {
    return std::forward<From>(from);
  } else {
    return detail::convert_other<std::remove_const_t<To>>(std::forward<From>(from));
  }
}

// ---- values in place ----------------------------------------------------------------------------

/// Reports once, in one line, that a value cannot be made.
template <bool Fits>
consteval bool fits_a_value() {
  static_assert(Fits,
                "singleflight: what is returned or given for a value does not become one without "
                "loss, or only as a view of a temporary: convert it where you return or give it");
  return Fits;
}

/// Whether constructing a To from From in place, which may also call explicit constructors, gives
/// the same To. A To that cannot be moved is constructed in place from whatever converts
/// implicitly.
template <class From, class To>
inline constexpr bool the_same_in_place =
    fit_to<From, To>() == fit::always &&
    (!std::is_move_constructible_v<To> ||
     (!is_made<std::decay_t<From>> && fills_implicitly<From, To> && !takes_a_list<To>));

/// Returns what a To is constructed from: `from` itself, or the To that it converts to.
template <class To, class From>
decltype(auto) value_from(From&& from) {
  if constexpr (!fits_a_value<converts<From, To>>()) {
    return static_cast<To&&>(*static_cast<To*>(nullptr));
  } else if constexpr (std::is_same_v<std::remove_cvref_t<From>, To> ||
                       the_same_in_place<From, To>) {
    return static_cast<From&&>(from);
  } else {
    return detail::convert<To>(std::forward<From>(from));
  }
}

/// Constructs a To from the result of make(), in place.
template <class To, class Make>
void construct_from_call(void* at, Make&& make) {
  using from = decltype(make());
  if constexpr (!fits_a_value<converts<from, To>>()) {
  } else if constexpr (std::is_same_v<std::remove_cvref_t<from>, To>) {
    ::new (at) To(make());
  } else {
    ::new (at) To(detail::convert<To>(make()));
  }
}

// ---- values of several arguments ----------------------------------------------------------------

/// The stand-in for an argument when testing whether a constructor takes it.
template <class Arg, fit Least>
using stand_in_for =
    std::conditional_t<number<std::decay_t<Arg>>, stands_for<std::decay_t<Arg>, Least>, Arg>;

/// Whether a To's constructors are tested with stand-ins: if braces would mean a list of elements,
/// or if a class of the standard library forwards arguments without checking them.
template <class To>
concept tested_by_stand_in =
    takes_a_list<To> || is_optional<To> || is_tuple<To> || is_a<To, std::variant>
#if defined(__cpp_lib_expected)
    || is_a<To, std::expected>
#endif
    ;

/// Whether To is a pair or a tuple, with an argument for each part.
template <class To, class... Args>
inline constexpr bool is_parts = false;
template <class To, class... Args>
  requires is_tuple<To>
inline constexpr bool is_parts<To, Args...> = std::tuple_size_v<To> == sizeof...(Args);

/// Whether a To is made from `args` as constructor arguments or as an aggregate's members.
template <class To, class... Args>
consteval bool made_of() {
  if constexpr (sizeof...(Args) == 1) {
    return (converts<Args, To> && ...);
  } else if constexpr (sizeof...(Args) == 0) {
    return std::is_default_constructible_v<To>;
  } else if constexpr (is_parts<To, Args...>) {
    return parts_fit<std::tuple<Args...>, To>(std::index_sequence_for<Args...>{}) != fit::never;
  } else if constexpr (tested_by_stand_in<To>) {
    return std::is_constructible_v<To, stand_in_for<Args, fit::checked>...>;
  } else {
    return requires { To{std::declval<Args>()...}; };
  }
}

/// Returns the argument at `I` itself if the constructor's parameter holds all its values, else a
/// stand-in that checks the value.
template <class To, std::size_t I, class... Args, std::size_t... All, class Arg>
decltype(auto) argument_of(std::index_sequence<All...>, Arg& arg) {
  using own = std::tuple_element_t<I, std::tuple<Args...>>;
  if constexpr (number<std::decay_t<own>> &&
                !std::is_constructible_v<
                    To, stand_in_for<Args, All == I ? fit::always : fit::checked>...>) {
    return stands_for<std::decay_t<own>>{arg};
  } else {
    return static_cast<own>(arg);
  }
}

template <class To, class... Args>
void construct_of(void* at, Args&&... args) {
  if constexpr (!fits_a_value<made_of<To, Args&&...>()>()) {
  } else if constexpr (sizeof...(Args) == 1) {
    detail::construct_from_call<To>(
        at, [&]() -> decltype(auto) { return (static_cast<Args&&>(args), ...); });
  } else if constexpr (is_parts<To, Args&&...>) {
    [&]<std::size_t... I>(std::index_sequence<I...>) {
      ::new (at) To(detail::convert<std::tuple_element_t<I, To>>(std::forward<Args>(args))...);
    }(std::index_sequence_for<Args...>{});
  } else if constexpr (tested_by_stand_in<To>) {
    using all = std::index_sequence_for<Args...>;
    [&]<std::size_t... I>(std::index_sequence<I...>) {
      ::new (at) To(detail::argument_of<To, I, Args&&...>(all{}, args)...);
    }(all{});
  } else {
    ::new (at) To{std::forward<Args>(args)...};
  }
}

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE
