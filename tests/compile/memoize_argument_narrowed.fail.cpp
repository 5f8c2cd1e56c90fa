// SPDX-License-Identifier: Apache-2.0
// expect: singleflight: a function takes a number that does not hold every key or value
#include <cstdint>

#include <singleflight/cache.hpp>

auto square = singleflight::memoize([](int n) { return n * n; });
int got = square(std::int64_t{5});
