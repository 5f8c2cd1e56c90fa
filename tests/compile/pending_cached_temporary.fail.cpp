// SPDX-License-Identifier: Apache-2.0
// expect: await a named handle, not a temporary
#include <docs_prelude.hpp>

#include <singleflight/cache.hpp>

docs::coroutine waits(singleflight::loading_cache<int, int>& cache) { co_await cache.start_get(1); }
