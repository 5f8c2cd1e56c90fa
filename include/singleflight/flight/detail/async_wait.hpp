// SPDX-License-Identifier: Apache-2.0
#pragma once

// async_wait: a coroutine or a callback that waits for a flight.
//
// The waiter is in the list `pending` of its batch. Publication makes the whole list ready without
// moving it. If a limit expires first, it moves its waiter to `ready` with a verdict, and ends the
// caller's interest in the same step (flight_core_cancel.hpp). In both cases a runner on the
// batch's executor removes the waiter and resumes it. A waiter that is destroyed meanwhile removes
// itself.

#include "singleflight/flight/detail/blocked_wait.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

/// Enters `w`. Returns false if it should continue at once: the flight is done, or a limit has
/// expired already; with `always` it is resumed through the executor in these cases, too. If this
/// returns true, `w` may have been destroyed.
bool enrol(block_base& b, waiter& w, flight_batch& batch, const steady_time* deadline, bool always);

/// Ends the wait of `w`, whose limit has expired, or which would never end: from here on its caller
/// is no longer interested, unless the outcome was published first (P4). Called by the timer's
/// thread for a deadline.
void cancel_wait(block_base& b, waiter& w, flight_batch& batch, wait_verdict why,
                 const flight_core::stake& mine);

/// Removes a waiter that must not be resumed any more.
void take_out(block_base& b, waiter& w, flight_batch& batch) noexcept;

/// Removes the deadline of a wait that has ended from that of the load.
void end_limit(block_base& b, waiter& w) noexcept;

/// Returns the batch for a wait that names `executor`: one of the last few if one of these has the
/// same executor, else a new one. Must be released after the wait.
flight_batch* batch_for(block_base& b, const any_executor& executor);

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE

#if !defined(SINGLEFLIGHT_COMPILED)
#include "singleflight/flight/impl/async_wait.hpp"
#endif
