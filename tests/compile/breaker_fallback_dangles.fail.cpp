// SPDX-License-Identifier: Apache-2.0
// expect: returns a reference and its fallback a value
//
// The reference would refer to the fallback's result, which has been destroyed.
#include <string>

#include <singleflight/sync.hpp>

void use(singleflight::circuit_breaker& breaker, const std::string& here) {
  breaker.call([&]() -> const std::string& { return here; }, [] { return std::string(); });
}
