// SPDX-License-Identifier: Apache-2.0
// expect: singleflight: a function takes a number that does not hold every key or value
#include <cstdint>

#include <singleflight/cache.hpp>

struct id {
  id(int from) : value(from) {}
  int value;
};
singleflight::loading_cache<std::int64_t, int> cache([](std::int64_t) { return 1; });
auto removed = cache.invalidate_if([](id key) { return key.value == 7; });
