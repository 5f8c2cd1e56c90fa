// SPDX-License-Identifier: Apache-2.0
#pragma once

// standard_hashes: the types of the standard library whose std::hash mixes bytes with well-known
// constants: bits, paths, floating-point numbers. Colliding keys can be computed for such a hash,
// so these types are hashed here, with the secret (docs/design/keys.md, section 3).
//
// Values that == considers equal have the same hash: the two zeroes, a//b and a/b.

#include <algorithm>
#include <bit>
#include <cfloat>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string_view>
#include <type_traits>

#include "singleflight/flight/detail/hashing.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

// ---- bits ---------------------------------------------------------------------------------------

/// `bits` is indexed from 0 to `count`. The bits are packed into words, and every word is hashed.
template <class Bits>
std::uint64_t hash_bits(const hash_secret& secret, const Bits& bits, std::size_t count) noexcept {
  constexpr std::size_t digits = 64;
  std::uint64_t state = count;
  for (std::size_t at = 0; at < count; at += digits) {
    std::uint64_t word = 0;
    const std::size_t size = std::min(digits, count - at);
    for (std::size_t i = 0; i < size; ++i) word = word << 1 | (bits[at + i] ? 1U : 0U);
    state = hash_part(secret, state, word);
  }
  return hash_word(secret, state);
}

// ---- floating-point numbers ---------------------------------------------------------------------

/// Whether all its values are values of double.
template <class Float>
inline constexpr bool fits_double = std::numeric_limits<Float>::digits <= DBL_MANT_DIG &&
                                    std::numeric_limits<Float>::max_exponent <= DBL_MAX_EXP;
template <class Key>
concept hashed_as_float =
    std::floating_point<Key> && (fits_double<Key> || std::same_as<Key, long double>);

inline std::uint64_t hash_float(const hash_secret& secret, double key) noexcept {
  return hash_word(secret, key == 0 ? 0 : std::bit_cast<std::uint64_t>(key));
}
/// Hashes the exponent, and the digits in parts of 62: the bytes of a long double include padding.
inline std::uint64_t hash_float(const hash_secret& secret, long double key) noexcept {
  if (!(key - key == 0)) return hash_float(secret, static_cast<double>(key));  // infinity or NaN
  int exponent = 0;
  long double rest = __builtin_frexpl(key, &exponent);
  auto state = static_cast<std::uint64_t>(exponent);
  for (int digits = 0; digits < std::numeric_limits<long double>::digits; digits += 62) {
    rest *= 0x1p62L;
    const auto part = static_cast<std::int64_t>(rest);
    state = hash_part(secret, state, static_cast<std::uint64_t>(part));
    rest -= static_cast<long double>(part);
  }
  return hash_word(secret, state);
}

// ---- paths --------------------------------------------------------------------------------------

/// Whether the name of `Type` begins with `std::`, where no program may declare types.
template <class Type>
consteval bool is_of_std() {
  const std::string_view name = __PRETTY_FUNCTION__;  // "... Type = std::filesystem::path ..."
  const std::string_view before = "Type = ";
  const std::size_t at = name.find(before);
  if (at == std::string_view::npos) return false;
  const std::string_view type = name.substr(at + before.size());
  return type.starts_with("std::") && !type.starts_with("std::experimental");
}
/// std::filesystem::path, recognized without <filesystem>, which is long. A path of another library
/// has an == of its own, and keeps its std::hash.
template <class Key>
concept standard_path = std::is_class_v<Key> && requires(const Key& key) {
  Key::preferred_separator;
  { key.native() } -> std::same_as<const typename Key::string_type&>;
  requires is_of_std<Key>();
};

/// Hashes name by name: separators in a row count as one, and a separator at the beginning or the
/// end counts as an empty name. So equal paths have the same hash, with any root names.
template <class C>
std::uint64_t hash_path(const hash_secret& secret, std::basic_string_view<C> path,
                        C preferred) noexcept {
  const auto separates = [preferred](C c) { return c == static_cast<C>('/') || c == preferred; };
  const std::size_t size = path.size();
  std::uint64_t state = 0;
  for (std::size_t at = 0;;) {
    const std::size_t name = at;
    while (at < size && !separates(path[at])) ++at;
    state =
        hash_part(secret, state, hash_bytes(secret, path.data() + name, (at - name) * sizeof(C)));
    if (at == size) return state;
    while (at < size && separates(path[at])) ++at;
  }
}

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE
