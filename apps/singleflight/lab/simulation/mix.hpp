// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace singleflight::lab {

/// The finalizer of SplitMix64, with Stafford's constants: bits that look random, and are the same
/// on every machine.
constexpr std::uint64_t mix(std::uint64_t bits) {
  bits = (bits ^ (bits >> 30U)) * 0xbf58476d1ce4e5b9;
  bits = (bits ^ (bits >> 27U)) * 0x94d049bb133111eb;
  return bits ^ (bits >> 31U);
}

}  // namespace singleflight::lab
