// SPDX-License-Identifier: Apache-2.0
// expect: singleflight: what is returned or given for a value does not become one without
#include <singleflight/cache.hpp>

singleflight::loading_cache<int, int> cache([](int) {});
