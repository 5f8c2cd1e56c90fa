// SPDX-License-Identifier: Apache-2.0
#pragma once

// flight_share: how a handle waits, and how it leaves its flight.

#include <new>
#include <utility>

#include "singleflight/flight/detail/flight_share.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

SINGLEFLIGHT_BODY void share_base::take_out(batch_type& batch) noexcept {
  detail::take_out(*block_, *this, batch);
  const wait_verdict why = verdict.load(memory_order_relaxed);
  if (why != wait_verdict::outcome) spend(why);
}

SINGLEFLIGHT_BODY bool share_base::look(const limits& bounds) {
  if (settled()) return true;
  const wait_verdict ended = blocked_wait(*block_, bounds, blocked_wait::form::look).wait();
  if (ended == wait_verdict::recursive) throw flight_error(flight_errc::recursive);
  return ended == wait_verdict::outcome;
}

SINGLEFLIGHT_BODY wait_verdict share_base::wait_to_take(const limits& bounds,
                                                        blocked_wait::form how) {
  if (settled()) return wait_verdict::outcome;
  blocked_wait wait(*block_, bounds, how, stake());
  const wait_verdict ended = wait.wait();
  if (ended != wait_verdict::outcome) {
    block_ = nullptr;
    wait.leave(ended);
  }
  return ended;
}

SINGLEFLIGHT_BODY void share_base::let_go() {
  const bool done = block_->done();
  if (state != wait_state::idle) detail::take_out(*block_, *this, block_->room.batch);
  if (done || !platform::holds(rule::handle_leaves)) {
    block_->drop_reference();
  } else {
    flight_core::leave(*std::exchange(block_, nullptr), wait_verdict::outcome, false, kept_,
                       role_ == flight_role::leader);
  }
}

SINGLEFLIGHT_BODY void share_base::part(block_base& b, wait_verdict why) {
  if (!platform::holds(rule::cancelled_counts_no_more)) {
    flight_core::leave(b, why, false, kept_, role_ == flight_role::leader);
  } else if (why == wait_verdict::timed_out && platform::holds(rule::resumed_runs_errands) &&
             !(b.done() && b.generation != fork_list::generation &&
               platform::holds(rule::resumed_leaves_what_is_done))) {  // V4
    flight_core::run_errands(b);
  } else {
    b.drop_reference();
  }
}

SINGLEFLIGHT_COLD SINGLEFLIGHT_BODY void share_base::spend(wait_verdict why) noexcept {
  block_base* spent = nullptr;
  try {
    spent = new ended_block(*block_->core, block_->executor, *block_->clock, errc_of(why));
  } catch (const std::bad_alloc&) {  // then the handle counts as used
  }
  part(*std::exchange(block_, spent), why);
  verdict.store(wait_verdict::outcome, memory_order_relaxed);
}

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE
