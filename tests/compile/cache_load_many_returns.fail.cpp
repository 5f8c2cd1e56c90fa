// SPDX-License-Identifier: Apache-2.0
// expect: singleflight: a cache's load_many returns a std::vector of outcome<Value>
#include <span>
#include <vector>

#include <singleflight/cache.hpp>

singleflight::loading_cache<int, int> cache([](int key) { return key; },
                                            [](std::span<const int> keys) {
                                              return std::vector<int>(keys.begin(), keys.end());
                                            });
