// SPDX-License-Identifier: Apache-2.0
#pragma once

/// key: how keys are looked at, hashed and compared.
///
/// A group keeps keys as `Key` and meets arguments as `key_view_t<Key>`: std::string_view for
/// strings, std::span<const T> for std::vector<T>, const Key& for the rest. So a group of
/// std::string is asked with a literal or a string_view without making a string.
///
/// Threads     pure functions.
/// Errors      none of the hashes and comparisons here throws; a user's own may, and harms its call
///             only.
/// Cost        key_hash of 16 bytes: two multiplications.

#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "singleflight/core/detail/config.hpp"

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

// A hash after wyhash (Wang Yi, github.com/wangyi-fudan/wyhash, public domain): the 128-bit product
// of the two halves, each mixed with a constant, folded to 64 bits.

inline std::uint64_t fold_multiply(std::uint64_t a, std::uint64_t b) noexcept {
#if defined(__SIZEOF_INT128__)
  __extension__ using wide = unsigned __int128;
  const wide product = static_cast<wide>(a) * b;
  return static_cast<std::uint64_t>(product) ^ static_cast<std::uint64_t>(product >> 64);
#else
  const std::uint64_t ah = a >> 32, al = a & 0xffffffffU, bh = b >> 32, bl = b & 0xffffffffU;
  const std::uint64_t mid = ah * bl + ((al * bl) >> 32);
  const std::uint64_t mid2 = al * bh + (mid & 0xffffffffU);
  return (a * b) ^ (ah * bh + (mid >> 32) + (mid2 >> 32));
#endif
}

inline constexpr std::uint64_t hash_salt[3] = {0x9e3779b97f4a7c15U, 0xd6e8feb86659fd93U,
                                               0xa0761d6478bd642fU};

template <class Word>
std::uint64_t read_word(const unsigned char* from) noexcept {
  Word word;
  std::memcpy(&word, from, sizeof word);
  return word;
}

inline std::uint64_t hash_bytes(const void* data, std::size_t size) noexcept {
  const auto* bytes = static_cast<const unsigned char*>(data);
  std::uint64_t state = hash_salt[0];
  std::uint64_t a = 0;
  std::uint64_t b = 0;
  if (size > 16) {
    for (std::size_t left = size; left > 16; left -= 16, bytes += 16) {
      state = fold_multiply(read_word<std::uint64_t>(bytes) ^ hash_salt[1],
                            read_word<std::uint64_t>(bytes + 8) ^ state);
    }
    const auto* end = static_cast<const unsigned char*>(data) + size;
    a = read_word<std::uint64_t>(end - 16);
    b = read_word<std::uint64_t>(end - 8);
  } else if (size >= 8) {
    a = read_word<std::uint64_t>(bytes);
    b = read_word<std::uint64_t>(bytes + size - 8);
  } else if (size >= 4) {
    a = read_word<std::uint32_t>(bytes);
    b = read_word<std::uint32_t>(bytes + size - 4);
  } else if (size > 0) {
    a = std::uint64_t{bytes[0]} << 16 | std::uint64_t{bytes[size / 2]} << 8 | bytes[size - 1];
  }
  return fold_multiply(hash_salt[2] ^ size, fold_multiply(a ^ hash_salt[1], b ^ state));
}

/// Whether `size` bytes are the same: words that overlap cover them, without a call. (memcmp is
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

inline std::uint64_t hash_word(std::uint64_t word) noexcept {
  return fold_multiply(word ^ hash_salt[1], hash_salt[0]);
}

}  // namespace detail

template <class Key>
using key_view_t = typename detail::key_view<Key>::type;

