// SPDX-License-Identifier: Apache-2.0
#pragma once

// signature: what a callable takes and returns, where it has but one answer to that; and a call
// that cuts no number: a function that takes an `int` is not called with a 64-bit key.

#include <cstddef>
#include <functional>
#include <tuple>
#include <type_traits>
#include <utility>

#include "singleflight/core/detail/conversion.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

template <class Function>
struct plain_signature;
template <class R, class... Args>
struct plain_signature<std::function<R(Args...)>> {
  using type = R(Args...);
};

/// A function, a lambda without auto, an object with one operator().
template <class Fn>
concept has_one_signature = requires(Fn fn) { std::function(fn); };

/// R(Args...). Requires that it has one.
template <class Fn>
using signature_of = typename plain_signature<decltype(std::function(std::declval<Fn>()))>::type;

template <class Signature>
struct parameters_of;
template <class R, class... Args>
struct parameters_of<R(Args...)> {
  using type = std::tuple<Args...>;
};

/// Of a function with one signature: the type of its parameter `I`; else no number.
template <class Fn, std::size_t I>
consteval auto parameter_type() {
  if constexpr (has_one_signature<Fn>) {
    using all = typename parameters_of<signature_of<Fn>>::type;
    if constexpr (I < std::tuple_size_v<all>) {
      return std::type_identity<std::remove_cvref_t<std::tuple_element_t<I, all>>>{};
    } else {
      return std::type_identity<void>{};
    }
  } else {
    return std::type_identity<void>{};
  }
}
template <class Fn, std::size_t I>
using parameter = typename decltype(parameter_type<Fn, I>())::type;

/// `given` itself, or, where the parameter is another number, that.
template <class Parameter, class Given>
constexpr decltype(auto) pass_number(Given&& given) {
  using plain = std::remove_cvref_t<Given>;
  if constexpr (std::is_arithmetic_v<Parameter> && number<plain> &&
                !std::is_same_v<Parameter, plain>) {
    constexpr bool fits = converts<plain, Parameter>;
    static_assert(fits,
                  "singleflight: a function takes a number that does not hold every key or value "
                  "it is called with: let it take the type itself");
    if constexpr (fits) {
      return convert_number<Parameter>(given);
    } else {
      return static_cast<Parameter>(given);
    }
  } else {
    return static_cast<Given&&>(given);
  }
}

/// Whether a call with `Given` gives a number for one of another type.
template <class Parameters, class... Given>
inline constexpr bool gives_other_numbers = false;
template <class... Args, class... Given>
  requires(sizeof...(Args) == sizeof...(Given))
inline constexpr bool gives_other_numbers<std::tuple<Args...>, Given...> =
    ((std::is_arithmetic_v<std::remove_cvref_t<Args>> && number<std::remove_cvref_t<Given>> &&
      !std::is_same_v<std::remove_cvref_t<Args>, std::remove_cvref_t<Given>>) ||
     ...);
template <class Parameters, class... Given>
concept other_numbers = gives_other_numbers<Parameters, Given...>;

/// What is passed for the parameter `Arg`.
template <class Arg, class Given>
constexpr decltype(auto) call_argument(Given&& given) {
  return pass_number<std::remove_cvref_t<Arg>>(std::forward<Given>(given));
}

/// Calls `fn`, as std::invoke does, with numbers that fit.
template <class Fn, class... Given>
decltype(auto) invoke_whole(Fn&& fn, Given&&... given) {
  using plain = std::remove_cvref_t<Fn>;
  return [&]<std::size_t... I>(std::index_sequence<I...>) -> decltype(auto) {
    return std::invoke(std::forward<Fn>(fn),
                       pass_number<parameter<plain, I>>(std::forward<Given>(given))...);
  }(std::index_sequence_for<Given...>{});
}

/// A std::function that is not made of one which takes smaller numbers than it is called with.
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
  static base whole(Fn&& fn) {
    using plain = std::decay_t<Fn>;
    if constexpr (has_one_signature<plain>) {
      if constexpr (other_numbers<typename parameters_of<signature_of<plain>>::type, Args...>) {
        if (!base(fn)) return {};  // no function at all
        return [mine = plain(std::forward<Fn>(fn))](Args... args) mutable -> R {
          return invoke_whole(mine, std::forward<Args>(args)...);
        };
      } else {
        return base(std::forward<Fn>(fn));
      }
    } else {
      return base(std::forward<Fn>(fn));
    }
  }
};

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE
