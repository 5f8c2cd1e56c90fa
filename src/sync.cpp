// SPDX-License-Identifier: Apache-2.0

// The bodies of sync, for programs that link singleflight::compiled.

#include "singleflight/sync.hpp"

#include "singleflight/sync/impl/semaphore_core.hpp"
#include "singleflight/sync/impl/task_group.hpp"
