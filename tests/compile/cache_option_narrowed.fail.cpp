// SPDX-License-Identifier: Apache-2.0
// expect: singleflight: a function takes a number that does not hold every key or value
#include <cstddef>
#include <cstdint>

#include <singleflight/cache.hpp>

singleflight::loading_cache<std::int64_t, int> cache([](std::int64_t) { return 1; },
                                                     {.weigher = [](int key, int) {
                                                       return static_cast<std::size_t>(key);
                                                     }});