/// The default hash of a group. Strings, integers, enumerations, pointers and vectors of these are
/// hashed here; other keys through std::hash<Key>. Results are well mixed in every bit, so that the
/// half that a std::size_t of 32 bits keeps is as good as the other.
template <class Key>
struct key_hash {
  std::size_t operator()(const Key& key) const
    requires requires {
      { std::hash<Key>{}(key) } -> std::convertible_to<std::size_t>;
    }
  {
    if constexpr (std::is_integral_v<Key> || std::is_enum_v<Key>) {
      return static_cast<std::size_t>(detail::hash_word(static_cast<std::uint64_t>(key)));
    } else {
      return static_cast<std::size_t>(detail::hash_word(std::hash<Key>{}(key)));
    }
  }
};
template <class C, class T, class A>
struct key_hash<std::basic_string<C, T, A>> {
  std::size_t operator()(std::basic_string_view<C, T> key) const noexcept {
    return static_cast<std::size_t>(detail::hash_bytes(key.data(), key.size() * sizeof(C)));
  }
};
template <class C, class T>
struct key_hash<std::basic_string_view<C, T>> : key_hash<std::basic_string<C, T>> {};
template <class T, class A>
  requires(!std::same_as<T, bool>)
struct key_hash<std::vector<T, A>> {
  std::size_t operator()(std::span<const T> key) const {
    if constexpr (std::has_unique_object_representations_v<T>) {
      return static_cast<std::size_t>(detail::hash_bytes(key.data(), key.size_bytes()));
    } else {
      std::uint64_t state = key.size();
      for (const T& part : key) {
        state = detail::fold_multiply(state ^ detail::hash_salt[1],
                                      key_hash<T>{}(part) ^ detail::hash_salt[0]);
      }
      return static_cast<std::size_t>(state);
    }
  }
};

namespace detail {
/// Elements that are equal where their bytes are (an enumeration may have an == of its own).
template <class T>
inline constexpr bool equal_as_bytes =
    (std::is_arithmetic_v<T> || std::is_pointer_v<T>)&&std::has_unique_object_representations_v<T>;
template <class View>
inline constexpr bool view_of_bytes = false;
template <class C>
inline constexpr bool view_of_bytes<std::basic_string_view<C, std::char_traits<C>>> =
    equal_as_bytes<C>;
template <class T>
inline constexpr bool view_of_bytes<std::span<T>> = equal_as_bytes<std::remove_cv_t<T>>;
}  // namespace detail

/// The default comparison of a group: `==`, and element by element for spans.
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

namespace detail {

/// What a table node keeps of a key that lives elsewhere: a view by value, or a pointer.
template <class Key, class Hash, class Equal>
struct key_access {
  static constexpr bool viewed =
      !std::is_reference_v<key_view_t<Key>> &&
      std::is_invocable_v<const Hash&, std::conditional_t<std::is_reference_v<key_view_t<Key>>, int,
                                                          key_view_t<Key>>> &&
      std::is_invocable_v<const Equal&, key_view_t<Key>, key_view_t<Key>>;
  using view = std::conditional_t<viewed, key_view_t<Key>, const Key&>;
  using stored = std::conditional_t<viewed, std::remove_cvref_t<key_view_t<Key>>, const Key*>;

  static stored store(view key) noexcept {
    if constexpr (viewed) {
      return key;
    } else {
      return &key;
    }
  }
  static view load(const stored& key) noexcept {
    if constexpr (viewed) {
      return key;
    } else {
      return *key;
    }
  }
  /// A view of a key that is kept as it is.
  static view load_own(const Key& key) noexcept { return view(key); }
  /// Whether a block can keep the key as bytes behind itself instead of as a Key.
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

  /// A call's argument, converted first: a view of it where that is free, else a Key made for the
  /// call.
  template <class Arg>
  static constexpr bool free_view = std::is_convertible_v<const Arg&, view> &&
                                    (viewed || std::is_same_v<std::remove_cvref_t<Arg>, Key> ||
                                     std::is_base_of_v<Key, std::remove_cvref_t<Arg>>);
};

}  // namespace detail

SINGLEFLIGHT_END_NAMESPACE
