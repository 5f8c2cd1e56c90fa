// SPDX-License-Identifier: Apache-2.0
// expect: singleflight: a cache's load_many takes a std::span<const Key> and returns
#include <span>
#include <vector>

#include <singleflight/cache.hpp>

singleflight::loading_cache<int, int> cache([](int key) { return key; },
                                            [](std::span<const int> keys) {
                                              return std::vector<int>(keys.begin(), keys.end());
                                            });
