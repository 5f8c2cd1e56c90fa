// SPDX-License-Identifier: Apache-2.0
#pragma once

// conversion: which keys and values the library converts, and how: never one that loses something.
//
// The library takes an argument as `const Arg&` and converts it inside a header, where no warning
// of the compiler points at the caller. So it converts only
//   numbers      where every value of the one is a value of the other (int to long or double, float
//                to double, bool to any). Between signed and unsigned of the same width or a wider
//                one, the number itself is looked at: one that does not fit is refused at run time
//                with std::invalid_argument, so that `get(7)` works for unsigned keys. What else
//                may lose bits does not compile, nor does a number or a pointer as a bool.
//   classes      by their implicit conversions, with the same rule for a number that a constructor
//                takes; a string is also made of a view. A pair, a tuple and an optional convert
//                part by part. A duration and a time_point convert as the numbers they hold; one
//                that the finer unit cannot hold is refused at run time. A variant takes what its
//                own constructor converts without loss.
// An explicit constructor is not called, and no aggregate is filled from its first member.

#include <chrono>
#include <concepts>
#include <cstddef>
#include <initializer_list>
#include <limits>
#include <new>
#include <optional>
#include <ratio>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>
#include <variant>

#include "singleflight/core/detail/number.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

// ---- what is made of parts ----------------------------------------------------------------------

template <class>
inline constexpr bool is_optional = false;
template <class V>
inline constexpr bool is_optional<std::optional<V>> = true;

template <class>
inline constexpr bool is_tuple = false;
template <class... Parts>
inline constexpr bool is_tuple<std::tuple<Parts...>> = true;
template <class A, class B>
inline constexpr bool is_tuple<std::pair<A, B>> = true;

template <class>
inline constexpr bool is_variant = false;
template <class... Parts>
inline constexpr bool is_variant<std::variant<Parts...>> = true;

template <class>
inline constexpr bool is_duration = false;
template <class Rep, class Period>
inline constexpr bool is_duration<std::chrono::duration<Rep, Period>> = true;

template <class>
inline constexpr bool is_time_point = false;
template <class Clock, class Duration>
inline constexpr bool is_time_point<std::chrono::time_point<Clock, Duration>> = true;

template <class>
struct string_view_of {};
template <class C, class T, class A>
struct string_view_of<std::basic_string<C, T, A>> {
  using type = std::basic_string_view<C, T>;
};
template <class C, class T>
struct string_view_of<std::basic_string_view<C, T>> {
  using type = std::basic_string_view<C, T>;
};
template <class T>
concept string_like = requires { typename string_view_of<T>::type; };

// ---- the rule -----------------------------------------------------------------------------------

template <class From, class To>
consteval bool converts_to();

template <class From, class To, std::size_t... I>
consteval bool parts_convert(std::index_sequence<I...>) {
  return (converts_to<decltype(std::get<I>(std::declval<From>())), std::tuple_element_t<I, To>>() &&
          ...);
}

/// List-initialization refuses what narrows, also in a constructor's argument.
template <class From, class To>
concept fills_by_list = requires { To{std::declval<From>()}; };

/// Whether To's own constructor makes it of a From, so that it needs no move.
template <class From, class To>
consteval bool converts_as_it_is();

/// Where `To x[] = {from}` is well-formed, which is how a variant chooses.
template <class From, class To>
concept fills_an_array = requires { std::type_identity_t<To[]>{std::declval<From>()}; };

/// Whether a variant takes From without loss, whichever of its types it chooses: what would be
/// converted part by part it does not, since its constructor would do that by the language's rules.
template <class From, class Variant>
inline constexpr bool goes_into_variant = false;
template <class From, class... Parts>
inline constexpr bool goes_into_variant<From, std::variant<Parts...>> =
    (std::is_same_v<std::decay_t<From>, Parts> || ...) ||
    ((!fills_an_array<From, Parts> ||
      (converts_to<From, Parts>() &&
       (std::is_scalar_v<Parts> || converts_as_it_is<From, Parts>()))) &&
     ...);

/// Whether From, which converts to To, does so without loss: fractions of another unit are rounded.
/// Integers of a coarser unit may be too many of a finer one, which is looked at later.
template <class From, class To>
consteval bool durations_fit() {
  using ratio = std::ratio_divide<typename From::period, typename To::period>;
  const bool rounds = !is_integer<typename To::rep> && (ratio::num != 1 || ratio::den != 1);
  return fit_of<typename From::rep, typename To::rep>() == number_fit::always && !rounds;
}
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

