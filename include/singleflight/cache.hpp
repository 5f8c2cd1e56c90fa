// SPDX-License-Identifier: Apache-2.0
#pragma once

/// The cache floor: answers that are stored. Standard library only.

#include "singleflight/cache/live_value.hpp"
#include "singleflight/cache/loading_cache.hpp"
#include "singleflight/cache/memoize.hpp"
#include "singleflight/flight.hpp"
