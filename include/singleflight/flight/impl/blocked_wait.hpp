// SPDX-License-Identifier: Apache-2.0
#pragma once

// blocked_wait: how a thread waits for a flight: it runs a load that is queued for it, sleeps, and
// settles how the wait has ended.

#include "singleflight/flight/detail/blocked_wait.hpp"
#include "singleflight/flight/detail/rules.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

SINGLEFLIGHT_BODY wait_verdict blocked_wait::wait() {
  settle_promises();
  if (block_.done()) return wait_verdict::outcome;
  may_run_ = form_ != form::bide && block_.executor.runs_here();
  if (may_run_ && runs_at_once()) run_if_queued();
  const thread_state& self = this_thread();
  if ((self.led != nullptr || bounds_.within.frame != nullptr) &&
      !record_.enter(detail::target_of(block_), self.led, bounds_.within.frame,
                     wait_graph::strength::weak, &wake_from_graph, this)) {
    return wait_verdict::recursive;
  }
  // A short load ends before a sleep would begin.
  for (int turn = 0; turn < platform::tuned(spins, 0); ++turn) {
    if (block_.done()) return wait_verdict::outcome;
    platform::pause();
  }
  std::optional<platform::stop_callback<waker>> on_stop;
  if (bounds_.stop.stop_possible()) on_stop.emplace(bounds_.stop, waker{this});
  const armed_alarm armed(*this);  // before the lists are entered: arming may throw
  if (const wait_verdict verdict = enrol(); verdict != wait_verdict::outcome) return verdict;
  return sleep();
}

SINGLEFLIGHT_BODY void blocked_wait::leave(wait_verdict why) {
  if (!cancelled_) {
    flight_core::leave(block_, why, stake_.lender, stake_.serial, stake_.leader);
    return;
  }
  const call_scope scope;
  flight_core::carry_out_cancel(block_, *cancelled_);
  block_.drop_reference();
}

SINGLEFLIGHT_BODY void blocked_wait::run_if_queued() {
  block_.lock();
  block_.room.claimers = true;  // a thread that queues a load from now on wakes this thread
  block_base* const ahead = block_.phase(memory_order_relaxed) == flight_phase::waiting &&
                                    platform::holds(rule::load_ahead_is_claimed)
                                ? flight_core::ahead_of(block_)
                                : nullptr;
  block_.unlock();
  if (ahead != nullptr) {
    ahead->lock();
    ahead->room.claimers_behind = true;
    ahead->unlock();
  }
  claimed mine;
  // Checked after that: a thread that passes the load to the executor later wakes this one again.
  if (runs_at_once() || block_.executor.starved()) {
    block_base& queued_in = ahead != nullptr ? *ahead : block_;
    queued_in.lock();
    mine = claim_locked(queued_in);
    queued_in.unlock();
  }
  if (mine.load != nullptr || mine.others != nullptr) {
    const call_scope scope;
    if (mine.others != nullptr) {
      mine.others->begin_here();
    } else {
      mine.load->run();
    }
  }
  if (ahead != nullptr) ahead->drop_reference();
}

SINGLEFLIGHT_BODY blocked_wait::claimed blocked_wait::claim_locked(block_base& b) noexcept {
  claimed mine;
  if (b.phase(memory_order_relaxed) == flight_phase::running && b.load != nullptr &&
      b.load->open()) {
    mine.others = b.load->gathered_in();
    if (mine.others == nullptr && b.load->claim()) {
      mine.load = b.load;
      mine.load->home->add_reference();
    }
  }
  return mine;
}