/// Whether an expression of type From becomes a To without loss.
template <class From, class To>
consteval bool converts_to() {
  using plain = std::decay_t<From>;
  if constexpr (std::is_void_v<From> || std::is_void_v<To>) {
    return std::is_void_v<From> && std::is_void_v<To>;
  } else if constexpr (std::is_same_v<plain, To>) {
    return !std::is_reference_v<From> || std::is_constructible_v<To, From>;
  } else if constexpr (is_plain_number<To> && number<plain>) {
    return fit_of<plain, To>() != number_fit::never;
  } else if constexpr (is_optional<To>) {
    if constexpr (std::is_same_v<plain, std::nullopt_t>) {
      return true;
    } else if constexpr (is_optional<plain>) {
      return converts_to<decltype(*std::declval<From>()), typename To::value_type>();
    } else {
      return converts_to<From, typename To::value_type>();
    }
  } else if constexpr (is_tuple<To> && is_tuple<plain>) {
    if constexpr (std::tuple_size_v<To> == std::tuple_size_v<plain>) {
      return parts_convert<From, To>(std::make_index_sequence<std::tuple_size_v<To>>{});
    } else {
      return false;
    }
  } else if constexpr (is_variant<To>) {
    return std::is_convertible_v<From, To> && goes_into_variant<From, To>;
  } else if constexpr (is_duration<To> && is_duration<plain>) {
    return std::is_convertible_v<From, To> && durations_fit<plain, To>();
  } else if constexpr (is_time_point<To> && is_time_point<plain>) {
    return std::is_convertible_v<From, To> &&
           durations_fit<typename plain::duration, typename To::duration>();
  } else if constexpr (string_like<To> && std::is_null_pointer_v<plain>) {
    return false;
  } else if constexpr (!std::is_convertible_v<From, To>) {
    if constexpr (string_like<To>) {
      return std::is_convertible_v<From, typename string_view_of<To>::type>;
    } else {
      return false;
    }
  } else if constexpr (is_plain_number<To>) {
    return !std::is_scalar_v<plain> && fills_by_list<From, To>;
  } else if constexpr (std::is_class_v<To> && (std::is_scalar_v<plain> || number<plain>)) {
    if constexpr (number<plain>) {
      return fills_by_list<From, To> || std::is_constructible_v<To, number_argument<plain>>;
    } else {
      return fills_by_list<From, To>;
    }
  } else {
    return true;
  }
}
template <class From, class To>
concept converts = converts_to<From, To>();

template <class To, class From>
constexpr To convert(From&& from);

/// convert() where the types differ.
template <class To, class From>
constexpr To convert_other(From&& from) {
  using plain = std::decay_t<From>;
  if constexpr (is_plain_number<To> && number<plain>) {
    return convert_number<To>(from);
  } else if constexpr (is_optional<To>) {
    using value = typename To::value_type;
    if constexpr (std::is_same_v<plain, std::nullopt_t>) {
      return std::nullopt;
    } else if constexpr (is_optional<plain>) {
      if (!from.has_value()) return std::nullopt;
      return To(std::in_place, convert<value>(*std::forward<From>(from)));
    } else {
      return To(std::in_place, convert<value>(std::forward<From>(from)));
    }
  } else if constexpr (is_tuple<To> && is_tuple<plain>) {
    return [&]<std::size_t... I>(std::index_sequence<I...>) {
      return To(convert<std::tuple_element_t<I, To>>(std::get<I>(std::forward<From>(from)))...);
    }(std::make_index_sequence<std::tuple_size_v<To>>{});
  } else if constexpr (is_duration<To> && is_duration<plain>) {
    return convert_duration<To>(from);
  } else if constexpr (is_time_point<To> && is_time_point<plain>) {
    return To(convert_duration<typename To::duration>(from.time_since_epoch()));
  } else if constexpr (string_like<To> && !std::is_convertible_v<From, To>) {
    return To(static_cast<typename string_view_of<To>::type>(std::forward<From>(from)));
  } else if constexpr (std::is_class_v<To> && number<plain> && !fills_by_list<From, To>) {
    return To(number_argument<plain>{from});
  } else {
    return std::forward<From>(from);
  }
}

