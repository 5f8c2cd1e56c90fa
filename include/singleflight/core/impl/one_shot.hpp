// SPDX-License-Identifier: Apache-2.0
#pragma once

// one_shot: how a result is published, waited for and given up.

#include <utility>

#include "singleflight/core/support/one_shot.hpp"
#include "singleflight/core/support/rules.hpp"
#include "singleflight/core/support/sleeper.hpp"
#include "singleflight/core/support/trampoline.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

SINGLEFLIGHT_BODY one_shot_base::one_shot_base(const any_executor& executor, timer& time) noexcept
    : clock(time), id(next_flight_id(this_thread())), home(executor) {
  home.owner = this;
}

SINGLEFLIGHT_BODY bool one_shot_base::enrol(handle_base& h, batch_type& batch, bool always) {
  const call_scope scope;
  batch_type::runner* runners = nullptr;
  lock();
  const bool over = (there_ && platform::holds(rule::late_waiter_sees_result)) ||
                    h.verdict.load(memory_order_relaxed) != wait_verdict::outcome;
  if (over && !always) {
    unlock();
    return false;
  }
  h.state = wait_state::pending;
  waiting_ = &h;
  batch_ = &batch;
  if (over) make_ready_locked(runners);
  unlock();
  batch_type::submit(runners);
  return true;
}

SINGLEFLIGHT_BODY void one_shot_base::give_up(handle_base& h, wait_verdict why) {
  const call_scope scope;
  batch_type::runner* runners = nullptr;
  bool unwanted = false;
  lock();
  if (!(there_ && platform::holds(rule::limit_yields_to_result)) &&
      h.verdict.load(memory_order_relaxed) == wait_verdict::outcome) {
    h.verdict.store(why, memory_order_relaxed);
    if (h.state == wait_state::pending) make_ready_locked(runners);
    unwanted = !there_;
  }
  unlock();
  batch_type::submit(runners);
  // The handle's reference is there still: whoever resumes waits for this limit to be disarmed.
  if (unwanted && platform::holds(rule::given_up_producer_is_told)) abandoned();
}

SINGLEFLIGHT_BODY void one_shot_base::take_out(handle_base& h) noexcept {
  lock();
  h.require_not_resuming_locked();
  if (h.state == wait_state::ready) batch_->ready.remove(h);
  if (h.state == wait_state::pending) waiting_ = nullptr;
  h.state = wait_state::idle;
  unlock();
}

SINGLEFLIGHT_BODY wait_verdict one_shot_base::sleep(const limits& bounds) {
  settle_promises();
  const thread_state& self = this_thread();
  wait_graph::record record;
  if ((self.led != nullptr || bounds.within.frame != nullptr) &&
      !record.enter(graph_target(), self.led, bounds.within.frame, wait_graph::strength::weak,
                    &strike, this)) {
    return wait_verdict::recursive;
  }
  sleeper me(clock, bounds.deadline, bounds.stop);
  lock();
  const bool late = there_;
  const bool struck = record.struck();  // or strike() finds the thread
  if (!late && !struck) thread_ = &me;
  unlock();
  if (late) return wait_verdict::outcome;
  const wait_verdict why = struck ? wait_verdict::recursive : me.sleep();
  if (why == wait_verdict::outcome && !record.struck()) return why;
  lock();
  thread_ = nullptr;
  const bool came = there_;
  unlock();
  return came                           ? wait_verdict::outcome
         : why == wait_verdict::outcome ? wait_verdict::recursive
                                        : why;
}

SINGLEFLIGHT_BODY void one_shot_base::abandon() {
  const call_scope scope;  // what the producer does about it on this thread comes last
  if (!settled() && platform::holds(rule::abandoned_producer_is_told)) abandoned();
  drop_reference();
}

SINGLEFLIGHT_BODY void one_shot_base::publish() {
  const call_scope scope;  // what this lets run on this thread comes last: it may end the thread
  sleeper::name thread = nullptr;
  batch_type::runner* runners = nullptr;
  lock();
  there_ = true;
  if (thread_ != nullptr) {
    thread = std::exchange(thread_, nullptr)->tell();  // it may be gone now
  } else if (waiting_ != nullptr) {
    make_ready_locked(runners);
  }
  unlock();
  if (thread != nullptr) sleeper::wake(thread);
  drop_reference();  // the runners have their own
  batch_type::submit(runners);
}

SINGLEFLIGHT_BODY void one_shot_base::strike(void* waiter) noexcept {
  auto& self = *static_cast<one_shot_base*>(waiter);
  self.lock();
  if (self.thread_ != nullptr) {
    sleeper::wake(std::exchange(self.thread_, nullptr)->tell());  // it stays for the graph's lock
  }
  self.unlock();
}

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE
