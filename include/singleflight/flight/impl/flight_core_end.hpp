// SPDX-License-Identifier: Apache-2.0
#pragma once

// flight_core_end: how a flight ends: its outcome is published, or its load times out. Members of
// flight_core.
//
// E1  A flight whose block other threads may know leaves the table and becomes done in one critical
//     section of its bucket. If its load times out, expire() instead forgets it, unlocks the bucket
//     and then publishes: until the load ends it is both in the table and done. So a fork, which
//     holds all buckets, finds it in the table, or done, or both (V4).

#include <algorithm>

#include "singleflight/flight/detail/flight_core.hpp"
#include "singleflight/flight/detail/rules.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

SINGLEFLIGHT_BODY void flight_core::carry_out(after_unlock& a) {
  if (a.woken != nullptr) platform::wake(a.woken->state, block_base::all_sleepers, a.channel);
  flight_batch::submit(a.runners);
  // Before user code, which may take long: other threads wait for these steps.
  if (a.launch != nullptr) submit_load(*a.launch);
  if (a.queued != nullptr) notify_claimers(*a.queued);
  if (a.successor != nullptr) activate(*a.successor, a.defers);
  while (load_base* const load = a.dropped) {
    a.dropped = load->next;
    load->home->drop_reference();
  }
  if (a.stopped != nullptr) request_stop(*a.stopped);
}

SINGLEFLIGHT_BODY block_base* flight_core::unlink_locked(block_base& b, flight_errc code) noexcept {
  flight_node& node = *b.node;
  if (code == flight_errc{} && options_.max_flights == 0 &&
      flight_table::leave_alone(table.locate(node.hash), node)) {
    return nullptr;
  }
  flight_table::bucket bucket = table.lock(node.hash);
  if (code != flight_errc{}) stats.add_error(code, b.interest());
  block_base* const successor = unlink_locked(bucket, node);
  table.unlock(bucket);
  return successor;
}

SINGLEFLIGHT_BODY block_base* flight_core::unlink_locked(flight_table::bucket& bucket,
                                                         flight_node& node) noexcept {
  block_base* const successor = promote_locked(bucket, node);
  const bool closing = closed_.load(memory_order_relaxed);
  table.unlink_locked(bucket, node, closing);
  if (successor != nullptr) {
    successor->node->unplaced = node.unplaced;  // the place, or the lack of one, is passed on
  } else if (!node.unplaced) {
    dismiss_flight();
  }
  if (closing) {
    removals_.fetch_add(1, memory_order_release);
    if (platform::holds(rule::removal_wakes_close))
      platform::wake(removals_, block_base::all_sleepers);
  }
  return successor;
}

SINGLEFLIGHT_BODY bool flight_core::finish_alone(block_base& b, load_base& load) noexcept {
  if (load.merge_drops && load.within_start.load(memory_order_relaxed) == &this_thread() &&
      flight_table::leave_alone(table.locate(b.node->hash), *b.node)) {
    // Only this thread knows the block (I9).
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
      b.callers = b.interest() + (b.room.leader_cancelled ? 1U : 0U);
      b.set_done_and_unlock();
      flight_table::unlock(bucket);  // E1; from here on the group may be destroyed
      return true;
    }
  }
  b.unlock();
  return false;
}

SINGLEFLIGHT_BODY flight_core::finished flight_core::finish(block_base& b, flight_result result,
                                                            flight_errc code,
                                                            std::exception_ptr error,
                                                            bool hand_on) {
  if (b.node == nullptr) [[unlikely]] {  // lost in a fork: the group may have been destroyed
    if (b.alarm && b.alarm->armed) b.clock->cancel(*b.alarm);
    return {false, true};
  }
  const call_scope scope;
  if (b.alarm && b.alarm->armed) disarm(b);
  if (options_.observer != nullptr) report_end(b, result, code);
  if (result == flight_result::error) code = errc_of(error).value_or(flight_errc{});
  after_unlock a;
  finished end{true, true};
  std::uint32_t held = 0;
  bool unlocked = false;
  b.lock();
  if (b.phase(memory_order_relaxed) == flight_phase::done &&
      platform::holds(rule::late_outcome_is_dropped)) {  // expired before
    a.successor = unlink_locked(b, {});
    end.published = false;
  } else if (hand_on && result == flight_result::error && may_hand_over(b)) {
    std::swap(b.error, error);  // the previous error is destroyed after the unlock
    b.error_given = false;
    b.code = code;
    // Its end is reported; the next load may not begin.
    b.node->began.store(flight_node::not_begun, memory_order_relaxed);
    ++b.room.handed_over;
    stats.add(counter::handed_over);
    if (platform::holds(rule::hand_over_holds_reference)) {
      b.add_reference();  // the next leader may end the flight before carry_out() does
      held = 1;
    }
    end.over = elect_locked(b, a);
  } else {
    std::swap(b.error, error);
    b.error_given = false;
    flight_table::bucket bucket{&table.locate(b.node->hash), 0};
    platform::in_order(
        rule::unlinked_before_done,
        [&] {
          if (code == flight_errc{} && options_.max_flights == 0 &&
              flight_table::leave_locking(*bucket.at, *b.node)) {
            return;
          }
          bucket = table.lock(b.node->hash);
          if (code != flight_errc{}) stats.add_error(code, b.interest());
          a.successor = unlink_locked(bucket, *b.node);
        },
        [&] { publish_locked(b, result, code, a); });
    b.unlock();
    flight_table::unlock(bucket);  // E1; from here on the group may be destroyed
    unlocked = true;
  }
  if (!unlocked) b.unlock();
  carry_out(a);
  if (held > 0) b.drop_references(held);
  return end;
}

SINGLEFLIGHT_COLD SINGLEFLIGHT_BODY void flight_core::expire(block_base& b) {
  const call_scope scope;
  cancelled c;
  b.lock();
  if (b.phase(memory_order_relaxed) != flight_phase::done) {
    flight_core& group = *b.core;
    flight_table::bucket bucket = group.table.lock(b.node->hash);
    if (platform::holds(rule::timeout_frees_key))
      c.a.successor = group.forget_locked(bucket, *b.node);
    // A run() leader still gets its own outcome, so it is not counted as timed out.
    const bool run_leads = b.run_leads && !b.leader_left.load(memory_order_relaxed);
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

SINGLEFLIGHT_BODY void flight_core::publish_locked(block_base& b, flight_result result,
                                                   flight_errc code, after_unlock& a) noexcept {
  b.result = result;
  b.code = code;
  b.callers = b.interest() + (b.room.leader_cancelled ? 1U : 0U);
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

SINGLEFLIGHT_BODY void flight_core::report_end(block_base& b, flight_result result,
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
