// SPDX-License-Identifier: Apache-2.0
#pragma once

// group_deadline: stops a task_group at a point in time.
//
// At that moment the thread that waits may be inside of a call, and a timer's fire must run no stop
// callback: so a thread of timeout_pool() stops the group. All threads of that pool may be held up
// by stop callbacks of others; hence end() waits for an expiry that has begun, which is the group's
// own, and claims one that has not.

#include <cstdint>
#include <memory>

#include "singleflight/core/default_timer.hpp"
#include "singleflight/sync/detail/rules.hpp"
#include "singleflight/sync/detail/task_group.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

/// A point in time on a clock; without a clock it never comes.
struct group_time {
  timer* clock = nullptr;
  steady_time until{};

  bool passed() const noexcept { return clock != nullptr && clock->now() >= until; }
};

class group_deadline {
 public:
  /// Requires that `time` has a clock. The group outlives this object.
  group_deadline(task_group& group, const group_time& time)
      : clock_(*time.clock), expiry_(std::make_unique<expiry>(group)) {
    clock_.arm(*expiry_, time.until);
  }
  group_deadline(const group_deadline&) = delete;
  group_deadline& operator=(const group_deadline&) = delete;
  ~group_deadline() { end(); }

  /// After this call, the deadline stops nothing any more. Returns whether it has stopped the
  /// group.
  bool end() noexcept {
    if (expiry_ == nullptr) return false;
    clock_.cancel(*expiry_);
    phase now = expiry_->state.load(memory_order_relaxed);  // a fire comes before the cancel
    // The claim's release orders all that was done here before the task frees the expiry.
    if (now == phase::fired &&
        expiry_->state.compare_exchange_strong(now, phase::claimed, memory_order_acq_rel,
                                               memory_order_acquire)) {
      (void)expiry_.release();
      return false;
    }
    while ((now = expiry_->state.load(memory_order_acquire)) == phase::begun) {
      hand_queue_over();
      platform::wait(expiry_->state, now);
    }
    expiry_.reset();
    return now == phase::stopped;
  }

 private:
  enum class phase : std::uint32_t {
    armed,
    fired,     ///< the task is queued
    claimed,   ///< by end(): the task only frees the expiry
    begun,     ///< by the task, which stops the group
    too_late,  ///< the group had been stopped before
    stopped,   ///< the deadline has stopped the group
  };

  /// Owned by the deadline, or, once it is claimed, by its task.
  struct expiry : thread_timer_node, task_node, platform::allocated {
    explicit expiry(task_group& g)
        : thread_timer_node(&on_fire, this_thread()), task_node(&on_task), group(g) {
      make_shared_pools();
    }

    static void on_fire(timer_node& node) noexcept {
      auto& self = static_cast<expiry&>(node);
      // Seen after the cancel, or by the task.
      self.state.store(phase::fired, memory_order_relaxed);
      timeout_pool().post(&self, true);
    }
    static void on_task(task_node* node, bool) {
      auto& self = static_cast<expiry&>(*node);
      phase now = phase::fired;
      if (!self.state.compare_exchange_strong(now, phase::begun, memory_order_acq_rel,
                                              memory_order_acquire) &&
          platform::holds(rule::claimed_expiry_does_nothing)) {
        delete &self;
        return;
      }
      const bool first = self.group.request_stop();
      self.state.store(first ? phase::stopped : phase::too_late, memory_order_release);
      platform::wake(self.state, 1);  // by its address: it may be destroyed already
    }

    task_group& group;
    atomic<phase> state{phase::armed};
  };

  timer& clock_;
  std::unique_ptr<expiry> expiry_;
};

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE
