// SPDX-License-Identifier: Apache-2.0
// expect: await a named handle, not a temporary
#include <docs_prelude.hpp>

#include <singleflight/sync.hpp>

docs::coroutine waits(singleflight::semaphore& permits) { co_await permits.start_acquire(); }
