// SPDX-License-Identifier: Apache-2.0
#pragma once

// hash_secret: words that nobody outside the process knows, drawn once, for the default hash.
//
// Keys often come from outside, and who knows a hash can choose keys that collide. So its constants
// are drawn from the system's generator, when the first hash or group of the process is made.
//
// HS1 `seed_` goes from 0 to another value once: by compare-exchange, so that of several threads
//     that draw at a time one wins, and all go on with its seed.
// HS2 The words are computed from the seed alone. Who draws stores all of them, or has acquired
//     `drawn_`, whose release comes after such stores. All of these stores are of the same values,
//     so once a thread has returned from draw() it reads them, whatever other threads still store.
// HS3 What hashes was made after draw() returned; reading a word is one relaxed load, without a
//     guard. A child process goes on with its parent's words, as it does with its tables.

#include <cstddef>
#include <cstdint>

#include "singleflight/core/support/platform.hpp"
#include "singleflight/core/support/random.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

class hash_secret {
 public:
  static constexpr std::size_t count = 3;

  /// `given` is not 0: nothing is drawn.
  constexpr explicit hash_secret(std::uint64_t given) noexcept
      : words_{word_of(given, 0), word_of(given, 1), word_of(given, 2)},
        seed_(given),
        drawn_(given != 0) {}

  /// `source()` gives random bits; what others have drawn already stays.
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

/// One for all shared objects of the process.
struct SINGLEFLIGHT_SHARED_STATE process_secret {
  static inline constinit hash_secret value{platform::given_hash_seed};
};

/// Random bits of the system, and what differs between processes where it gives none.
std::uint64_t secret_seed() noexcept;

/// Before the first hash.
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
