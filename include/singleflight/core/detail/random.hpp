// SPDX-License-Identifier: Apache-2.0
#pragma once

// Randomness for jitter: quick, and different in each thread and process. Not for secrets.
//
// SplitMix64 (Steele, Lea, Flood: "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014),
// with the constants of Vigna's splitmix64.c.

#include <algorithm>
#include <cstdint>

#include "singleflight/core/detail/platform.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

inline constexpr std::uint64_t mix64(std::uint64_t z) noexcept {
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
  return z ^ (z >> 31);
}

struct SINGLEFLIGHT_SHARED_STATE random_state {
  std::uint64_t at = 0;  ///< 0: not seeded
};

/// 64 random bits from the calling thread's own generator. Its seed is the moment of the first call
/// and the place of the thread's state, so threads of one moment and processes of one place differ.
inline std::uint64_t random_bits() noexcept {
  random_state& self = platform::per_thread<random_state>();
  if (self.at == 0) [[unlikely]] {
    self.at = mix64(static_cast<std::uint64_t>(platform::now().time_since_epoch().count())) ^
              mix64(reinterpret_cast<std::uintptr_t>(&self));
  }
  return mix64(self.at += 0x9e3779b97f4a7c15ULL);
}

/// 64 random bits as a number in [0, most], evenly spread to 53 bits. Requires most >= 0.
inline constexpr std::int64_t random_up_to(std::int64_t most, std::uint64_t bits) noexcept {
  const double share = static_cast<double>(bits >> 11) * 0x1p-53;  // in [0, 1)
  return std::min(most, static_cast<std::int64_t>(share * (static_cast<double>(most) + 1.0)));
}

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE
