// SPDX-License-Identifier: Apache-2.0
// expect: singleflight: a function takes a number that does not hold every key or value
#include <cstdint>
#include <utility>

#include <singleflight/cache.hpp>

auto first = singleflight::memoize([](std::pair<int, int> pair) { return pair.first; });
int got = first(std::pair(std::int64_t{5}, std::int64_t{5}));