SINGLEFLIGHT_BODY wait_verdict blocked_wait::enrol() noexcept {
  if (!can_lead_ && !bounded()) return wait_verdict::outcome;
  block_.lock();
  const flight_phase phase = block_.phase(memory_order_relaxed);
  wait_verdict verdict = wait_verdict::outcome;
  if (phase != flight_phase::done) {
    if (can_lead_ && phase == flight_phase::vacant) {
      take_lead_locked();
      verdict = wait_verdict::lead;
    } else {
      listed_ = can_lead_ && (phase != flight_phase::running || block_.core->hands_over());
      if (listed_) {
        node_.state = wait_state::pending;
        block_.room.blocked.push(node_);
      }
      if (bounded() && form_ != form::look) {  // a look does not bound the caller's interest
        node_.limit = &bounds_.deadline;
        ++block_.room.bounded;
        if (!listed_) block_.room.timed.push(node_);
      }
    }
  }
  block_.unlock();
  return verdict;
}

SINGLEFLIGHT_BODY void blocked_wait::take_lead_locked() noexcept {
  block_.lenders.fetch_sub(1, memory_order_relaxed);
  block_.set_phase_locked(flight_phase::running);
}

SINGLEFLIGHT_BODY wait_verdict blocked_wait::sleep() {
  for (;;) {
    const std::uint32_t seen =
        block_.state.load(platform::order(rule::waiter_acquires, memory_order_acquire));
    const auto phase = static_cast<flight_phase>(seen & block_base::phase_bits);
    if (phase == flight_phase::done) return wait_verdict::outcome;
    wait_verdict verdict = node_.verdict.load(memory_order_acquire);
    const bool stopped = platform::stop_requested(bounds_.stop);
    if (stopped || (bounded() && block_.clock->now() >= bounds_.deadline)) {
      verdict = stopped ? wait_verdict::cancelled : wait_verdict::timed_out;
    } else if (record_
                   .interrupted()) {  // set before the epoch that this thread has seen, or will see
      verdict = wait_verdict::recursive;
    }
    if (verdict != wait_verdict::outcome || (can_lead_ && phase == flight_phase::vacant)) {
      if (decide(verdict)) return verdict;
      continue;
    }
    if (may_run_ && (seen & ~block_base::locked) != last_look_) {
      last_look_ = seen & ~block_base::locked;
      run_if_queued();
      continue;
    }
    if ((seen & block_base::sleeping) == 0 && platform::holds(rule::sleepers_are_marked)) {
      block_.lock();
      block_.unlock(block_.state.load(memory_order_relaxed) | block_base::sleeping);
      continue;
    }
    if ((seen & block_base::locked) != 0) {  // for a moment only
      platform::pause();
      continue;
    }
    hand_queue_over();
    platform::wait(block_.state, seen, channel(),
                   bounded() && block_.clock->follows_steady_clock() ? &bounds_.deadline : nullptr);
  }
}

SINGLEFLIGHT_BODY bool blocked_wait::decide(wait_verdict& verdict) noexcept {
  block_.lock();
  const flight_phase phase = block_.phase(memory_order_relaxed);
  const bool elected = node_.verdict.load(memory_order_relaxed) == wait_verdict::lead;
  const bool limit_ended = verdict == wait_verdict::timed_out ||
                           verdict == wait_verdict::cancelled || verdict == wait_verdict::recursive;
  const bool vacant = can_lead_ && phase == flight_phase::vacant;
  const bool decided = phase != flight_phase::done && (limit_ended || elected || vacant);
  if (decided) {
    if (!elected && listed_) block_.room.blocked.remove(node_);
    if (node_.limit != nullptr) {
      --block_.room.bounded;
      if (!listed_) block_.room.timed.remove(node_);
    }
    if (limit_ended) {
      if (elected) {
        block_.lenders.fetch_add(1, memory_order_relaxed);
        block_.set_phase_locked(flight_phase::vacant);
      }
      if (form_ != form::look) {
        if (platform::holds(rule::cancelled_counts_no_more)) {
          flight_core::cancel_locked(block_, verdict, stake_, cancelled_.emplace());
        } else {
          block_.core->count_ended_wait(verdict);
        }
      }
    } else {
      if (!elected) take_lead_locked();
      verdict = wait_verdict::lead;
    }
  }
  block_.unlock();
  return decided;
}

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE
