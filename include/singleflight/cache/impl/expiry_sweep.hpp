// SPDX-License-Identifier: Apache-2.0
#pragma once

// expiry_sweep: how it is armed, fires, runs, stops, and passes a fork.

#include <memory>
#include <utility>

#include "singleflight/cache/detail/expiry_sweep.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

SINGLEFLIGHT_BODY expiry_sweep::expiry_sweep(timer& clock, std::chrono::nanoseconds interval,
                                             action sweep, void* context)
    : timer_node(&on_fire),
      fork_member(rank::cache),
      clock_(clock),
      interval_(interval),
      sweep_(sweep),
      context_(context),
      task_(std::make_unique<sweep_task>(*this)) {
  enter_forks();
}

SINGLEFLIGHT_BODY expiry_sweep::~expiry_sweep() {
  leave_forks();
  stop();
}

SINGLEFLIGHT_BODY void expiry_sweep::request_now() {
  {
    platform::unique_lock hold(lock_);
    requested_ = true;  // a sweep in progress may have passed the new entry
    if (phase_.load(memory_order_relaxed) != phase::idle || !claim_locked()) return;
  }
  arm();
}

SINGLEFLIGHT_BODY void expiry_sweep::stop() noexcept {
  settle_promises();
  {
    platform::unique_lock hold(lock_);
    stopped_ = true;
    while (arming_ > 0 && platform::holds(rule::stop_waits_for_arming)) ended_.wait(hold);
  }
  clock_.cancel(*this);
  platform::unique_lock hold(lock_);
  if (phase_.load(memory_order_relaxed) == phase::running && task_->advance(stage::abandoned)) {
    (void)task_.release();
    phase_.store(phase::idle, memory_order_relaxed);
    return;
  }
  if (phase_.load(memory_order_relaxed) == phase::running) hand_queue_over(hold);
  while (phase_.load(memory_order_relaxed) == phase::running &&
         platform::holds(rule::stop_waits_for_sweep)) {
    ended_.wait(hold);
  }
}

SINGLEFLIGHT_BODY bool expiry_sweep::claim_locked() noexcept {
  if (stopped_ && platform::holds(rule::stopped_sweep_stays)) return false;
  phase_.store(phase::armed, memory_order_relaxed);
  ++arming_;
  return true;
}

SINGLEFLIGHT_BODY void expiry_sweep::arm() {
  struct arming {
    expiry_sweep& self;
    bool armed = false;
    ~arming() {
      platform::unique_lock hold(self.lock_);
      --self.arming_;
      if (!armed) self.phase_.store(phase::idle, memory_order_relaxed);
      if (self.stopped_) self.ended_.notify_all();  // locked: it may be destroyed after
    }
  } under_way{*this};
  // If it is not armed, the next store tries again.
  under_way.armed = arm_patiently(clock_, *this, deadline_after(clock_.now(), interval_));
}

SINGLEFLIGHT_BODY void expiry_sweep::on_fire(timer_node& node) noexcept {
  auto& self = static_cast<expiry_sweep&>(node);
  {
    platform::unique_lock hold(self.lock_);
    self.phase_.store(phase::running, memory_order_relaxed);
    self.requested_ = false;
    self.task_->state.store(stage::queued, memory_order_relaxed);  // published with the task
  }
  detail::post_on_default_pool(self.task_.get());
}

SINGLEFLIGHT_BODY void expiry_sweep::on_task(task_node* node, bool /*run*/) {
  auto* const task = static_cast<sweep_task*>(node);
  if (!task->advance(stage::begun)) {
    delete task;
    return;
  }
  expiry_sweep& self = task->owner;
  self.sweeper_ = platform::this_thread_id();
  struct ending {  // also if the thread ends in the sweep
    expiry_sweep& self;
    bool more = true;
    ~ending() { self.end(more); }
  } end{self};
  end.more = self.sweep_(self.context_);
}

SINGLEFLIGHT_BODY void expiry_sweep::end(bool more) noexcept {
  {
    platform::unique_lock hold(lock_);
    phase_.store(phase::idle, memory_order_relaxed);
    if (stopped_) ended_.notify_all();  // under the lock: it may be destroyed afterwards
    const bool requested = requested_ && platform::holds(rule::store_needs_sweep);
    if ((!more && !requested) || !claim_locked()) return;
  }
  arm();
}

// ---- fork ---------------------------------------------------------------------------------------

SINGLEFLIGHT_BODY void expiry_sweep::hold() noexcept { lock_.lock(); }
SINGLEFLIGHT_BODY void expiry_sweep::release() noexcept { lock_.unlock(); }
SINGLEFLIGHT_BODY void expiry_sweep::repair() noexcept {
  platform::renew(ended_);
  const phase was = phase_.load(memory_order_relaxed);
  const bool here = was == phase::running && sweeper_ == platform::this_thread_id();
  if (was == phase::idle || timer_node::next != nullptr || here) return;
  arming_ = 0;
  phase_.store(phase::idle, memory_order_relaxed);
  cut_ = true;
}
SINGLEFLIGHT_BODY void expiry_sweep::go_on() noexcept {
  {
    platform::unique_lock hold(lock_);
    if (!std::exchange(cut_, false) || !claim_locked()) return;
  }
  arm();
}

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE
