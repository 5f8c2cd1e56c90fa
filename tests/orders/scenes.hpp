// SPDX-License-Identifier: Apache-2.0
#pragma once

// The scenes of the memory orders: small pieces of work for real threads, in which one order alone
// makes plain data safe. A scene in which that order is broken is a data race by its very shape,
// whichever way the threads are timed; ThreadSanitizer has to say so.

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