/// Requires converts<From, To>.
template <class To, class From>
constexpr To convert(From&& from) {
  if constexpr (std::is_same_v<std::decay_t<From>, To>) {
    return std::forward<From>(from);
  } else {
    return convert_other<To>(std::forward<From>(from));
  }
}

// ---- values in place ----------------------------------------------------------------------------

/// Says once, in one line, why a value cannot be made.
template <bool Fits>
consteval bool fits_a_value() {
  static_assert(Fits,
                "singleflight: what is returned or given for a value does not become one without "
                "loss: convert it where you return or give it");
  return Fits;
}

template <class From, class To>
consteval bool converts_as_it_is() {
  using plain = std::remove_cvref_t<From>;
  if constexpr (std::is_same_v<plain, To>) {
    return true;
  } else if constexpr (!std::is_class_v<To> || is_optional<To> ||
                       (is_tuple<To> && is_tuple<plain>) ||
                       (is_duration<To> && is_duration<plain>) ||
                       (is_time_point<To> && is_time_point<plain>)) {
    return false;
  } else if constexpr (number<plain>) {
    return fills_by_list<From, To>;
  } else {
    return std::is_convertible_v<From, To>;
  }
}

/// What a To is to be constructed from in place, for `from`: itself, or the To that it becomes.
template <class To, class From>
decltype(auto) value_from(From&& from) {
  if constexpr (!fits_a_value<converts<From, To>>()) {
    return static_cast<To&&>(*static_cast<To*>(nullptr));
  } else if constexpr (converts_as_it_is<From, To>()) {
    return static_cast<From&&>(from);
  } else {
    return convert<To>(std::forward<From>(from));
  }
}

/// Constructs a To of what make() returns, in place where that is a To.
template <class To, class Make>
void construct_from_call(void* at, Make&& make) {
  using from = decltype(make());
  if constexpr (!fits_a_value<converts<from, To>>()) {
  } else if constexpr (std::is_same_v<std::remove_cvref_t<from>, To>) {
    ::new (at) To(make());
  } else {
    ::new (at) To(convert<To>(make()));
  }
}

/// A container, where braces mean a list of elements.
template <class T>
concept of_list = requires {
  typename T::value_type;
  typename T::size_type;
} && std::constructible_from<T, std::initializer_list<typename T::value_type>>;

/// Two numbers for a container: how many elements, and of what.
template <class To, class... Args>
inline constexpr bool is_count_of = false;
template <of_list To, class Count, class Of>
  requires(number<std::decay_t<Count>> && number<std::decay_t<Of>>)
inline constexpr bool is_count_of<To, Count, Of> = true;

/// Whether `args` make a To as its constructor's arguments, or an aggregate's members.
template <class To, class... Args>
consteval bool made_of() {
  if constexpr (sizeof...(Args) == 1) {
    return (converts<Args, To> && ...);
  } else if constexpr (sizeof...(Args) == 0) {
    return std::is_default_constructible_v<To>;
  } else if constexpr (is_tuple<To>) {
    if constexpr (std::tuple_size_v<To> == sizeof...(Args)) {
      return parts_convert<std::tuple<Args...>, To>(std::index_sequence_for<Args...>{});
    } else {
      return std::is_constructible_v<To, Args...>;
    }
  } else if constexpr (is_count_of<To, Args...>) {
    using all = std::tuple<Args...>;
    return std::is_constructible_v<To, Args...> &&
           converts<std::tuple_element_t<0, all>, typename To::size_type> &&
           converts<std::tuple_element_t<1, all>, typename To::value_type>;
  } else if constexpr (of_list<To>) {
    return std::is_constructible_v<To, Args...>;
  } else {
    return requires { To{std::declval<Args>()...}; };
  }
}

template <class To, class... Args>
void construct_of(void* at, Args&&... args) {
  if constexpr (!fits_a_value<made_of<To, Args&&...>()>()) {
  } else if constexpr (sizeof...(Args) == 1) {
    ::new (at) To(value_from<To>(std::forward<Args>(args)...));
  } else if constexpr (is_count_of<To, Args&&...>) {
    [at](auto count, auto of) {
      using size = typename To::size_type;
      ::new (at) To(convert<size>(count), convert<typename To::value_type>(of));
    }(args...);
  } else {
    ::new (at) To(std::forward<Args>(args)...);
  }
}

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE
