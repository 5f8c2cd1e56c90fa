// SPDX-License-Identifier: Apache-2.0
#pragma once

/// The core floor: outcomes and errors, executors, timers, observers. Standard library only.

#include "singleflight/core/default_timer.hpp"
#include "singleflight/core/errors.hpp"
#include "singleflight/core/executor.hpp"
#include "singleflight/core/handle_wait.hpp"
#include "singleflight/core/limits.hpp"
#include "singleflight/core/manual_timer.hpp"
#include "singleflight/core/observable.hpp"
#include "singleflight/core/outcome.hpp"
#include "singleflight/core/pending_result.hpp"
#include "singleflight/core/thread_pool.hpp"
#include "singleflight/core/timer.hpp"
