// SPDX-License-Identifier: Apache-2.0
#pragma once

// flight_core_elect: how a flight without a leader gets one: after a failure that is handed over,
// or when its turn behind another flight has come. Members of flight_core.

#include "singleflight/flight/detail/flight_core.hpp"
#include "singleflight/flight/detail/rules.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

SINGLEFLIGHT_COLD SINGLEFLIGHT_BODY flight_core::finished flight_core::hand_over_from(
    flight_node& node, block_base& b, std::exception_ptr error) {
  if (!hands_over()) return {false, false};
  flight_node& own = *b.own_node;  // each block of a group that hands over has one
  const call_scope scope;
  if (b.alarm && b.alarm->armed) disarm(b);
  after_unlock a;
  observer* const watch = options_.observer;
  const auto took = watch != nullptr
                        ? time_between(node.began.load(memory_order_relaxed), clock_.now())
                        : std::chrono::nanoseconds{};
  const flight_errc code = errc_of(error).value_or(flight_errc{});
  b.lock();
  const bool was_cancelled = std::exchange(b.room.leader_cancelled, false);
  const bool others = b.interest() > (was_cancelled ? 0U : 1U);
  if (b.phase(memory_order_relaxed) == flight_phase::done || !others || !may_hand_over(b)) {
    b.room.leader_cancelled = was_cancelled;
    b.unlock();
    return {false, false};
  }
  flight_table::bucket bucket = table.lock(node.hash);
  if (!was_cancelled) leader_leaves_locked(b);
  if (&node != &own) replace_node_locked(bucket, node, b);
  own.deadline = steady_time::max();
  table.unlock(bucket);
  std::swap(b.error, error);  // the previous error is destroyed after the unlock
  b.code = code;
  ++b.room.handed_over;
  stats.add(counter::handed_over);
  b.add_reference();  // the next leader may end the flight before carry_out() does
  const std::uint64_t id = b.id;
  b.error_given = false;
  const bool over = elect_locked(b, a);
  if (!over) b.error_given = true;  // callers read it once the flight is done: not written then
  b.unlock();
  if (watch != nullptr) watch->load_ended(id, took, load_result::error);
  carry_out(a);
  b.drop_reference();
  return {true, over};
}

SINGLEFLIGHT_COLD SINGLEFLIGHT_BODY void flight_core::replace_node_locked(
    flight_table::bucket& bucket, flight_node& node, block_base& b) noexcept {
  flight_node& own = *b.own_node;
  own.hash = node.hash;
  own.id = node.id;
  own.began.store(node.began.load(memory_order_relaxed), memory_order_relaxed);
  own.mode.store(node.mode.load(memory_order_relaxed), memory_order_relaxed);
  own.revoked.store(node.revoked.load(memory_order_relaxed), memory_order_relaxed);
  own.successor = std::exchange(node.successor, nullptr);
  own.close_seen = node.close_seen;
  own.block.store(&b, memory_order_relaxed);
  table.unlink_locked(bucket, node, true);
  table.link_locked(bucket, own);
  b.node = &own;
}

SINGLEFLIGHT_BODY void flight_core::activate(block_base& b, bool defers) {
  const call_scope scope;
  cancelled c;
  b.lock();
  if (b.phase(memory_order_relaxed) == flight_phase::waiting) {  // else the group may have ended
    c.over = b.core->elect_locked(b, c.a);
  }
  if (defers) defer_locked(b, c);
  b.unlock();
  carry_out_cancel(b, c);
  // The promoter's reference has kept the block alive until here.
  if (!defers) {
    b.drop_reference();
    return;
  }
  cancelled last;
  b.lock();
  ++errands_of_locked(b, last).references;
  b.unlock();
  carry_out_cancel(b, last);
}

SINGLEFLIGHT_BODY std::uint32_t flight_core::keep(block_base& b, load_base& load) {
  after_unlock a;
  std::uint32_t serial = 0;
  bool over = false;
  b.lock();
  b.lenders.fetch_sub(1, memory_order_relaxed);
  load.block = &b;
  if (b.phase(memory_order_relaxed) != flight_phase::done) {
    load.home->add_reference();
    keep_locked(b, load);
    serial = load.serial;
    if (b.phase(memory_order_relaxed) == flight_phase::vacant) over = elect_locked(b, a);
  }
  b.unlock();
  carry_out(a);
  if (over) b.drop_reference();
  return serial;
}

SINGLEFLIGHT_COLD SINGLEFLIGHT_BODY bool flight_core::elect_locked(block_base& b, after_unlock& a) {
  const bool closing = closed();
  const bool unplaced = b.node->unplaced;
  if (!closing && !unplaced) {
    if (waiter* const w = b.room.blocked.pop()) {
      w->verdict.store(wait_verdict::lead, memory_order_release);
      b.lenders.fetch_sub(1, memory_order_relaxed);
      b.set_phase_locked(flight_phase::offered);
      wake_locked(b, block_base::channel_of(*w), a);
      return false;
    }
    if (!b.room.kept.empty()) {
      auto& load = static_cast<load_base&>(b.room.kept.pop());
      replace_load_locked(b, load, a);
      queue_load_locked(b, load, a);
      return false;
    }
    if (b.load != nullptr && b.load->repeatable()) {
      queue_load_locked(b, *b.load, a);
      return false;
    }
    // A lender that sleeps here is listed, and none is; so those that are left have not begun to
    // wait here, and one of them will lead. After a failure, absent lenders do not count: what they
    // wait for elsewhere may wait for this flight. As long as no load has failed, they count; no
    // other caller is delayed by that, since each is listed or has its load kept.
    const bool failed = b.error != nullptr && platform::holds(rule::absent_do_not_lead);
    if (b.lenders.load(memory_order_acquire) >
        (failed ? b.absent.load(memory_order_relaxed) : 0U)) {
      b.set_phase_locked(flight_phase::vacant);
      return false;
    }
  }
  const bool shares_error = !closing && !unplaced && b.error != nullptr;
  const flight_errc code = closing        ? flight_errc::closed
                           : unplaced     ? flight_errc::overloaded
                           : shares_error ? b.code
                                          : flight_errc::broken;
  flight_table::bucket bucket = table.lock(b.node->hash);
  if (code != flight_errc{}) stats.add_error(code, b.interest());
  a.successor = unlink_locked(bucket, *b.node);
  publish_locked(b, shares_error ? flight_result::error : flight_result::code, code, a);
  flight_table::unlock(bucket);  // E1
  return true;
}

SINGLEFLIGHT_BODY void flight_core::queue_load_locked(block_base& b, load_base& load,
                                                      after_unlock& a) noexcept {
  b.run_leads = false;
  load.home->add_reference();  // the task's
  const auto before = load.state.exchange(load_base::queued, memory_order_acq_rel);
  if ((before & load_base::queued) == 0) {
    a.launch = &load;
  } else {
    load.home->drop_reference();  // the queue has a reference already
    a.queued = &b;
  }
  b.set_phase_locked(flight_phase::running);
}

SINGLEFLIGHT_COLD SINGLEFLIGHT_BODY void flight_core::replace_load_locked(
    block_base& b, load_base& load, after_unlock& a) noexcept {
  if (b.load != nullptr && b.load->home != &b) {
    b.load->next = a.dropped;
    a.dropped = b.load;
  }
  b.load = &load;
  load.next = nullptr;
}

SINGLEFLIGHT_COLD SINGLEFLIGHT_BODY block_base* flight_core::successor_of(block_base& b) noexcept {
  flight_table::bucket bucket = b.core->table.lock(b.node->hash);
  block_base* const next = b.node->successor;
  if (next != nullptr) next->add_reference();
  flight_table::unlock(bucket);
  return next;
}

SINGLEFLIGHT_BODY flight_node* flight_core::node_ahead_locked(const flight_table::bucket& bucket,
                                                              const block_base& b) noexcept {
  // The one ahead can be found: otherwise `b` would have taken its place.
  flight_node* node = bucket.first();
  while (node != nullptr && node->successor != &b) {
    node = node->is_forgotten_locked() ? nullptr : node->next;
  }
  return node;
}

SINGLEFLIGHT_BODY block_base* flight_core::ahead_of(block_base& b) noexcept {
  flight_table::bucket bucket = b.core->table.lock(b.node->hash);
  const flight_node* const node = node_ahead_locked(bucket, b);
  block_base* const ahead = node != nullptr ? node->block.load(memory_order_relaxed) : nullptr;
  if (ahead != nullptr) ahead->add_reference();
  flight_table::unlock(bucket);
  return ahead;
}

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE
