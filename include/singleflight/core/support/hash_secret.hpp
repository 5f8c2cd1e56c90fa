// SPDX-License-Identifier: Apache-2.0
#pragma once

// hash_secret: secret words for the default hash, drawn once per process.
//
// Keys often come from outside, and an attacker who knows a hash can choose keys that collide. So
// its constants are drawn from the system's generator when the process makes its first hash or
// group.
//
// HS1 `seed_` changes from 0 to another value once, by compare-exchange: of several threads that
//     draw concurrently one wins, and all of them use its seed.
// HS2 The words are computed from the seed alone. A thread that returns from draw() has stored all
//     of them, or has acquired `drawn_`, whose release follows such stores. All these stores write
//     the same values, so the thread reads those values, whatever other threads still store.
// HS3 Every object that hashes was constructed after draw() returned; reading a word is one relaxed
//     load, without a guard. A child process keeps its parent's words, as it keeps its tables.

#include <cstddef>
#include <cstdint>

#include "singleflight/core/support/platform.hpp"
#include "singleflight/core/support/random.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

class hash_secret {
 public:
  static constexpr std::size_t count = 3;

  /// If `given` is not 0, it is the seed, and nothing is drawn.
  constexpr explicit hash_secret(std::uint64_t given) noexcept
      : words_{word_of(given, 0), word_of(given, 1), word_of(given, 2)},
        seed_(given),
        drawn_(given != 0) {}

  /// `source()` returns random bits; a seed that another thread has drawn already is kept.
  template <class Source>
  void draw(Source&& source) noexcept {
    if (!drawn_.load(memory_order_acquire)) [[unlikely]] {
      draw_now(source() | 1);
    }
  }
  /// Requires that draw() has returned. Never 0.
  std::uint64_t word(std::size_t i) const noexcept { return platform::settled(words_[i]); }

 private:
  static constexpr std::uint64_t word_of(std::uint64_t seed, std::uint64_t i) noexcept {
    return mix64(seed + (i + 1) * 0x9e3779b97f4a7c15U) | 1;
  }
  void draw_now(std::uint64_t mine) noexcept;

  atomic<std::uint64_t> words_[count];
  atomic<std::uint64_t> seed_;
  atomic<bool> drawn_;
};

/// One instance for all shared objects of the process.
struct SINGLEFLIGHT_SHARED_STATE process_secret {
  static inline constinit hash_secret value{platform::given_hash_seed};
};

/// Returns random bits from the system, mixed with what differs between processes in case it has
/// none.
std::uint64_t secret_seed() noexcept;

/// Must be called before the first hash.
inline void draw_hash_secret() noexcept {
  if constexpr (platform::given_hash_seed == 0) {
    process_secret::value.draw(&secret_seed);
  }
}

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE

#if !defined(SINGLEFLIGHT_COMPILED)
#include "singleflight/core/impl/hash_secret.hpp"
#endif
