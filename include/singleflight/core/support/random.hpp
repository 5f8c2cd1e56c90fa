// SPDX-License-Identifier: Apache-2.0
#pragma once

// random: random bits for jitter: fast, and different in each thread and process. Not for secrets.
//
// SplitMix64 (Steele, Lea, Flood: "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014),
// with the constants of Vigna's splitmix64.c.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <type_traits>
#include <utility>

#include "singleflight/core/support/platform.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

inline constexpr std::uint64_t mix64(std::uint64_t z) noexcept {
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
  return z ^ (z >> 31);
}

struct SINGLEFLIGHT_SHARED_STATE random_state {
  std::uint64_t position = 0;
};

/// Returns 64 random bits from the calling thread's generator, the generator's address and the
/// current time, so that threads and processes differ, even those that start at the same moment or
/// were forked.
std::uint64_t random_bits() noexcept;

/// A caller's own random source: 64 random bits per call. One with fewer bits would make all jitter
/// small or zero; it does not compile if its type shows that (its min() and max(), its result
/// type).
class random_source : public std::function<std::uint64_t()> {
  using base = std::function<std::uint64_t()>;

 public:
  random_source() = default;
  random_source(std::nullptr_t) noexcept {}  // NOLINT(google-explicit-constructor)
  template <class Fn>
    requires(!std::is_same_v<std::remove_cvref_t<Fn>, random_source> &&
             std::is_constructible_v<base, Fn>)
  random_source(Fn&& fn)  // NOLINT(google-explicit-constructor)
      : base(std::forward<Fn>(fn)) {
    static_assert(has_64_bits<std::decay_t<Fn>>(),
                  "singleflight: a random source returns 64 random bits: std::mt19937_64 does, "
                  "std::mt19937 has 32 of them, a double none.");
  }

 private:
  template <class Fn>
  static consteval bool has_64_bits() {
    using bits = std::numeric_limits<std::remove_cvref_t<std::invoke_result_t<Fn&>>>;
    using source = std::remove_reference_t<std::unwrap_reference_t<Fn>>;
    if constexpr (requires {
                    source::min();
                    source::max();
                  }) {
      constexpr std::uint64_t all = std::numeric_limits<std::uint64_t>::max();
      if (source::min() != 0 || source::max() != all) return false;
    }
    return bits::is_integer && !bits::is_signed && bits::digits == 64;
  }
};

/// Returns 64 random bits as a number in [0, most], evenly spread to 53 bits. Requires most >= 0.
inline constexpr std::int64_t random_up_to(std::int64_t most, std::uint64_t bits) noexcept {
  const double share = static_cast<double>(bits >> 11) * 0x1p-53;  // in [0, 1)
  return std::min(most, static_cast<std::int64_t>(share * (static_cast<double>(most) + 1.0)));
}

/// Returns `fraction` of `whole`, never more than `whole`. Requires whole >= 0 and a fraction in
/// [0, 1].
inline constexpr std::int64_t part_of(std::int64_t whole, double fraction) noexcept {
  const double part = static_cast<double>(whole) * fraction;
  return part < static_cast<double>(whole) ? static_cast<std::int64_t>(part) : whole;
}

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE

#if !defined(SINGLEFLIGHT_COMPILED)
#include "singleflight/core/impl/random.hpp"
#endif
