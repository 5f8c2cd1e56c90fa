// SPDX-License-Identifier: Apache-2.0
#pragma once

// expiry_sweep: calls a sweep on the default pool once per interval, as long as it returns that
// there is more to come.
//
// One alarm and one task per cache, and at most one of them in use: the alarm is armed, or the task
// is queued or running, or neither (idle). `lock_` guards which. The alarm is armed without the
// lock, since a timer may fire within arm; `arming_` makes stop() wait for that. A pool may be full
// of tasks that wait for the cache's end: so stop() waits for a sweep that has begun, and abandons
// a task that is only queued, which then frees itself.

#include <chrono>
#include <cstdint>
#include <memory>

#include "singleflight/cache/detail/rules.hpp"
#include "singleflight/core/default_timer.hpp"
#include "singleflight/core/thread_pool.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

class expiry_sweep final : timer_node, fork_member {
 public:
  using action = bool (*)(void* context);

  /// `sweep(context)` returns true if it is to be called again.
  expiry_sweep(timer& clock, std::chrono::nanoseconds interval, action sweep, void* context)
      : timer_node(&on_fire),
        fork_member(rank::cache),
        clock_(clock),
        interval_(interval),
        sweep_(sweep),
        context_(context),
        task_(std::make_unique<sweep_task>(*this)) {
    enter_forks();
  }
  expiry_sweep(const expiry_sweep&) = delete;
  expiry_sweep& operator=(const expiry_sweep&) = delete;
  ~expiry_sweep() {
    leave_forks();
    stop();
  }

  /// Arms the alarm unless a sweep is pending. If arming fails, the next call tries again.
  void request() {
    if (phase_.load(memory_order_relaxed) == phase::armed) return;
    {
      platform::unique_lock hold(lock_);
      requested_ = true;  // a sweep in progress may have passed the new entry
      if (phase_.load(memory_order_relaxed) != phase::idle || !claim_locked()) return;
    }
    arm();
  }

  /// After this call, no sweep runs or begins.
  void stop() noexcept {
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

 private:
  enum class phase : std::uint8_t { idle, armed, running };
  enum class stage : std::uint32_t { queued, begun, abandoned };

  /// The task; owned by its sweep, or, once it was abandoned, by itself.
  struct sweep_task : task_node, platform::allocated {
    explicit sweep_task(expiry_sweep& sweep) noexcept : task_node(&on_task), owner(sweep) {}
    /// Changes the stage from `queued`. Either the task begins first, or stop() abandons it first.
    bool advance(stage to) noexcept {
      stage from = stage::queued;
      return state.compare_exchange_strong(from, to, memory_order_acq_rel, memory_order_acquire);
    }
    expiry_sweep& owner;
    atomic<stage> state{stage::queued};
  };

  /// Returns whether the caller has to call arm(), without the lock.
  bool claim_locked() noexcept {
    if (stopped_ && platform::holds(rule::stopped_sweep_stays)) return false;
    phase_.store(phase::armed, memory_order_relaxed);
    ++arming_;
    return true;
  }
  void arm() {
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
  static void on_fire(timer_node& node) noexcept {
    auto& self = static_cast<expiry_sweep&>(node);
    {
      platform::unique_lock hold(self.lock_);
      self.phase_.store(phase::running, memory_order_relaxed);
      self.requested_ = false;
      self.task_->state.store(stage::queued, memory_order_relaxed);  // published with the task
    }
    detail::post_on_default_pool(self.task_.get());
  }
  static void on_task(task_node* node, bool) {
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
  void end(bool more) noexcept {
    {
      platform::unique_lock hold(lock_);
      phase_.store(phase::idle, memory_order_relaxed);
      if (stopped_) ended_.notify_all();  // under the lock: it may be destroyed afterwards
      const bool requested = requested_ && platform::holds(rule::store_needs_sweep);
      if ((!more && !requested) || !claim_locked()) return;
    }
    arm();
  }

  // ---- fork: a sweep that was queued or running is the parent's; the child has its own ----------

  SINGLEFLIGHT_COLD void hold() noexcept override { lock_.lock(); }
  SINGLEFLIGHT_COLD void release() noexcept override { lock_.unlock(); }
  SINGLEFLIGHT_COLD void repair() noexcept override {
    platform::renew(ended_);
    const phase was = phase_.load(memory_order_relaxed);
    const bool here = was == phase::running && sweeper_ == platform::this_thread_id();
    if (was == phase::idle || timer_node::next != nullptr || here) return;
    arming_ = 0;
    phase_.store(phase::idle, memory_order_relaxed);
    cut_ = true;
  }
  SINGLEFLIGHT_COLD void go_on() noexcept override {
    {
      platform::unique_lock hold(lock_);
      if (!std::exchange(cut_, false) || !claim_locked()) return;
    }
    arm();
  }

  timer& clock_;
  const std::chrono::nanoseconds interval_;
  const action sweep_;
  void* const context_;
  std::unique_ptr<sweep_task> task_;
  platform::mutex lock_;
  platform::condition_variable ended_;
  atomic<phase> phase_{phase::idle};  // changed under the lock
  unsigned arming_ = 0;
  bool requested_ = false;  // request() was called since the last sweep began
  bool stopped_ = false;
  bool cut_ = false;  // by a fork
  platform::thread_id sweeper_{};
};

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE
