// SPDX-License-Identifier: Apache-2.0
#pragma once

/// key: how keys are viewed, converted, hashed and compared.
///
/// A group stores keys as `Key` and takes arguments as `key_view_t<Key>`: std::string_view for
/// strings, std::span<const T> for std::vector<T>, const Key& for all other keys. So a literal or a
/// string_view can be looked up in a group of std::string without making a string.
///
/// An argument of another type is converted to Key if that loses nothing: a number if all values of
/// its type are values of the key's type, a class by an implicit conversion. Between signed and
/// unsigned types of the same or a larger width the number itself is checked; if it does not fit,
/// std::invalid_argument is thrown. Other types do not compile. (docs/design/keys.md)
///
/// A key that is a view (std::string_view, a pointer) is stored as it is: the viewed object must
/// outlive the group, cache or other object that stores the key. memoize and deduplicate own their
/// keys.
///
/// Equal keys must have equal hashes. key_hash agrees with == for the types that it lists below. An
/// enumeration with a user-defined == needs a specialization of std::hash, and so does a string of
/// wide characters whose traits define their own eq.
///
/// The result of a user's Hash is mixed with a secret of the process. One with a member type
/// `is_avalanching`, as for Boost.Unordered, is used as it is: each bit of the key must change
/// about half of its bits, and against chosen keys it needs a secret of its own. So a cache evicts
/// the same keys in every run of a simulation.
///
/// Threads     pure functions.
/// Errors      none of the hashes and comparisons here throws; a user's own may throw, and then
///             only its call fails.
/// Cost        key_hash of 16 bytes, or of an integer: two multiplications.

#include <algorithm>
#include <array>
#include <bitset>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "singleflight/core/support/number.hpp"
#include "singleflight/core/support/signature.hpp"
#include "singleflight/flight/detail/hashing.hpp"
#include "singleflight/flight/detail/standard_hashes.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE

namespace detail {

template <class Key>
struct key_view {
  using type = const Key&;
};
template <class C, class T, class A>
struct key_view<std::basic_string<C, T, A>> {
  using type = std::basic_string_view<C, T>;
};
template <class T, class A>
  requires(!std::same_as<T, bool>)
struct key_view<std::vector<T, A>> {
  using type = std::span<const T>;
};

/// Returns whether `size` bytes are equal: overlapping words cover them, without a call. (memcmp is
/// faster from some hundred bytes on; but the hash has read all of them, too.)
inline bool same_bytes(const void* left, const void* right, std::size_t size) noexcept {
  const auto* const a = static_cast<const unsigned char*>(left);
  const auto* const b = static_cast<const unsigned char*>(right);
  const auto differ = [&]<class Word>(Word, std::size_t at) {
    return read_word<Word>(a + at) ^ read_word<Word>(b + at);
  };
  constexpr std::uint64_t eight = 0;
  constexpr std::uint32_t four = 0;
  if (size > 16) {
    const std::size_t last = size - 16;
    for (std::size_t at = 0; at < last; at += 16) {
      if ((differ(eight, at) | differ(eight, at + 8)) != 0) return false;
    }
    return (differ(eight, last) | differ(eight, last + 8)) == 0;
  }
  if (size >= 8) return (differ(eight, 0) | differ(eight, size - 8)) == 0;
  if (size >= 4) return (differ(four, 0) | differ(four, size - 4)) == 0;
  return size == 0 || (a[0] == b[0] && a[size / 2] == b[size / 2] && a[size - 1] == b[size - 1]);
}

}  // namespace detail

template <class Key>
using key_view_t = typename detail::key_view<Key>::type;

namespace detail {
/// Elements that are equal if their bytes are equal (an enumeration may have an == of its own).
template <class T>
inline constexpr bool equal_as_bytes =
    (std::is_arithmetic_v<T> || std::is_pointer_v<T>)&&std::has_unique_object_representations_v<T>;
/// Characters that are equal if their bytes are equal.
template <class C, class Traits>
inline constexpr bool plain_characters =
    std::is_same_v<Traits, std::char_traits<C>> && equal_as_bytes<C>;
/// Such characters with a program's own traits that inherit eq and compare.
template <class C, class Traits>
concept inherits_equality =
    equal_as_bytes<C> && std::is_base_of_v<std::char_traits<C>, Traits> && requires {
      requires(&Traits::eq == &std::char_traits<C>::eq);
      requires(&Traits::compare == &std::char_traits<C>::compare);
    };
template <class T>
concept hashed_by_std = requires(const T& key) {
  { std::hash<T>{}(key) } -> std::convertible_to<std::size_t>;
};
}  // namespace detail

/// The default hash. It hashes numbers, enumerations, pointers, strings, bits and paths; vectors,
/// arrays, pairs, tuples, optionals and variants of types that have a key_hash; and other keys
/// through std::hash<Key>, which also takes precedence if a program defines one for its own
/// enumeration, traits, pair, tuple or array. Every bit of a result is well mixed. Results differ
/// from process to process.
template <class Key>
struct key_hash : detail::seeded_hash {
  std::size_t operator()(const Key& key) const
    requires(detail::hashed_by_std<Key> || detail::is_wide_integer<Key> ||
             detail::standard_path<Key>)
  {
    if constexpr (detail::is_wide_integer<Key>) {
      return detail::hash_bytes(std::addressof(key), sizeof key);
    } else if constexpr (std::is_integral_v<Key>) {
      return detail::hash_word(static_cast<std::uint64_t>(key));
    } else if constexpr (detail::hashed_as_float<Key>) {
      using wide = std::conditional_t<detail::fits_double<Key>, double, long double>;
      const auto value = static_cast<wide>(key);
      return detail::as_size(detail::hash_float(detail::process_secret::value, value));
    } else if constexpr (detail::standard_path<Key>) {
      using view = std::basic_string_view<typename Key::value_type>;
      return detail::as_size(detail::hash_path(detail::process_secret::value, view(key.native()),
                                               Key::preferred_separator));
    } else {
      return detail::hash_word(std::hash<Key>{}(key));
    }
  }
};

namespace detail {

template <class T>
concept has_key_hash = requires(const T& key) {
  { key_hash<T>{}(key) } -> std::convertible_to<std::size_t>;
};

/// For a program's own traits: only their `eq` defines which characters are equal. So a character
/// is hashed as the first character that is equal to it.
template <class C, class Traits>
class equal_characters {
  static_assert(sizeof(C) == 1,
                "singleflight: a string of wide characters whose traits have an eq of their own "
                "needs a std::hash, of itself or its view, or a Hash");

 public:
  static std::uint64_t hash(std::basic_string_view<C, Traits> key) noexcept {
    static const equal_characters all;
    std::uint64_t state = key.size();
    for (const C c : key) state = hash_part(state, all.first_[static_cast<unsigned char>(c)]);
    return state;
  }

 private:
  static constexpr std::size_t count = 256;

  equal_characters() noexcept {
    for (std::size_t code = 0; code < count; ++code) {
      std::size_t first = 0;
      while (first < code && !Traits::eq(static_cast<C>(first), static_cast<C>(code))) ++first;
      first_[code] = static_cast<unsigned char>(first);
    }
  }
  unsigned char first_[count];
};

template <class Parts, std::size_t... I>
consteval bool parts_have_hashes(std::index_sequence<I...>) {
  return (has_key_hash<std::remove_cv_t<std::tuple_element_t<I, Parts>>> && ...);
}
template <class Parts>
struct parts_hash : seeded_hash {
  std::size_t operator()(const Parts& key) const
    requires(hashed_by_std<Parts> ||
             parts_have_hashes<Parts>(std::make_index_sequence<std::tuple_size_v<Parts>>{}))
  {
    if constexpr (hashed_by_std<Parts>) {
      return hash_word(std::hash<Parts>{}(key));
    } else {
      std::uint64_t state = std::tuple_size_v<Parts>;
      const auto add = [&state]<class T>(const T& part) {
        state = hash_part(state, key_hash<T>{}(part));
      };
      std::apply([&](const auto&... part) { (add(part), ...); }, key);
      return as_size(state);
    }
  }
};
template <class Elements>
std::size_t hash_elements(const Elements& all) {
  std::uint64_t state = all.size();
  for (const auto& part : all) {
    state = hash_part(state, key_hash<std::remove_cvref_t<decltype(part)>>{}(part));
  }
  return as_size(state);
}

}  // namespace detail

template <class C, class T, class A>
struct key_hash<std::basic_string<C, T, A>> : detail::seeded_hash {
  std::size_t operator()(std::basic_string_view<C, T> key) const
    requires(std::is_integral_v<C> || std::is_enum_v<C> ||
             detail::hashed_by_std<std::basic_string_view<C, T>>)
  {
    constexpr bool by_std = detail::hashed_by_std<std::basic_string_view<C, T>>;
    if constexpr (detail::plain_characters<C, T> || (!by_std && detail::inherits_equality<C, T>)) {
      return detail::hash_bytes(key.data(), key.size() * sizeof(C));
    } else if constexpr (by_std) {
      return detail::hash_word(std::hash<std::basic_string_view<C, T>>{}(key));
    } else if constexpr (sizeof(C) > 1 && std::is_same_v<T, std::char_traits<C>>) {
      return detail::hash_elements(key);  // enumerations
    } else {
      return detail::as_size(detail::equal_characters<C, T>::hash(key));
    }
  }
};
template <class C, class T, class A>
  requires(!detail::plain_characters<C, T> && detail::hashed_by_std<std::basic_string<C, T, A>> &&
           !detail::hashed_by_std<std::basic_string_view<C, T>>)
