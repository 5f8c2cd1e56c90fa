// SPDX-License-Identifier: Apache-2.0
#pragma once

// Shared by all stress tests: a seed that is printed and can be set (SINGLEFLIGHT_SEED), and a time
// box (SINGLEFLIGHT_STRESS_MS).

#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <iostream>
#include <random>

namespace support {

inline std::uint64_t number_from(const char* variable, std::uint64_t otherwise) {
  const char* const text = std::getenv(variable);
  return text != nullptr ? std::strtoull(text, nullptr, 10) : otherwise;
}

/// A new seed, or the one from SINGLEFLIGHT_SEED; it is printed.
inline std::uint64_t new_seed() {
  const std::uint64_t seed = number_from("SINGLEFLIGHT_SEED", std::random_device{}());
  std::cout << "  SINGLEFLIGHT_SEED=" << seed << '\n';
  return seed;
}

inline std::chrono::milliseconds time_box(std::uint64_t otherwise = 1000) {
  return std::chrono::milliseconds(number_from("SINGLEFLIGHT_STRESS_MS", otherwise));
}

}  // namespace support
