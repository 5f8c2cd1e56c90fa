// SPDX-License-Identifier: Apache-2.0
#pragma once

// live_door: how a live_value makes the handles that it returns. A friend of live_snapshot and of
// subscription.

#include <memory>
#include <utility>

#include "singleflight/cache/detail/hazard.hpp"
#include "singleflight/cache/live_snapshot.hpp"
#include "singleflight/cache/subscription.hpp"
#include "singleflight/core/timer.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

struct live_door {
  /// `hold` is the hold of a live_node<T>.
  template <class T>
  static live_snapshot<T> make_snapshot(hazard_hold&& hold, timer& clock) noexcept {
    return live_snapshot<T>(std::move(hold), clock);
  }
  /// Adds `listener`, which the subscription owns.
  static subscription subscribe(std::shared_ptr<live_listeners> listeners,
                                std::unique_ptr<live_listeners::listener> listener) noexcept {
    return {std::move(listeners), std::move(listener)};
  }
};

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE
