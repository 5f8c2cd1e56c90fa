// SPDX-License-Identifier: Apache-2.0
#pragma once

/// default_timer: the process-wide timer on the steady clock. Its thread is started when it is
/// first needed.
///
/// Threads     every member, from any thread.
/// Errors      arm throws std::system_error if the thread cannot be started.
/// Lifetime    never destroyed.
/// Cost        now(): a clock call; coarse_now(): one load while it ticks.

#include "singleflight/core/timer.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

/// Arms a node that no caller would arm again: if the process-wide timer has no thread, `node`
/// fires once one can be started. Returns false if a timer of the program's own could not arm it.
bool arm_patiently(timer& clock, timer_node& node, steady_time when) noexcept;
}  // namespace detail

/// Returns the process-wide timer.
timer& default_timer();

SINGLEFLIGHT_END_NAMESPACE

#if !defined(SINGLEFLIGHT_COMPILED)
#include "singleflight/core/impl/default_timer.hpp"
#endif
