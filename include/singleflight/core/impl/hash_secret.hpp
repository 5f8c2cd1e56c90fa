// SPDX-License-Identifier: Apache-2.0
#pragma once

// hash_secret: drawing the words, once per process (HS1, HS2).

#include <cstddef>
#include <cstdint>

#include "singleflight/core/support/hash_secret.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

SINGLEFLIGHT_COLD SINGLEFLIGHT_BODY void hash_secret::draw_now(std::uint64_t mine) noexcept {
  std::uint64_t seed = 0;
  if (!platform::holds(rule::first_seed_stays)) {
    seed_.store(mine, memory_order_relaxed);
  } else if (!seed_.compare_exchange_strong(seed, mine, memory_order_relaxed,
                                            memory_order_relaxed)) {
    mine = seed;
  }
  for (std::size_t i = 0; i < count; ++i) {
    words_[i].store(word_of(mine, i), memory_order_relaxed);
  }
  drawn_.store(true, memory_order_release);
}

SINGLEFLIGHT_COLD SINGLEFLIGHT_BODY std::uint64_t secret_seed() noexcept {
  const auto place = reinterpret_cast<std::uintptr_t>(&process_secret::value);
  return platform::random_seed() ^ mix64(static_cast<std::uint64_t>(place) ^ random_bits());
}

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE
