// SPDX-License-Identifier: Apache-2.0
#pragma once

// hashing: how bytes, words and parts are mixed into 64 bits; docs/design/keys.md gives the
// reasons.
//
// After wyhash (Wang Yi, github.com/wangyi-fudan/wyhash, public domain) and rapidhash (De Carli,
// github.com/Nicoshev/rapidhash): the 128-bit product of two halves, each mixed with a secret word,
// is folded to 64 bits. A factor of 0 would cancel the other one; the part of a key that makes a
// factor 0 equals a secret word, and is as secret as that.

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "singleflight/core/support/hash_secret.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

struct product {
  std::uint64_t low;
  std::uint64_t high;
};

/// For compilers without a type of 128 bits.
constexpr product multiply_by_halves(std::uint64_t a, std::uint64_t b) noexcept {
  const std::uint64_t ah = a >> 32, al = a & 0xffffffffU, bh = b >> 32, bl = b & 0xffffffffU;
  const std::uint64_t mid = ah * bl + ((al * bl) >> 32);
  const std::uint64_t mid2 = al * bh + (mid & 0xffffffffU);
  return {a * b, ah * bh + (mid >> 32) + (mid2 >> 32)};
}
constexpr product multiply(std::uint64_t a, std::uint64_t b) noexcept {
#if defined(__SIZEOF_INT128__)
  __extension__ using wide = unsigned __int128;
  const wide all = static_cast<wide>(a) * b;
  return {static_cast<std::uint64_t>(all), static_cast<std::uint64_t>(all >> 64)};
#else
  return multiply_by_halves(a, b);
#endif
}

constexpr std::uint64_t fold(std::uint64_t a, std::uint64_t b) noexcept {
  const product p = multiply(a, b);
  return p.low ^ p.high;
}

template <class Word>
std::uint64_t read_word(const unsigned char* from) noexcept {
  Word word;
  std::memcpy(&word, from, sizeof word);
  return word;
}

inline std::uint64_t hash_bytes(const hash_secret& secret, const void* data,
                                std::size_t size) noexcept {
  const auto* bytes = static_cast<const unsigned char*>(data);
  std::uint64_t state = secret.word(0);
  std::uint64_t a = 0;
  std::uint64_t b = 0;
  if (size > 16) {
    for (std::size_t left = size; left > 16; left -= 16, bytes += 16) {
      state = fold(read_word<std::uint64_t>(bytes) ^ secret.word(1),
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
  return fold(fold(a ^ secret.word(1), b ^ state), secret.word(2) ^ size);
}
/// Returns one product of two factors that both depend on the word, each in its own way: with a
/// product of the word and a random constant, numbers at a distance that forms a simple fraction
/// with that constant would have few different hashes.
inline std::uint64_t hash_word(const hash_secret& secret, std::uint64_t word) noexcept {
  return fold(word ^ std::rotl(word, 35) ^ secret.word(1),
              __builtin_bswap64(word) ^ (word + secret.word(2)));
}
/// Mixes one more part into `state`.
inline std::uint64_t hash_part(const hash_secret& secret, std::uint64_t state,
                               std::uint64_t part) noexcept {
  return fold(state ^ secret.word(1), part ^ secret.word(0));
}

// ---- with the secret of this process ------------------------------------------------------------

constexpr std::size_t as_size(std::uint64_t hash) noexcept {
  return static_cast<std::size_t>(sizeof(std::size_t) < 8 ? hash ^ hash >> 32 : hash);
}
inline std::size_t hash_bytes(const void* data, std::size_t size) noexcept {
  return as_size(hash_bytes(process_secret::value, data, size));
}
inline std::size_t hash_word(std::uint64_t word) noexcept {
  return as_size(hash_word(process_secret::value, word));
}
inline std::uint64_t hash_part(std::uint64_t state, std::uint64_t part) noexcept {
  return hash_part(process_secret::value, state, part);
}

/// Base of the hashes here; constructing one draws the secret.
struct seeded_hash {
  seeded_hash() noexcept { draw_hash_secret(); }
};

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE
