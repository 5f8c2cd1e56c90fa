// SPDX-License-Identifier: Apache-2.0
#pragma once

// owned_key: a key that owns what it names: a string for a string view, a vector for a span, and
// within a pair, a tuple or the like, the value for a reference. Such a key outlives what it was
// made from. A type of the program's own that refers to something else is not detected.

#include <array>
#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "singleflight/core/detail/parts.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

template <class T>
struct owned {
  using type = T;
};
/// The type that owns all that a T names: T itself if it refers to nothing else.
template <class T>
using owned_key = typename owned<T>::type;

template <class T>
struct owned<const T> {
  using type = const owned_key<T>;
};
template <class T>
struct owned<T&> {
  using type = owned_key<std::remove_const_t<T>>;
};
template <class T>
struct owned<T&&> : owned<T&> {};
template <class C, class T>
struct owned<std::basic_string_view<C, T>> {
  using type = std::basic_string<C, T>;
};
template <class T, std::size_t Extent>
struct owned<std::span<T, Extent>> {
  using type = std::vector<owned_key<std::remove_cv_t<T>>>;
};
template <class T>
struct owned<std::optional<T>> {
  using type = std::optional<owned_key<T>>;
};
template <class A, class B>
struct owned<std::pair<A, B>> {
  using type = std::pair<owned_key<A>, owned_key<B>>;
};
template <class... Parts>
struct owned<std::tuple<Parts...>> {
  using type = std::tuple<owned_key<Parts>...>;
};
template <class... Types>
struct owned<std::variant<Types...>> {
  using type = std::variant<owned_key<Types>...>;
};
template <class T, std::size_t Size>
struct owned<std::array<T, Size>> {
  using type = std::array<owned_key<T>, Size>;
};
template <class T, class A>
  requires(!std::is_same_v<owned_key<T>, T>)
struct owned<std::vector<T, A>> {
  using type = std::vector<owned_key<T>>;
};

/// Whether a T is known to refer to something that it does not own; also true of a container whose
/// elements do.
template <class T>
consteval bool refers_elsewhere() {
  if constexpr (!std::is_same_v<owned_key<T>, T>) {
    return true;
  } else if constexpr (requires { typename T::allocator_type::value_type; }) {
    using element = typename T::allocator_type::value_type;
    if constexpr (std::is_same_v<element, T>) {
      return false;
    } else {
      return detail::refers_elsewhere<element>();
    }
  } else {
    return false;
  }
}

/// Whether a T may own, or give access to, what a view refers to; false for a number, a duration
/// and the like.
template <class T>
concept has_contents = !std::is_trivially_copyable_v<T> || detail::refers_elsewhere<T>() ||
                       requires(const T& t) { t.begin(); };
/// Whether a function's result may refer into one of its arguments, as far as the types show: it is
/// a view, and an argument has contents.
template <class R, class... Args>
consteval bool views_an_argument() {
  return detail::refers_elsewhere<std::decay_t<R>>() &&
         (has_contents<std::remove_cvref_t<Args>> || ...);
}

/// Makes the Key that owns what `from` names. Requires that Key is the owned_key of From, decayed.
template <class Key, class From>
Key own_key(From&& from) {
  using plain = std::remove_cvref_t<From>;
  if constexpr (std::is_same_v<std::remove_const_t<Key>, std::decay_t<From>>) {
    return std::forward<From>(from);
  } else if constexpr (is_optional<plain>) {
    if (!from.has_value()) return std::nullopt;
    return Key(std::in_place, detail::own_key<typename Key::value_type>(*std::forward<From>(from)));
  } else if constexpr (has_parts<plain>) {
    return [&]<std::size_t... I>(std::index_sequence<I...>) {
      return Key{
          detail::own_key<std::tuple_element_t<I, Key>>(std::get<I>(std::forward<From>(from)))...};
    }(std::make_index_sequence<std::tuple_size_v<plain>>{});
  } else if constexpr (is_a<plain, std::variant>) {
    std::optional<Key> made;
    const auto make = [&]<std::size_t I>(std::integral_constant<std::size_t, I>) {
      if (from.index() != I) return;
      using type = std::variant_alternative_t<I, Key>;
      made.emplace(std::in_place_index<I>,
                   detail::own_key<type>(std::get<I>(std::forward<From>(from))));
    };
    [&]<std::size_t... I>(std::index_sequence<I...>) {
      (make(std::integral_constant<std::size_t, I>{}), ...);
    }(std::make_index_sequence<std::variant_size_v<plain>>{});
    return std::move(made).value();
  } else if constexpr (string_like<plain>) {
    return Key(from);
  } else {
    std::remove_const_t<Key> all;
    all.reserve(from.size());
    for (const auto& part : from) {
      all.push_back(detail::own_key<typename Key::value_type>(part));
    }
    return all;
  }
}

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE
