// SPDX-License-Identifier: Apache-2.0
#pragma once

// one_shot: publishing a result, waiting for it and giving it up.

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

SINGLEFLIGHT_BODY bool one_shot_base::enrol(handle_base& handle, batch_type& batch, bool always) {
  const call_scope scope;
  batch_type::runner* runners = nullptr;
  lock();
  const bool over = (published_ && platform::holds(rule::late_waiter_sees_result)) ||
                    handle.verdict.load(memory_order_relaxed) != wait_verdict::outcome;
  if (over && !always) {
    unlock();
    return false;
  }
  handle.state = wait_state::pending;
  waiting_ = &handle;
  batch_ = &batch;
  if (over) make_ready_locked(runners);
  unlock();
  batch_type::submit(runners);
  return true;
}

SINGLEFLIGHT_BODY void one_shot_base::give_up(handle_base& handle, wait_verdict why) {
  const call_scope scope;
  batch_type::runner* runners = nullptr;
  bool unwanted = false;
  lock();
  if (!(published_ && platform::holds(rule::limit_yields_to_result)) &&
      handle.verdict.load(memory_order_relaxed) == wait_verdict::outcome) {
    handle.verdict.store(why, memory_order_relaxed);
    if (handle.state == wait_state::pending) make_ready_locked(runners);
    unwanted = !published_;
  }
  unlock();
  batch_type::submit(runners);
  // The object still exists: a resumed waiter disarms this limit first, and so waits for this call;
  // only then does it drop the handle's reference.
  if (unwanted && platform::holds(rule::given_up_producer_is_notified)) abandoned();
}

SINGLEFLIGHT_BODY void one_shot_base::take_out(handle_base& handle) noexcept {
  lock();
  handle.require_not_resuming_locked();
  if (handle.state == wait_state::ready) batch_->ready.remove(handle);
  if (handle.state == wait_state::pending) waiting_ = nullptr;
  handle.state = wait_state::idle;
  unlock();
}

SINGLEFLIGHT_BODY wait_verdict one_shot_base::sleep(const limits& bounds) {
  settle_promises();
  const thread_state& self = this_thread();
  wait_graph::record record;
  if ((self.led != nullptr || bounds.within.frame != nullptr) &&
      !record.enter(graph_target(), self.led, bounds.within.frame, wait_graph::strength::weak,
                    &end_wait, this)) {
    return wait_verdict::recursive;
  }
  sleeper me(clock, bounds.deadline, bounds.stop);
  lock();
  const bool late = published_;
  const bool interrupted = record.interrupted();  // if set later, end_wait() finds the thread
  if (!late && !interrupted) thread_ = &me;
  unlock();
  if (late) return wait_verdict::outcome;
  const wait_verdict why = interrupted ? wait_verdict::recursive : me.sleep();
  if (why == wait_verdict::outcome && !record.interrupted()) return why;
  lock();
  thread_ = nullptr;
  const bool came = published_;
  unlock();
  return came                           ? wait_verdict::outcome
         : why == wait_verdict::outcome ? wait_verdict::recursive
                                        : why;
}

SINGLEFLIGHT_BODY void one_shot_base::abandon() {
  const call_scope scope;  // what the producer queues on this thread runs last
  if (!settled() && platform::holds(rule::abandoned_producer_is_notified)) abandoned();
  drop_reference();
}

SINGLEFLIGHT_BODY void one_shot_base::publish() {
  const call_scope scope;  // what this makes ready on this thread runs last: it may end the thread
  sleeper::name thread = nullptr;
  batch_type::runner* runners = nullptr;
  lock();
  published_ = true;
  if (thread_ != nullptr) {
    thread = std::exchange(thread_, nullptr)->tell();  // it may be destroyed from here on
  } else if (waiting_ != nullptr) {
    make_ready_locked(runners);
  }
  unlock();
  if (thread != nullptr) sleeper::wake(thread);
  drop_reference();  // the runners have their own
  batch_type::submit(runners);
}

SINGLEFLIGHT_BODY void one_shot_base::end_wait(void* waiter) noexcept {
  auto& self = *static_cast<one_shot_base*>(waiter);
  self.lock();
  if (self.thread_ != nullptr) {
    sleeper::wake(std::exchange(self.thread_, nullptr)->tell());  // it waits for the graph's lock
  }
  self.unlock();
}

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE
