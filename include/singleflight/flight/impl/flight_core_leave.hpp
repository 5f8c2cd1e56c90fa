// SPDX-License-Identifier: Apache-2.0
#pragma once

// flight_core_leave: how a caller leaves a flight before its end, and what happens to a flight that
// all callers have left. Members of flight_core.

#include "singleflight/flight/detail/flight_core.hpp"
#include "singleflight/flight/detail/rules.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

SINGLEFLIGHT_BODY void flight_core::leave(block_base& b, wait_verdict why, bool lender,
                                          std::uint32_t serial, bool leader) {
  const call_scope scope;
  if (b.done()) {  // without the lock: in a child of fork its holder may not exist
    b.drop_reference();
    return;
  }
  after_unlock a;
  b.lock();
  if (b.phase(memory_order_relaxed) == flight_phase::done) {
    b.unlock();
    b.drop_reference();
    return;
  }
  observer* const watch = b.core->options_.observer;
  if (why == wait_verdict::recursive) b.core->count_ended_wait(why);
  const bool over = part_locked(b, {lender, serial, leader}, a);
  b.unlock();
  if (watch != nullptr) watch->left(b.id);
  carry_out(a);
  b.drop_references(platform::holds(rule::leaver_drops_reference) ? (over ? 2 : 1) : 0);
}

SINGLEFLIGHT_COLD SINGLEFLIGHT_BODY void flight_core::cancel_leader(block_base& b) {
  const call_scope scope;
  after_unlock a;
  b.lock();
  if (b.phase(memory_order_relaxed) != flight_phase::done && !b.room.leader_cancelled) {
    b.room.leader_cancelled = true;
    load_base* none = nullptr;
    b.core->drop_interest_locked(b, none, true, a);  // the load runs, so the flight does not end
  }
  b.unlock();
  carry_out(a);
}

SINGLEFLIGHT_COLD SINGLEFLIGHT_BODY bool flight_core::drop_interest_locked(block_base& b,
                                                                           load_base*& own,
                                                                           bool leader,
                                                                           after_unlock& a) {
  const flight_phase phase = b.phase(memory_order_relaxed);
  flight_table::bucket bucket{};
  platform::in_order(
      rule::leader_leaves_in_one_step, [&] { bucket = table.lock(b.node->hash); },
      [&] {
        if (leader) b.leader_left.store(true, memory_order_relaxed);
      });
  const bool last = b.interest() == 1;  // stable: joins need the bucket lock
  b.counts.fetch_sub(block_base::one_interest, memory_order_relaxed);
  if (!last) {
    table.unlock(bucket);
    return phase == flight_phase::vacant && platform::holds(rule::leaver_passes_lead_on) &&
           elect_locked(b, a);  // it may have been the last one that could lead
  }
  return abandon_locked(b, bucket, phase, own, a);
}

SINGLEFLIGHT_COLD SINGLEFLIGHT_BODY bool flight_core::abandon_locked(block_base& b,
                                                                     flight_table::bucket& bucket,
                                                                     flight_phase phase,
                                                                     load_base*& own,
                                                                     after_unlock& a) {
  const abandon policy = options_.on_abandon;
  stats.add(counter::abandoned);
  // A load that is still queued, or in a batch, ends here: the queue, or the batch, will find it
  // claimed. (Under `finish` it still runs.)
  const bool unbegun = policy != abandon::finish && phase == flight_phase::running &&
                       b.load != nullptr && platform::holds(rule::unbegun_ends_with_interest) &&
                       b.load->claim();
  if (phase == flight_phase::running && !unbegun) {
    if (policy != abandon::finish) {
      b.room.stop_wanted = true;
      if (platform::holds(rule::abandoned_is_stopped)) a.stopped = &b;
      if (!platform::holds(rule::stop_outside_locks)) b.room.stop.request_stop();
      if (policy == abandon::stop && platform::holds(rule::abandoned_is_forgotten)) {
        a.successor = forget_locked(bucket, *b.node);
      } else if (b.node->mode.load(memory_order_relaxed) == flight_mode::open) {
        b.node->mode.store(flight_mode::barrier, memory_order_release);
      }
    }
    table.unlock(bucket);
    return false;
  }
  // Nothing has begun. Under `finish` a kept load still runs; otherwise the flight ends here.
  if (policy == abandon::finish && (own != nullptr || !b.room.kept.empty())) {
    if (own != nullptr) keep_locked(b, *own);
    own = nullptr;
    table.unlock(bucket);
    return phase == flight_phase::vacant && elect_locked(b, a);
  }
  if (phase == flight_phase::waiting && b.behind.load(memory_order_relaxed) != 0) {
    flight_node* const ahead = node_ahead_locked(bucket, b);
    if (ahead == nullptr) {  // close() has detached this flight, and ends it
      table.unlock(bucket);
      return false;
    }
    ahead->successor = nullptr;
  } else {
    a.successor = unlink_locked(bucket, *b.node);
  }
  publish_locked(b, flight_result::code, flight_errc::cancelled, a);
  flight_table::unlock(bucket);  // E1
  return true;
}

SINGLEFLIGHT_COLD SINGLEFLIGHT_BODY void flight_core::leader_leaves_locked(block_base& b) noexcept {
  b.counts.fetch_sub(block_base::one_interest, memory_order_relaxed);
  b.leader_left.store(true, memory_order_relaxed);
}

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE
