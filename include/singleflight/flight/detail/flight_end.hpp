// SPDX-License-Identifier: Apache-2.0
#pragma once

// flight_end: how a flight ends, passes on, or loses its callers; the members of flight_core that
// do it.
//
// E1  A flight whose block others may know leaves the table and becomes done in one critical
//     section of its bucket. So a fork, which holds all buckets, finds it in one place or the
//     other (V4).

#include <algorithm>

#include "singleflight/flight/detail/flight_core.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

inline bool flight_core::finish_alone(block_base& b, load_base& load) noexcept {
  if (load.merge_drops && load.within_start.load(memory_order_relaxed) == &this_thread() &&
      flight_table::leave_alone(table.locate(b.node->hash), *b.node)) {
    // This thread alone knows the block (I9).
    load.unshared = true;
    b.result = flight_result::value;
    b.callers = 1;
    b.state.store(
        b.state.load(memory_order_relaxed) | static_cast<std::uint32_t>(flight_phase::done),
        memory_order_relaxed);
    return true;
  }
  b.lock();
  if (b.room.batch.pending.empty() && b.room.batch.ready.empty() &&
      b.room.more_batches == nullptr && b.room.kept.empty() &&
      !(b.has_sleepers_locked() && platform::holds(rule::alone_sees_sleepers)) &&
      b.phase(memory_order_relaxed) == flight_phase::running) {
    const flight_table::bucket bucket{&table.locate(b.node->hash), 0};
    if (flight_table::leave_locking(*bucket.at, *b.node)) {
      b.result = flight_result::value;
      b.callers = b.interest() + (b.room.leader_withdrew ? 1U : 0U);
      b.set_done_and_unlock();
      flight_table::unlock(bucket);  // E1; the group may be gone from here on
      return true;
    }
  }
  b.unlock();
  return false;
}

inline flight_core::finished flight_core::finish(block_base& b, flight_result result,
                                                 flight_errc code, std::exception_ptr error,
                                                 bool hand_on) {
  if (b.node == nullptr) [[unlikely]] {  // lost in a fork: the group may be gone
    if (b.alarm && b.alarm->armed) b.clock->cancel(*b.alarm);
    return {false, true};
  }
  const call_scope scope;
  if (b.alarm && b.alarm->armed) disarm(b);
  if (options_.observer != nullptr) tell_ended(b, result, code);
  if (result == flight_result::error) code = errc_of(error).value_or(flight_errc{});
  aftermath a;
  finished end{true, true};
  std::uint32_t held = 0;
  bool unlocked = false;
  b.lock();
  if (b.phase(memory_order_relaxed) == flight_phase::done &&
      platform::holds(rule::late_outcome_is_dropped)) {  // expired before
    a.successor = unlink_locked(b, {});
    end.published = false;
  } else if (hand_on && result == flight_result::error && may_hand_over(b)) {
    std::swap(b.error, error);  // the one before goes after the lock
    b.error_given = false;
    b.code = code;
    b.node->began.store(flight_node::not_begun, memory_order_relaxed);  // told; the next may not
    ++b.room.handed_over;
    stats.add(figure::handed_over);
    if (platform::holds(rule::hand_over_holds_reference)) {
      b.add_reference();  // the next leader may end the flight before carry_out() does
      held = 1;
    }
    end.over = elect_locked(b, a);
  } else {
    std::swap(b.error, error);
    b.error_given = false;
    const bool in_order = platform::holds(rule::unlinked_before_done);
    if (!in_order) publish_locked(b, result, code, a);
    flight_table::bucket bucket{&table.locate(b.node->hash), 0};
    if (code != flight_errc{} || options_.max_flights != 0 ||
        !flight_table::leave_locking(*bucket.at, *b.node)) {
      bucket = table.lock(b.node->hash);
      if (code != flight_errc{}) stats.add_error(code, b.interest());
      a.successor = unlink_locked(bucket, *b.node);
    }
    if (in_order) publish_locked(b, result, code, a);
    b.unlock();
    flight_table::unlock(bucket);  // E1; the group may be gone from here on
    unlocked = true;
  }
  if (!unlocked) b.unlock();
  carry_out(a);
  if (held > 0) b.drop_references(held);
  return end;
}

SINGLEFLIGHT_COLD inline flight_core::finished flight_core::hand_over_from(
    flight_node& node, block_base& b, std::exception_ptr error) {
  if (!hands_over()) return {false, false};
  flight_node& own = *b.own_node;  // such a group makes no block without
  const call_scope scope;
  if (b.alarm && b.alarm->armed) disarm(b);
  aftermath a;
  observer* const watch = options_.observer;
  const auto took = watch != nullptr
                        ? time_between(node.began.load(memory_order_relaxed), clock_.now())
                        : std::chrono::nanoseconds{};
  const flight_errc code = errc_of(error).value_or(flight_errc{});
  b.lock();
  const bool withdrew = std::exchange(b.room.leader_withdrew, false);
  const bool others = b.interest() > (withdrew ? 0U : 1U);
  if (b.phase(memory_order_relaxed) == flight_phase::done || !others || !may_hand_over(b)) {
    b.room.leader_withdrew = withdrew;
    b.unlock();
    return {false, false};
  }
  flight_table::bucket bucket = table.lock(node.hash);
  if (!withdrew) leader_leaves_locked(b);
  if (&node != &own) {
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
  own.deadline = steady_time::max();
  table.unlock(bucket);
  std::swap(b.error, error);  // the one before goes after the lock
  b.code = code;
  ++b.room.handed_over;
  stats.add(figure::handed_over);
  b.add_reference();  // the next leader may end the flight before carry_out() does
  const std::uint64_t id = b.id;
  b.error_given = false;
  const bool over = elect_locked(b, a);
  if (!over) b.error_given = true;  // not written once it is done: callers read it then
  b.unlock();
  if (watch != nullptr) watch->load_ended(id, took, load_result::error);
  carry_out(a);
  b.drop_reference();
  return {true, over};
}

inline void flight_core::leave(block_base& b, wait_verdict why, bool lender, std::uint32_t serial,
                               bool leader) {
  const call_scope scope;
  if (b.done()) {  // in a child of fork, the lock may be held by a thread that is not there
    b.drop_reference();
    return;
  }
  aftermath a;
  b.lock();
  if (b.phase(memory_order_relaxed) == flight_phase::done) {
    b.unlock();
    b.drop_reference();
    return;
  }
  observer* const watch = b.core->options_.observer;
  if (why == wait_verdict::recursive) b.core->count_struck(why);
  const bool over = part_locked(b, {lender, serial, leader}, a);
  b.unlock();
  if (watch != nullptr) watch->left(b.id);
  carry_out(a);
  b.drop_references(platform::holds(rule::leaver_drops_reference) ? (over ? 2 : 1) : 0);
}

SINGLEFLIGHT_COLD inline void flight_core::withdraw(block_base& b) {
  const call_scope scope;
  aftermath a;
  b.lock();
  if (b.phase(memory_order_relaxed) != flight_phase::done && !b.room.leader_withdrew) {
    b.room.leader_withdrew = true;
    load_base* none = nullptr;
    b.core->drop_interest_locked(b, none, true, a);  // the load runs: it cannot be over
  }
  b.unlock();
  carry_out(a);
}

SINGLEFLIGHT_COLD inline void flight_core::expire(block_base& b) {
  const call_scope scope;
  cancelled c;
  b.lock();
  if (b.phase(memory_order_relaxed) != flight_phase::done) {
    flight_core& group = *b.core;
    flight_table::bucket bucket = group.table.lock(b.node->hash);
    if (platform::holds(rule::timeout_frees_key))
      c.a.successor = group.forget_locked(bucket, *b.node);
    // A run() leader still gets its own outcome: it is not counted among those who timed out.
    const bool run_leads = b.run_leads && !b.leader_gone.load(memory_order_relaxed);
    group.stats.add_error(flight_errc::timed_out, b.interest() - (run_leads ? 1U : 0U));
    group.table.unlock(bucket);
    b.room.stop_wanted = true;
    c.a.stopped = &b;
    group.publish_locked(b, flight_result::code, flight_errc::timed_out, c.a);
    defer_locked(b, c);
    errands_of_locked(b, c).expired = true;
  }
  b.unlock();
  carry_out_cancel(b, c);
}

inline void flight_core::activate(block_base& b, bool defers) {
  const call_scope scope;
  cancelled c;
  b.lock();
  if (b.phase(memory_order_relaxed) == flight_phase::waiting) {  // else the group may be gone
    c.over = b.core->elect_locked(b, c.a);
  }
  if (defers) defer_locked(b, c);
  b.unlock();
  carry_out_cancel(b, c);
  // The promoter's reference has kept the block until here.
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

inline std::uint32_t flight_core::keep(block_base& b, load_base& load) {
  aftermath a;
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

SINGLEFLIGHT_COLD inline bool flight_core::elect_locked(block_base& b, aftermath& a) {
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
    // Some are on their way: a caller that sleeps here and can lead is listed, in a flight that can
    // become vacant. After a failure that flight is not kept waiting for one who sleeps elsewhere:
    // what is waited for there may wait for this flight. Where nothing has been loaded yet nobody
    // else is kept: every other caller of such a flight is listed, or has its load kept.
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

inline void flight_core::queue_load_locked(block_base& b, load_base& load, aftermath& a) noexcept {
  b.run_leads = false;
  load.home->add_reference();  // the task's
  const auto before = load.state.exchange(load_base::queued, memory_order_acq_rel);
  if ((before & load_base::queued) == 0) {
    a.launch = &load;
  } else {
    load.home->drop_reference();  // the one that the queue has is enough
    a.queued = &b;
  }
  b.set_phase_locked(flight_phase::running);
}

SINGLEFLIGHT_COLD inline block_base* flight_core::successor_of(block_base& b) noexcept {
  flight_table::bucket bucket = b.core->table.lock(b.node->hash);
  block_base* const next = b.node->successor;
  if (next != nullptr) next->add_reference();
  flight_table::unlock(bucket);
  return next;
}

inline block_base* flight_core::ahead_of(block_base& b) noexcept {
  flight_table::bucket bucket = b.core->table.lock(b.node->hash);
  flight_node* node = bucket.first();  // it can be found: else this one had its place
  while (node != nullptr && node->successor != &b) {
    node = node->is_gone_locked() ? nullptr : node->next;
  }
  block_base* const ahead = node != nullptr ? node->block.load(memory_order_relaxed) : nullptr;
  if (ahead != nullptr) ahead->add_reference();
  flight_table::unlock(bucket);
  return ahead;
}

SINGLEFLIGHT_COLD inline void flight_core::replace_load_locked(block_base& b, load_base& load,
                                                               aftermath& a) noexcept {
  if (b.load != nullptr && b.load->home != &b) {
    b.load->next = a.dropped;
    a.dropped = b.load;
  }
  b.load = &load;
  load.next = nullptr;
}

inline void flight_core::publish_locked(block_base& b, flight_result result, flight_errc code,
                                        aftermath& a) noexcept {
  b.result = result;
  b.code = code;
  b.callers = b.interest() + (b.room.leader_withdrew ? 1U : 0U);
  b.room.kept.clear([&](kept_node& n) {
    auto& load = static_cast<load_base&>(n);
    if (load.home == &b) return;
    load.next = a.dropped;
    a.dropped = &load;
  });
  b.room.batch.activate_locked(a.runners);
  for (flight_batch* r = b.room.more_batches; r != nullptr; r = r->next) {
    r->activate_locked(a.runners);
  }
  if (platform::holds(rule::done_wakes_sleepers)) wake_locked(b, platform::all_channels, a);
  b.set_phase_locked(flight_phase::done);  // releases the outcome above (I7)
}

SINGLEFLIGHT_COLD inline bool flight_core::drop_interest_locked(block_base& b, load_base*& own,
                                                                bool leader, aftermath& a) {
  const flight_phase phase = b.phase(memory_order_relaxed);
  if (!platform::holds(rule::leader_leaves_in_one_step) && leader)
    b.leader_gone.store(true, memory_order_relaxed);
  flight_table::bucket bucket = table.lock(b.node->hash);
  const bool last = b.interest() == 1;  // stable: joins need the bucket lock
  if (leader) {
    leader_leaves_locked(b);
  } else {
    b.counts.fetch_sub(block_base::one_interest, memory_order_relaxed);
  }
  if (!last) {
    table.unlock(bucket);
    return phase == flight_phase::vacant && platform::holds(rule::leaver_passes_lead_on) &&
           elect_locked(b, a);  // it may have been the last able
  }
  const abandon policy = options_.on_abandon;
  stats.add(figure::abandoned);
  // A load that is still queued, or in a batch, ends here; its node in the queue, or its batch,
  // finds it claimed. (Under `finish` it is wanted still.)
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
  // Nothing has begun. Under finish a load that was kept is still wanted; else the flight just
  // goes.
  if (policy == abandon::finish && (own != nullptr || !b.room.kept.empty())) {
    if (own != nullptr) keep_locked(b, *own);
    own = nullptr;
    table.unlock(bucket);
    return phase == flight_phase::vacant && elect_locked(b, a);
  }
  if (phase == flight_phase::waiting && b.behind.load(memory_order_relaxed) != 0) {
    flight_node* ahead = bucket.first();  // it can be found: else this one had its place
    while (ahead != nullptr && ahead->successor != &b) {
      ahead = ahead->is_gone_locked() ? nullptr : ahead->next;
    }
    if (ahead == nullptr) {  // close() has taken it and ends it
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

SINGLEFLIGHT_COLD inline void flight_core::leader_leaves_locked(block_base& b) noexcept {
  b.counts.fetch_sub(block_base::one_interest, memory_order_relaxed);
  b.leader_gone.store(true, memory_order_relaxed);
}

inline void flight_core::tell_ended(block_base& b, flight_result result,
                                    flight_errc code) const noexcept {
  const steady_time began = b.node->began.load(memory_order_relaxed);
  if (began == flight_node::not_begun) return;
  const bool broken = result == flight_result::code && code == flight_errc::broken;
  options_.observer->load_ended(b.id, time_between(began, clock_.now()),
                                b.done()                         ? load_result::timed_out
                                : broken                         ? load_result::broken
                                : result == flight_result::value ? load_result::value
                                                                 : load_result::error);
}

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE
