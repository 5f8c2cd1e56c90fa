// SPDX-License-Identifier: Apache-2.0
#pragma once

// flight_cancel: how a limit ends a wait, and with it the interest of its caller; the members of
// flight_core that do it.
//
// C1  The verdict, the count of it, the end of the interest, of the deadline's share in the load's,
//     and of the kept load, are one critical section (block lock, then bucket lock). From the
//     unlock on the caller counts nowhere, however late it is resumed (P4): it holds a reference
//     and a verdict, nothing else. Nothing of the group is touched for it any more (I6).
// C2  What follows is done after the unlock by the thread that has cancelled: its own, for a wait
//     that blocks or would wait for itself; that of the stop_token. A timer's thread runs no code
//     of users: it wakes, hands over to executors who is resumed and what is to load, and leaves
//     the rest (stop callbacks, loads that are destroyed) as errands to timeout_pool(). A load that
//     an executor drops meanwhile is dropped there too (drop_later).
// C3  The last leaver does not return before the load has been told to stop (P6). A token's
//     callback ends before the wait of its caller does, since that waits to disarm it. After a
//     deadline the caller runs what is left of the errands itself when it is resumed; when the pool
//     is in the midst of them, a second request for the same stop returns with the first one made.
// C4  The block lives meanwhile: whoever is resumed, or destroyed, disarms its limits first, which
//     waits for the one that strikes; errands hold a reference of their own.
// C5  The timeout of a load strikes likewise (expire): its callers are told, and its key is free,
//     once the timer has fired, whatever the stop callbacks of other loads do. Whoever ends the
//     load disarms it first, which waits for the fire; so the flight is in the table meanwhile, and
//     its group alive.

#include <utility>

#include "singleflight/flight/detail/flight_core.hpp"
#include "singleflight/flight/detail/rules.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

SINGLEFLIGHT_BODY bool flight_core::part_locked(block_base& b, const stake& mine, after_unlock& a) {
  if (mine.lender) b.lenders.fetch_sub(1, memory_order_relaxed);
  load_base* own = mine.serial != 0 && platform::holds(rule::leaver_takes_load)
                       ? static_cast<load_base*>(b.room.kept.take(mine.serial))
                       : nullptr;
  const bool over = b.core->drop_interest_locked(b, own, mine.leader, a);
  if (own != nullptr && own->home != &b) {
    own->next = a.dropped;
    a.dropped = own;
  }
  return over;
}

SINGLEFLIGHT_BODY void flight_core::cancel_locked(block_base& b, wait_verdict why,
                                                  const stake& mine, cancelled& c) {
  b.core->count_ended_wait(why);
  c.watch = b.core->options_.observer;
  c.over = part_locked(b, mine, c.a);
}

/// The errands of `b`, whose task is queued, or to be posted with `c`.
SINGLEFLIGHT_COLD SINGLEFLIGHT_BODY errands& flight_core::errands_of_locked(block_base& b,
                                                                            cancelled& c) {
  if (!b.room.errands) b.room.errands.emplace(b);
  errands& e = *b.room.errands;
  if (!std::exchange(e.queued, true)) {
    b.add_reference();
    c.post = &e;
  }
  return e;
}

SINGLEFLIGHT_COLD SINGLEFLIGHT_BODY void flight_core::defer_locked(block_base& b, cancelled& c) {
  after_unlock& a = c.a;
  a.defers = true;
  if (a.dropped == nullptr && a.stopped == nullptr && !c.over) return;
  errands& e = errands_of_locked(b, c);
  while (load_base* const load = a.dropped) {
    a.dropped = load->next;
    load->next = e.dropped;
    e.dropped = load;
  }
  a.stopped = nullptr;  // as `stop_wanted` says
  if (std::exchange(c.over, false)) ++e.references;
}

SINGLEFLIGHT_BODY void flight_core::carry_out_cancel(block_base& b, cancelled& c) {
  if (c.watch != nullptr) c.watch->left(b.id);
  carry_out(c.a);
  if (c.post != nullptr) timeout_pool().post(c.post, true);
  if (c.over) b.drop_reference();
}

SINGLEFLIGHT_COLD SINGLEFLIGHT_BODY void flight_core::run_errands(block_base& b) {
  const call_scope scope;
  after_unlock a;
  std::uint32_t references = 1;
  bool expired = false;
  b.lock();
  if (b.room.errands) {
    errands& e = *b.room.errands;
    expired = e.expired;
    a.dropped = std::exchange(e.dropped, nullptr);
    references += std::exchange(e.references, 0U);
  }
  if (expired || (b.room.stop_wanted && b.phase(memory_order_relaxed) != flight_phase::done)) {
    a.stopped = &b;
  }
  b.unlock();
  carry_out(a);
  b.drop_references(references);
}

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE
