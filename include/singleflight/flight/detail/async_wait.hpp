// SPDX-License-Identifier: Apache-2.0
#pragma once

// async_wait: a coroutine or a callback that waits for a flight.
//
// The waiter stands in `pending` of its batch. Publication makes the whole list ready where it is;
// a limit that strikes first moves its waiter to `ready` with a verdict, and ends its interest in
// the same step (flight_cancel.hpp). Either way a runner on the batch's executor takes it out and
// resumes it. Whoever is destroyed meanwhile takes itself out.

#include "singleflight/flight/detail/blocked_wait.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

/// Enters `w`. False when it should go on at once: the flight is done, or a limit has struck
/// already; with `always` it is resumed through the executor in these cases too. After true, `w`
/// may be gone.
bool enrol(block_base& b, waiter& w, flight_batch& batch, const steady_time* deadline, bool always);

/// The wait of `w` has come to its limit, or would never end: from here on its caller is no more
/// among those who want the outcome, unless that was first (P4). By the timer's thread if it has
/// timed out.
void cancel_wait(block_base& b, waiter& w, flight_batch& batch, wait_verdict why,
                 const flight_core::stake& mine);

/// Takes a waiter out that will not be resumed any more.
void take_out(block_base& b, waiter& w, flight_batch& batch) noexcept;

/// The limit of a wait that is over counts no more.
void end_limit(block_base& b, waiter& w) noexcept;

/// The batch for a wait that has named `executor`: one of the last few if it is for the same, else
/// a new one. To be released after the wait.
flight_batch* batch_for(block_base& b, const any_executor& executor);

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE

#if !defined(SINGLEFLIGHT_COMPILED)
#include "singleflight/flight/impl/async_wait.hpp"
#endif
