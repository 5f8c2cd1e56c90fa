// SPDX-License-Identifier: Apache-2.0
// expect: singleflight: a function takes a number that does not hold every key or value
#include <cstdint>
#include <utility>

#include <singleflight/cache.hpp>

using wide = std::pair<std::int64_t, std::int64_t>;
singleflight::loading_cache<wide, int> cache([](const std::pair<int, int>& key) {
  return key.first;
});
