// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

namespace singleflight::lab {

/// The finalizer of SplitMix64 by Steele, Lea and Flood, with Stafford's constants: bits that look
/// random, and are the same on every machine. The n-th number of SplitMix64 is the mix of its start
/// value plus n times splitmix_step.
constexpr std::uint64_t splitmix_step = 0x9e3779b97f4a7c15;

constexpr std::uint64_t mix(std::uint64_t bits) {
  bits = (bits ^ (bits >> 30U)) * 0xbf58476d1ce4e5b9;
  bits = (bits ^ (bits >> 27U)) * 0x94d049bb133111eb;
  return bits ^ (bits >> 31U);
}

/// key_mix: the hash of a numbered key, without a secret, so that a cache evicts the same keys in
/// every run.
struct key_mix {
  using is_avalanching = void;
  std::size_t operator()(std::uint32_t key) const { return mix(key + splitmix_step); }
};

}  // namespace singleflight::lab
