// SPDX-License-Identifier: Apache-2.0
#pragma once

// async_wait: how a coroutine or a callback enters the wait for a flight, is cancelled and leaves.

#include "singleflight/flight/detail/async_wait.hpp"
#include "singleflight/flight/detail/rules.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

SINGLEFLIGHT_BODY bool enrol(block_base& b, waiter& w, flight_batch& batch,
                             const steady_time* deadline, bool always) {
  const call_scope scope;
  flight_batch::runner* runners = nullptr;
  block_base::waiters_lock lock(b);
  lock.lock();
  const bool done =
      b.phase(memory_order_relaxed) == flight_phase::done && platform::holds(rule::enrol_sees_done);
  const bool limit_ended = platform::holds(rule::enrol_sees_limit) &&
                           w.verdict.load(memory_order_relaxed) != wait_verdict::outcome;
  if ((done || limit_ended) && !always) {
    lock.unlock();
    return false;
  }
  if (done || limit_ended) {
    batch.make_ready_locked(w, runners);
  } else {
    w.state = wait_state::pending;
    batch.pending.push(w);
    if (deadline != nullptr) {
      w.limit = deadline;
      ++b.room.bounded;
    }
  }
  lock.unlock();
  flight_batch::submit(runners);
  return true;
}

SINGLEFLIGHT_BODY void cancel_wait(block_base& b, waiter& w, flight_batch& batch, wait_verdict why,
                                   const flight_core::stake& mine) {
  const call_scope scope;
  flight_core::cancelled c;
  if (b.done() && platform::holds(rule::cancel_yields_to_outcome)) return;  // V4: without its lock
  b.lock();
  if ((b.phase(memory_order_relaxed) != flight_phase::done ||
       !platform::holds(rule::cancel_yields_to_outcome)) &&
      w.verdict.load(memory_order_relaxed) == wait_verdict::outcome &&
      (w.state == wait_state::idle || w.state == wait_state::pending)) {
    w.verdict.store(why, memory_order_relaxed);
    if (w.limit != nullptr) {
      --b.room.bounded;
      w.limit = nullptr;
    }
    if (w.state == wait_state::pending) {  // else enrol() will see it
      batch.pending.remove(w);
      batch.make_ready_locked(w, c.a.runners);
    }
    if (platform::holds(rule::cancelled_counts_no_more)) {
      flight_core::cancel_locked(b, why, mine, c);
      if (why == wait_verdict::timed_out && platform::holds(rule::timer_leaves_errands)) {
        flight_core::defer_locked(b, c);
      }
    }
  }
  b.unlock();
  flight_core::carry_out_cancel(b, c);
}

SINGLEFLIGHT_BODY void take_out(block_base& b, waiter& w, flight_batch& batch) noexcept {
  block_base::waiters_lock lock(b);
  lock.lock();
  w.require_not_resuming_locked();
  if (!platform::holds(rule::destroyed_leaves_list)) {
    // nothing
  } else if (w.state == wait_state::pending) {
    batch.pending.remove(w);
  } else if (w.state == wait_state::ready) {
    batch.ready.remove(w);
  }
  w.state = wait_state::idle;
  lock.unlock();
}

SINGLEFLIGHT_BODY void end_limit(block_base& b, waiter& w) noexcept {
  if (w.limit == nullptr || b.done()) return;
  b.lock();
  if (b.phase(memory_order_relaxed) != flight_phase::done) --b.room.bounded;
  w.limit = nullptr;
  b.unlock();
}

SINGLEFLIGHT_BODY flight_batch* batch_for(block_base& b, const any_executor& executor) {
  block_base::waiters_lock lock(b);
  lock.lock();
  flight_batch* existing = b.room.more_batches;
  for (int i = 0; existing != nullptr && i < 8; ++i, existing = existing->next) {
    if (existing->executor != executor) continue;
    existing->share_locked();
    lock.unlock();
    return existing;
  }
  lock.unlock();
  flight_batch* const made = flight_batch::make(b, executor);
  lock.lock();
  made->enlist_locked(b.room.more_batches);
  lock.unlock();
  return made;
}

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE
