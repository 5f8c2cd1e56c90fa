// SPDX-License-Identifier: Apache-2.0
#pragma once

// cache_door: how a loading_cache makes the handles that it returns. A friend of cached and of
// pending_cached.

#include <utility>

#include "singleflight/cache/cached.hpp"
#include "singleflight/cache/detail/hazard.hpp"
#include "singleflight/cache/pending_cached.hpp"
#include "singleflight/core/outcome.hpp"
#include "singleflight/core/timer.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

struct cache_door {
  /// `hold` is the hold of the entry that has `value`, which is null for an absence.
  template <class Value>
  static cached<Value> make_cached(hazard_hold&& hold, const Value* value, timer& clock,
                                   freshness as) noexcept {
    return cached<Value>(std::move(hold), value, clock, as);
  }
  /// Makes the handle of an answer that needs no load; `group` is the one that would have loaded
  /// it.
  template <class Value>
  static pending_cached<Value> make_pending(outcome<cached<Value>>&& answer,
                                            flight_core& group) noexcept {
    return pending_cached<Value>(std::move(answer), group);
  }
  /// Makes the handle of a share of a load.
  template <class Value>
  static pending_cached<Value> make_pending(flight<cached<Value>>&& load) noexcept {
    return pending_cached<Value>(std::move(load));
  }
};

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE
