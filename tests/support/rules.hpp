// SPDX-License-Identifier: Apache-2.0
#pragma once

// The rules of all floors, for the tests that break them one by one.

#include "singleflight/cache/detail/rules.hpp"
#include "singleflight/core/support/rules.hpp"
#include "singleflight/flight/detail/rules.hpp"
#include "singleflight/sync/detail/rules.hpp"

// X(rule, what breaks without it)
#define SINGLEFLIGHT_RULES(X) \
  SINGLEFLIGHT_CORE_RULES(X)  \
  SINGLEFLIGHT_FLIGHT_RULES(X) SINGLEFLIGHT_SYNC_RULES(X) SINGLEFLIGHT_CACHE_RULES(X)

// X(order, what breaks without it)
#define SINGLEFLIGHT_ORDER_RULES(X)  \
  SINGLEFLIGHT_CORE_ORDER_RULES(X)   \
  SINGLEFLIGHT_FLIGHT_ORDER_RULES(X) \
  SINGLEFLIGHT_SYNC_ORDER_RULES(X) SINGLEFLIGHT_CACHE_ORDER_RULES(X)
