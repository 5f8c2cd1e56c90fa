// SPDX-License-Identifier: Apache-2.0
// expect: singleflight: what is returned or given for a value does not become one without
#include <cstdint>
#include <string>

#include <singleflight/cache.hpp>

singleflight::loading_cache<int, int> cache([](int) { return 1; });
void put() { cache.put(7, std::int64_t{5}); }
