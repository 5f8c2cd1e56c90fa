// SPDX-License-Identifier: Apache-2.0
// expect: await a named handle, not a temporary
#include <docs_prelude.hpp>

#include <singleflight/sync.hpp>

docs::coroutine waits(singleflight::group<int, int>& numbers) {
  co_await numbers.start(1, [] { return 1; });
}
