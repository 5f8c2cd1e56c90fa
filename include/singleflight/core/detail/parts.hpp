// SPDX-License-Identifier: Apache-2.0
#pragma once

// parts: traits of types that consist of parts (pairs, tuples, optionals and the like, and classes
// derived from them), and the alternative that a variant chooses.

#include <array>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>
#include <variant>
#include <version>
#if defined(__cpp_lib_expected)
#include <expected>
#endif

#include "singleflight/core/support/config.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

template <class, template <class...> class>
inline constexpr bool is_a = false;
template <class... Parts, template <class...> class Of>
inline constexpr bool is_a<Of<Parts...>, Of> = true;

template <template <class...> class Of, class... Parts>
std::type_identity<Of<Parts...>> base_in(const Of<Parts...>* object);
/// Whether T is an Of<...>, or derives from one.
template <class T, template <class...> class Of>
concept has_base = requires(const T* object) { detail::base_in<Of>(object); };
template <class T, template <class...> class Of>
using base_of = typename decltype(detail::base_in<Of>(static_cast<const T*>(nullptr)))::type;

/// Whether a T may be made by a constructor.
template <class T>
inline constexpr bool is_made = std::is_class_v<T> || std::is_union_v<T>;

template <class T>
inline constexpr bool is_optional = is_a<T, std::optional>;
template <class T>
inline constexpr bool is_tuple = is_a<T, std::tuple> || is_a<T, std::pair>;

template <class T, std::size_t Size>
std::type_identity<std::array<T, Size>> parts_in(const std::array<T, Size>* object);
template <class A, class B>
std::type_identity<std::pair<A, B>> parts_in(const std::pair<A, B>* object);
template <class... Parts>
std::type_identity<std::tuple<Parts...>> parts_in(const std::tuple<Parts...>* object);
template <class T>
concept has_parts = requires(const T* object) { detail::parts_in(object); };
template <class T>
using parts_of = typename decltype(detail::parts_in(static_cast<const T*>(nullptr)))::type;

/// `Base` with the reference and the const of From, which derives from it.
template <class From, class Base>
using as_const_as =
    std::conditional_t<std::is_const_v<std::remove_reference_t<From>>, const Base, Base>;
template <class From, class Base>
using as_base = std::conditional_t<std::is_lvalue_reference_v<From>, as_const_as<From, Base>&,
                                   as_const_as<From, Base>&&>;

template <class>
inline constexpr std::size_t part_count = 0;
template <class T>
  requires has_parts<T>
inline constexpr std::size_t part_count<T> = std::tuple_size_v<parts_of<T>>;

template <class T>
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

// ---- variants -----------------------------------------------------------------------------------

/// Whether `To x[] = {from}` is well-formed; a variant chooses by this rule.
template <class From, class To>
concept fills_an_array = requires { std::type_identity_t<To[]>{std::declval<From>()}; };

template <class From, std::size_t I, class Part>
struct variant_choice {
  std::integral_constant<std::size_t, I> operator()(Part) const
    requires fills_an_array<From, Part>;
};
template <class From, class Positions, class... Parts>
struct variant_choices;
template <class From, std::size_t... I, class... Parts>
struct variant_choices<From, std::index_sequence<I...>, Parts...>
    : variant_choice<From, I, Parts>... {
  using variant_choice<From, I, Parts>::operator()...;
};
template <class From, class Variant>
struct choices_of;
template <class From, class... Parts>
struct choices_of<From, std::variant<Parts...>> {
  using type = variant_choices<From, std::index_sequence_for<Parts...>, Parts...>;
};
template <class From, class Variant>
concept chooses =
    requires(typename choices_of<From, Variant>::type choices) { choices(std::declval<From>()); };
/// The position of the type that a Variant chooses for From.
template <class From, class Variant>
inline constexpr std::size_t chosen =
    decltype(std::declval<typename choices_of<From, Variant>::type>()(std::declval<From>()))::value;

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE
