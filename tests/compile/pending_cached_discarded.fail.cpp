// SPDX-License-Identifier: Apache-2.0
// expect: nodiscard
#include <singleflight/cache.hpp>

void warm(singleflight::loading_cache<int, int>& cache) { cache.start_get(1); }
