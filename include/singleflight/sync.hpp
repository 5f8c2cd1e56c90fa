// SPDX-License-Identifier: Apache-2.0
#pragma once

/// The sync floor: bounded fan-out, batching, retries and circuit breakers. Needs the standard
/// library only.

#include "singleflight/flight.hpp"
#include "singleflight/sync/batcher.hpp"
#include "singleflight/sync/circuit_breaker.hpp"
#include "singleflight/sync/error_group.hpp"
#include "singleflight/sync/retry.hpp"
#include "singleflight/sync/run_all.hpp"
#include "singleflight/sync/semaphore.hpp"
#include "singleflight/sync/start_retry.hpp"
