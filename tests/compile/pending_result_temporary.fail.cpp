// SPDX-License-Identifier: Apache-2.0
// expect: await a named handle, not a temporary
//
// g++ 12 destroys some temporaries of a co_await expression twice.
#include <docs_prelude.hpp>

#include <singleflight/sync.hpp>

docs::coroutine waits() {
  co_await singleflight::start_retry({}, [] {});
}
