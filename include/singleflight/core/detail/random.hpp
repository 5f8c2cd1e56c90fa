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
  std::uint64_t at = 0;
};

/// 64 random bits from the calling thread's own generator, its place in memory, and this moment: so
/// threads of one moment differ, and processes, and those that were forked from one another.
inline std::uint64_t random_bits() noexcept {
  random_state& self = platform::per_thread<random_state>();
  self.at += 0x9e3779b97f4a7c15ULL;
  const auto place = static_cast<std::uint64_t>(reinterpret_cast<std::uintptr_t>(&self));
  const auto moment = static_cast<std::uint64_t>(platform::now().time_since_epoch().count());
  return mix64(mix64(self.at ^ place) ^ moment);
}

/// 64 random bits as a number in [0, most], evenly spread to 53 bits. Requires most >= 0.
inline constexpr std::int64_t random_up_to(std::int64_t most, std::uint64_t bits) noexcept {
  const double share = static_cast<double>(bits >> 11) * 0x1p-53;  // in [0, 1)
  return std::min(most, static_cast<std::int64_t>(share * (static_cast<double>(most) + 1.0)));
}

/// `fraction` of `whole`, never more than that. Requires whole >= 0 and a fraction in [0, 1].
inline constexpr std::int64_t part_of(std::int64_t whole, double fraction) noexcept {
  const double part = static_cast<double>(whole) * fraction;
  return part < static_cast<double>(whole) ? static_cast<std::int64_t>(part) : whole;
}

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE
