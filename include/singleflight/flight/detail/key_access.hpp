// SPDX-License-Identifier: Apache-2.0
#pragma once

// key_access: how a group refers to a key that is stored elsewhere, and what a key has to provide.

#include <algorithm>
#include <array>
#include <concepts>
#include <cstddef>
#include <memory>
#include <type_traits>
#include <variant>
#include <vector>

#include "singleflight/core/support/signature.hpp"
#include "singleflight/flight/key.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

/// Whether a T compares the address of a text instead of its characters: a char*, also as a part of
/// a type that is compared part by part.
template <class T>
inline constexpr bool by_address = false;
template <class T>
inline constexpr bool by_address<const T> = by_address<T>;
template <class T>
inline constexpr bool by_address<T*> =
    std::is_same_v<std::remove_cv_t<T>, char> || std::is_same_v<std::remove_cv_t<T>, wchar_t> ||
    std::is_same_v<std::remove_cv_t<T>, char8_t> || std::is_same_v<std::remove_cv_t<T>, char16_t> ||
    std::is_same_v<std::remove_cv_t<T>, char32_t>;
template <class T, std::size_t Size>
inline constexpr bool by_address<std::array<T, Size>> = by_address<T>;
template <template <class...> class Of, class... Parts>
  requires(is_tuple<Of<Parts...>> || is_optional<Of<Parts...>> ||
           is_a<Of<Parts...>, std::variant> || is_a<Of<Parts...>, std::vector>)
// NOLINTNEXTLINE(misc-redundant-expression): some parts may be of one type
inline constexpr bool by_address<Of<Parts...>> = (by_address<Parts> || ...);

template <class Equal, class View>
concept compares_keys =
    (!std::is_same_v<Equal, key_equal> && std::is_invocable_v<const Equal&, View, View>) ||
    (std::is_same_v<Equal, key_equal> &&
     (
         requires(View a, View b) { a == b; } ||
         requires(View a, View b) { std::equal(a.begin(), a.end(), b.begin(), b.end()); }));

/// Whether the results of a Hash are used as they are.
template <class Hash>
concept is_avalanching = requires { typename Hash::is_avalanching; };

/// How a table node refers to a key that is stored elsewhere: by a view, or by a pointer.
template <class Key, class Hash, class Equal>
struct key_access {
  static constexpr bool viewed =
      !std::is_reference_v<key_view_t<Key>> &&
      std::is_invocable_v<const Hash&, std::conditional_t<std::is_reference_v<key_view_t<Key>>, int,
                                                          key_view_t<Key>>> &&
      std::is_invocable_v<const Equal&, key_view_t<Key>, key_view_t<Key>>;
  using view = std::conditional_t<viewed, key_view_t<Key>, const Key&>;
  using stored = std::conditional_t<viewed, std::remove_cvref_t<key_view_t<Key>>, const Key*>;
  static_assert(compares_all_of<Equal, view>());
  /// Evaluated where a group is made: at that point the key's hash and comparison must be declared.
  static consteval bool is_key() {
    static_assert(std::is_copy_constructible_v<Key>,
                  "singleflight: a key is copied, into what keeps it: this one cannot be. A "
                  "std::shared_ptr can.");
    static_assert(std::is_invocable_v<const Hash&, view>,
                  "singleflight: this key has no hash. Specialize std::hash for it, or name one: "
                  "group<Key, Value, Hash>.");
    static_assert(
        compares_keys<Equal, view>,
        "singleflight: these keys cannot be compared. Give them ==, or name a comparison: "
        "group<Key, Value, Hash, Equal>.");
    static_assert(!by_address<Key> || !std::is_same_v<Equal, key_equal>,
                  "singleflight: a char* as a key is the address of a text, not its characters: "
                  "use a std::string, or name a hash and a comparison: group<Key, Value, Hash, "
                  "Equal>.");
    return true;
  }

  static stored store(view key) noexcept {
    if constexpr (viewed) {
      return key;
    } else {
      return std::addressof(key);
    }
  }
  static view load(const stored& key) noexcept {
    if constexpr (viewed) {
      return key;
    } else {
      return *key;
    }
  }
  /// Returns a view of a key that is stored as a Key.
  static view load_own(const Key& key) noexcept { return view(key); }
  /// Whether a block can store the key as bytes behind itself instead of as a Key.
  static consteval bool bytes_suffice() {
    if constexpr (viewed) {
      using element = std::remove_cv_t<typename stored::value_type>;
      return std::is_trivially_copyable_v<element> && alignof(element) <= alignof(void*);
    } else {
      return false;
    }
  }

  static Key own(view key) {
    if constexpr (!viewed) {
      return key;
    } else if constexpr (std::is_constructible_v<Key, view>) {
      return Key(key);
    } else {
      return Key(key.begin(), key.end());
    }
  }

  /// Whether a view of a call's argument costs nothing; otherwise the argument is first converted
  /// to a Key.
  template <class Arg>
  static constexpr bool free_view =
      std::is_convertible_v<const Arg&, view> && !std::is_null_pointer_v<Arg> &&
      (viewed || std::is_same_v<std::remove_cvref_t<Arg>, Key> ||
       std::is_base_of_v<Key, std::remove_cvref_t<Arg>>);
};

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE
