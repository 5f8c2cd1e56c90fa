// SPDX-License-Identifier: Apache-2.0
#pragma once

// expiry_sweep: calls a sweep on the default pool once an interval, as long as it says that there
// is more to come.
//
// One alarm and one task a cache, each in one place at a time: the alarm is being armed, or armed,
// or the task is queued or running, or neither (idle). `lock_` guards which. Arming is not done
// under it: a timer whose time has moved on meanwhile fires at once, on this thread.

#include <chrono>
#include <cstdint>
#include <utility>

#include "singleflight/core/default_timer.hpp"
#include "singleflight/core/thread_pool.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

class expiry_sweep : timer_node, task_node {
 public:
  using action = bool (*)(void* of);

  /// `sweep(of)`: true when it is to be called again.
  expiry_sweep(timer& clock, std::chrono::nanoseconds interval, action sweep, void* of) noexcept
      : timer_node(&on_fire),
        task_node(&on_task),
        clock_(clock),
        interval_(interval),
        sweep_(sweep),
        of_(of) {}
  expiry_sweep(const expiry_sweep&) = delete;
  expiry_sweep& operator=(const expiry_sweep&) = delete;
  ~expiry_sweep() { stop(); }

  /// There is something to sweep, one day. May throw what arm throws.
  void need() {
    const phase seen = phase_.load(memory_order_relaxed);
    if (seen != phase::idle && seen != phase::running) return;
    {
      platform::unique_lock hold(lock_);
      if (phase_.load(memory_order_relaxed) != phase::idle) {
        needed_ = true;  // the sweep that runs may have passed it
        return;
      }
      if (stopped_) return;
      phase_.store(phase::arming, memory_order_relaxed);
    }
    arm();
  }

  /// Afterwards it does not run, nor will it. No need() is under way.
  void stop() noexcept {
    {
      platform::unique_lock hold(lock_);
      stopped_ = true;
      wait_locked(hold);
    }
    clock_.cancel(*this);
    platform::unique_lock hold(lock_);
    wait_locked(hold);
  }

 private:
  enum class phase : std::uint8_t { idle, arming, armed, running };

  void wait_locked(platform::unique_lock& hold) noexcept {
    for (;;) {
      const phase now = phase_.load(memory_order_relaxed);
      if (now != phase::arming && now != phase::running) return;
      ended_.wait(hold);
    }
  }
  /// Requires the phase arming.
  void arm() {
    try {
      clock_.arm(*this, deadline_after(clock_.now(), interval_));
    } catch (...) {
      platform::unique_lock hold(lock_);
      phase_.store(phase::idle, memory_order_relaxed);
      ended_.notify_all();
      throw;
    }
    {
      platform::unique_lock hold(lock_);
      const bool fired = std::exchange(fired_, false);
      phase_.store(!fired     ? phase::armed
                   : stopped_ ? phase::idle
                              : phase::running,
                   memory_order_relaxed);
      if (!fired || stopped_) {
        ended_.notify_all();  // under the lock: it may be gone after
        return;
      }
    }
    post_on_default_pool(this);
  }
  static void on_fire(timer_node& node) noexcept {
    auto& self = static_cast<expiry_sweep&>(node);
    {
      platform::unique_lock hold(self.lock_);
      if (self.phase_.load(memory_order_relaxed) == phase::arming) {
        self.fired_ = true;  // arm() goes on
        return;
      }
      self.phase_.store(self.stopped_ ? phase::idle : phase::running, memory_order_relaxed);
      if (self.stopped_) return;
    }
    post_on_default_pool(&self);
  }
  static void on_task(task_node* node, bool) {
    auto& self = static_cast<expiry_sweep&>(*node);
    struct ending {  // also when the thread ends in the sweep
      expiry_sweep& self;
      bool more = true;
      ~ending() { self.end(more); }
    } end{self};
    end.more = self.sweep_(self.of_);
  }
  void end(bool more) noexcept {
    {
      platform::unique_lock hold(lock_);
      const bool needed = std::exchange(needed_, false);
      if (stopped_ || !(more || needed)) {
        phase_.store(phase::idle, memory_order_relaxed);
        ended_.notify_all();  // under the lock: it may be gone after
        return;
      }
      phase_.store(phase::arming, memory_order_relaxed);
    }
    arm();  // does not throw: the timer has its thread
  }

  timer& clock_;
  const std::chrono::nanoseconds interval_;
  const action sweep_;
  void* const of_;
  platform::mutex lock_;
  platform::condition_variable ended_;
  atomic<phase> phase_{phase::idle};  // changed under the lock
  bool stopped_ = false;
  bool fired_ = false;   // as it was being armed
  bool needed_ = false;  // as the sweep ran
};

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE
