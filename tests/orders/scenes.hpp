// SPDX-License-Identifier: Apache-2.0
#pragma once

// The scenes of the memory orders: small pieces of work for real threads, in which a single order
// makes plain data safe. When that order is broken, the scene is a data race by construction,
// however the threads are timed; ThreadSanitizer must report it.

#include <span>

#include "support/rules.hpp"

namespace orders {

struct scene {
  singleflight::detail::rule_id claims;
  const char* name;
  void (*play)();  ///< one round
};

/// Every scene, once for each rule that it claims.
std::span<const scene> all();

}  // namespace orders
