// SPDX-License-Identifier: Apache-2.0
// expect: returns a reference and its fallback a value
//
// The reference would be one to the fallback's result, which has gone.
#include <string>

#include <singleflight/sync.hpp>

void use(singleflight::circuit_breaker& breaker, const std::string& here) {
  breaker.call([&]() -> const std::string& { return here; }, [] { return std::string(); });
}