struct key_hash<std::basic_string<C, T, A>> : detail::seeded_hash {
  std::size_t operator()(const std::basic_string<C, T, A>& key) const {
    return detail::hash_word(std::hash<std::basic_string<C, T, A>>{}(key));
  }
};
template <class C, class T>
struct key_hash<std::basic_string_view<C, T>> : key_hash<std::basic_string<C, T>> {};

template <class T, class A>
  requires(!std::same_as<T, bool>)
struct key_hash<std::vector<T, A>> : detail::seeded_hash {
  std::size_t operator()(std::span<const T> key) const
    requires(detail::equal_as_bytes<T> || detail::has_key_hash<T>)
  {
    if constexpr (detail::equal_as_bytes<T>) {
      return detail::hash_bytes(key.data(), key.size_bytes());
    } else {
      return detail::hash_elements(key);
    }
  }
};
template <class A>
struct key_hash<std::vector<bool, A>> : detail::seeded_hash {
  std::size_t operator()(const std::vector<bool, A>& key) const {
    return detail::as_size(detail::hash_bits(detail::process_secret::value, key, key.size()));
  }
};
template <std::size_t N>
struct key_hash<std::bitset<N>> : detail::seeded_hash {
  std::size_t operator()(const std::bitset<N>& key) const {
    return detail::as_size(detail::hash_bits(detail::process_secret::value, key, N));
  }
};
template <class A, class B>
struct key_hash<std::pair<A, B>> : detail::parts_hash<std::pair<A, B>> {};
template <class... Parts>
struct key_hash<std::tuple<Parts...>> : detail::parts_hash<std::tuple<Parts...>> {};
template <class T, std::size_t N>
struct key_hash<std::array<T, N>> : detail::seeded_hash {
  std::size_t operator()(const std::array<T, N>& key) const
    requires(detail::hashed_by_std<std::array<T, N>> || detail::has_key_hash<T>)
  {
    if constexpr (detail::hashed_by_std<std::array<T, N>>) {
      return detail::hash_word(std::hash<std::array<T, N>>{}(key));
    } else if constexpr (detail::equal_as_bytes<T>) {
      return detail::hash_bytes(key.data(), N * sizeof(T));
    } else {
      return detail::hash_elements(key);
    }
  }
};
template <class T>
struct key_hash<std::optional<T>> : detail::seeded_hash {
  std::size_t operator()(const std::optional<T>& key) const
    requires detail::has_key_hash<std::remove_const_t<T>>
  {
    if (!key.has_value()) return detail::hash_word(0);
    return detail::as_size(detail::hash_part(1, key_hash<std::remove_const_t<T>>{}(*key)));
  }
};
template <class... Types>
struct key_hash<std::variant<Types...>> : detail::seeded_hash {
  std::size_t operator()(const std::variant<Types...>& key) const
    requires(detail::has_key_hash<Types> && ...)
  {
    if (key.valueless_by_exception()) return detail::hash_word(std::variant_npos);
    const auto hash = []<class T>(const T& value) -> std::uint64_t { return key_hash<T>{}(value); };
    return detail::as_size(detail::hash_part(key.index(), std::visit(hash, key)));
  }
};

namespace detail {
template <class View>
inline constexpr bool view_of_bytes = false;
template <class C, class T>
inline constexpr bool view_of_bytes<std::basic_string_view<C, T>> = plain_characters<C, T>;
template <class T>
inline constexpr bool view_of_bytes<std::span<T>> = equal_as_bytes<std::remove_cv_t<T>>;
}  // namespace detail

/// The default comparison of a group: `==`, and element by element for spans. (Whether there is one
/// is checked where a group is made, not by a constraint here: g++ 12 fails with an internal error
/// when it generates a local class's defaulted == within a class template.)
struct key_equal {
  template <class A, class B>
  bool operator()(const A& a, const B& b) const {
    if constexpr (std::same_as<A, B> && detail::view_of_bytes<A>) {
      return a.size() == b.size() &&
             detail::same_bytes(a.data(), b.data(), a.size() * sizeof(*a.data()));
    } else if constexpr (requires { a == b; }) {
      return a == b;
    } else {
      return std::equal(a.begin(), a.end(), b.begin(), b.end());
    }
  }
};

SINGLEFLIGHT_END_NAMESPACE
