// SPDX-License-Identifier: Apache-2.0
#pragma once

// flight_core_cancel: how a limit ends a wait, and with it the interest of its caller. Members of
// flight_core.
//
// C1  One critical section (block lock, then bucket lock) stores and counts the verdict, ends the
//     interest, withdraws the caller's deadline from that of the load, and takes its kept load.
//     From the unlock on the caller counts nowhere, however late it is resumed (P4): it holds a
//     reference and a verdict, nothing else. For it, the group is not accessed again (I6).
// C2  The rest is done after the unlock by the thread that has cancelled: its own, for a wait that
//     blocks or would wait for itself; the one that requested the stop, for a stop_token. A timer's
//     thread runs no user code: it wakes threads, passes resumptions and new loads to executors,
//     and leaves the rest (stop callbacks, destruction of loads) as errands to timeout_pool(). A
//     load that an executor drops meanwhile is destroyed there, too (drop_later).
// C3  The last leaver does not return before the load has been asked to stop (P6). A token's
//     callback ends before the wait of its caller does, since that wait disarms it, which waits for
//     it. After a deadline the resumed caller runs the remaining errands itself; if the pool is
//     running them at that moment, the stop has been requested already, and a second request
//     returns at once.
// C4  The block stays alive meanwhile: a caller that is resumed or destroyed first disarms its
//     limits, which waits for a limit that is expiring; errands hold a reference of their own.
// C5  The timeout of a load works in the same way (expire): its callers are notified, and its key
//     is free, once the timer has fired, independently of the stop callbacks of other loads. The
//     thread that ends the load disarms the timeout first, which waits while it fires; so the
//     flight is in the table meanwhile, and its group is alive.

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

/// Returns the errands of `b`; their task is queued already, or will be posted with `c`.
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
  a.stopped = nullptr;  // `stop_wanted` is set: run_errands() requests it
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
