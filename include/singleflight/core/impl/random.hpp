// SPDX-License-Identifier: Apache-2.0
#pragma once

// random: the calling thread's generator.

#include <cstdint>

#include "singleflight/core/support/random.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

SINGLEFLIGHT_BODY std::uint64_t random_bits() noexcept {
  random_state& self = platform::per_thread<random_state>();
  self.position += 0x9e3779b97f4a7c15ULL;
  const auto place = static_cast<std::uint64_t>(reinterpret_cast<std::uintptr_t>(&self));
  const auto moment = static_cast<std::uint64_t>(platform::now().time_since_epoch().count());
  return mix64(mix64(self.position ^ place) ^ moment);
}

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE
