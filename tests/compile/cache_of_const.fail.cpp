// SPDX-License-Identifier: Apache-2.0
// expect: a cache keeps values: Value is an object type, without const
#include <singleflight/cache.hpp>

singleflight::loading_cache<int, const int> cache([](int) { return 1; });
