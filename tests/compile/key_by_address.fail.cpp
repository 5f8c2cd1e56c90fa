// SPDX-License-Identifier: Apache-2.0
// expect: singleflight: a char. as a key is the address of a text
#include <utility>

#include <singleflight/cache.hpp>

singleflight::loading_cache<std::pair<const char*, int>, int> cache(
    [](const auto& key) { return key.second; }, {});
