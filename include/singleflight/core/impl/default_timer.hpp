// SPDX-License-Identifier: Apache-2.0
#pragma once

// default_timer: the process-wide timer, and arming a node while it has no thread.

#include <exception>

#include "singleflight/core/default_timer.hpp"
#include "singleflight/core/detail/steady_timer.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

SINGLEFLIGHT_BODY bool arm_patiently(timer& clock, timer_node& node, steady_time when) noexcept {
  // peek() rather than the_steady_timer(): this may run while the list of forks is locked, which
  // the constructor of the timer enters.
  if (steady_timer* const steady = shared_timer::one.peek(); steady == &clock) {
    steady->arm_patiently(node, when);
    return true;
  }
  try {
    clock.arm(node, when);
  } catch (const std::exception&) {
    return false;
  }
  return true;
}

}  // namespace detail

SINGLEFLIGHT_BODY timer& default_timer() { return detail::the_steady_timer(); }

SINGLEFLIGHT_END_NAMESPACE
