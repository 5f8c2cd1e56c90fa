// SPDX-License-Identifier: Apache-2.0
#pragma once

// promise_door: how a load makes the flight_promise that it passes to its loader, and what a call
// that answers several promises reads of each. The only friend of flight_promise.

#include "singleflight/core/support/thread_state.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE

template <class V>
class flight_promise;

namespace detail {

struct answering_load;

struct promise_door {
  /// Makes the promise of the attempt that begins.
  template <class V>
  static flight_promise<V> make(answering_load& load) noexcept {
    return flight_promise<V>(load);
  }
  /// Returns the frame that marks the calling thread as the leader of the promise's flight.
  template <class V>
  static led_frame frame_of(const flight_promise<V>& promise, const led_frame* outer) noexcept {
    return promise.frame_here(outer);
  }
};

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE
