// SPDX-License-Identifier: Apache-2.0
// expect: singleflight: what is returned or given for a value does not become one without
#include <cstdint>

#include <singleflight/sync.hpp>

singleflight::circuit_breaker breaker;
int got = breaker.call([] { return 1; }, [] { return std::int64_t{5}; });
