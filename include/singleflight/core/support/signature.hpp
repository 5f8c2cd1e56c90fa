// SPDX-License-Identifier: Apache-2.0
#pragma once

// signature: the parameters and the result of a callable that has only one signature; and a call
// that loses nothing: a function that takes an `int`, or a class made from one, is not called with
// a 64-bit key.

#include <cstddef>
#include <functional>
#include <tuple>
#include <type_traits>
#include <utility>

#include "singleflight/core/support/conversion.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

template <class Function>
struct plain_signature;
template <class R, class... Args>
struct plain_signature<std::function<R(Args...)>> {
  using type = R(Args...);
};

/// A function, a lambda without auto, or an object with one operator().
template <class Fn>
concept has_one_signature = requires(Fn fn) { std::function(fn); };

/// R(Args...). Requires has_one_signature.
template <class Fn>
using signature_of = typename plain_signature<decltype(std::function(std::declval<Fn>()))>::type;

template <class Signature>
struct parameters_of;
template <class R, class... Args>
struct parameters_of<R(Args...)> {
  using type = std::tuple<Args...>;
};

/// The type of the parameter `I` of a function with one signature; otherwise void.
template <class Fn, std::size_t I>
consteval auto parameter_type() {
  if constexpr (has_one_signature<Fn>) {
    using all = typename parameters_of<signature_of<Fn>>::type;
    if constexpr (I < std::tuple_size_v<all>) {
      return std::type_identity<std::tuple_element_t<I, all>>{};
    } else {
      return std::type_identity<void>{};
    }
  } else {
    return std::type_identity<void>{};
  }
}
template <class Fn, std::size_t I>
using parameter = typename decltype(parameter_type<Fn, I>())::type;

/// The type that an argument is checked as: it outlives the call, so a parameter may be a view of
/// it.
template <class Given, class Parameter>
using argument_as =
    std::conditional_t<std::is_convertible_v<const std::remove_cvref_t<Given>&, Parameter>,
                       const std::remove_cvref_t<Given>&, Given>;

/// Whether the language's conversion of `Given` to the parameter could lose something.
template <class Parameter, class Given>
consteval bool may_lose() {
  using plain = std::remove_cvref_t<Parameter>;
  using given = std::remove_cvref_t<Given>;
  if constexpr (std::is_void_v<plain> || std::is_same_v<plain, given> ||
                std::is_base_of_v<plain, given> || !std::is_convertible_v<Given, Parameter>) {
    return false;
  } else {
    return fit_to<argument_as<Given, plain>, plain>() != fit::always;
  }
}
/// Whether that is so for any argument of a call with `Given`.
template <class Parameters, class... Given>
inline constexpr bool any_may_lose = false;
template <class... Args, class... Given>
  requires(sizeof...(Args) == sizeof...(Given))
inline constexpr bool any_may_lose<std::tuple<Args...>, Given...> =
    (may_lose<Args, Given>() || ...);
template <class Parameters, class... Given>
concept to_be_converted = any_may_lose<Parameters, Given...>;

/// Reports once, in one line, that a function cannot be called.
template <bool Fits>
consteval bool takes_all_of_it() {
  static_assert(Fits,
                "singleflight: a function takes a number that does not hold every key or value it "
                "is called with, or what is made of such a number: let it take the type itself");
  return Fits;
}

/// Returns what is passed for the parameter: `given` itself, or the result of convert().
template <class Parameter, class Given>
constexpr decltype(auto) call_argument(Given&& given) {
  if constexpr (may_lose<Parameter, Given&&>()) {
    using plain = std::remove_cvref_t<Parameter>;
    if constexpr (takes_all_of_it<converts<argument_as<Given&&, plain>, plain>>()) {
      return detail::convert<plain>(std::forward<Given>(given));
    } else {
      return static_cast<plain>(std::forward<Given>(given));
    }
  } else {
    return static_cast<Given&&>(given);
  }
}

/// Whether a comparison distinguishes all keys that differ; one between signed and unsigned does.
template <class Equal, class Key>
consteval bool compares_all_of() {
  const auto holds = []<class Parameter>(std::type_identity<Parameter>) {
    if constexpr (may_lose<Parameter, Key>()) {
      return takes_all_of_it<converts<Key, std::remove_cvref_t<Parameter>>>();
    } else {
      return true;
    }
  };
  return holds(std::type_identity<parameter<Equal, 0>>{}) &&
         holds(std::type_identity<parameter<Equal, 1>>{});
}

/// Calls `fn`, as std::invoke does, with arguments that lose nothing.
template <class Fn, class... Given>
decltype(auto) invoke_whole(Fn&& fn, Given&&... given) {
  using plain = std::remove_cvref_t<Fn>;
  return [&]<std::size_t... I>(std::index_sequence<I...>) -> decltype(auto) {
    return std::invoke(std::forward<Fn>(fn),
                       detail::call_argument<parameter<plain, I>>(std::forward<Given>(given))...);
  }(std::index_sequence_for<Given...>{});
}

/// A std::function that cannot be constructed from a callable whose parameters do not hold every
/// argument, or whose result does not convert to R without loss. A result that is checked at run
/// time and does not fit is rejected by the call.
template <class Signature>
class whole_function;
template <class R, class... Args>
class whole_function<R(Args...)> : public std::function<R(Args...)> {
  using base = std::function<R(Args...)>;

 public:
  whole_function() = default;
  whole_function(std::nullptr_t) noexcept {}  // NOLINT(google-explicit-constructor)
  template <class Fn>
    requires(!std::is_same_v<std::remove_cvref_t<Fn>, whole_function> &&
             std::is_constructible_v<base, Fn>)
  whole_function(Fn&& fn)  // NOLINT(google-explicit-constructor)
      : base(whole(std::forward<Fn>(fn))) {}

 private:
  template <class Fn>
  static consteval bool loses_nothing() {
    using result = std::invoke_result_t<Fn&, Args...>;
    if constexpr (has_one_signature<Fn>) {
      if (to_be_converted<typename parameters_of<signature_of<Fn>>::type, Args...>) return false;
    }
    return std::is_void_v<R> || fit_to<result, R>() == fit::always;
  }
  template <class Fn>
  static R call(Fn& fn, Args... args) {
    using result = std::invoke_result_t<Fn&, Args...>;
    if constexpr (std::is_void_v<R>) {
      detail::invoke_whole(fn, std::forward<Args>(args)...);
    } else if constexpr (fits_a_value<converts<result, R>>()) {
      return detail::convert<R>(detail::invoke_whole(fn, std::forward<Args>(args)...));
    } else {
      return static_cast<R>(detail::invoke_whole(fn, std::forward<Args>(args)...));
    }
  }
  template <class Fn>
  static base whole(Fn&& fn) {
    using plain = std::decay_t<Fn>;
    if constexpr (loses_nothing<plain>()) {
      return base(std::forward<Fn>(fn));
    } else {
      if (!base(fn)) return {};  // empty
      return [mine = plain(std::forward<Fn>(fn))](Args... args) mutable -> R {
        return call(mine, std::forward<Args>(args)...);
      };
    }
  }
};

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE
