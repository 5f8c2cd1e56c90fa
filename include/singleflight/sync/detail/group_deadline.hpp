// SPDX-License-Identifier: Apache-2.0
#pragma once

// group_deadline: stops a task_group when the time has come.
//
// The thread that waits may be inside of a call then, and a timer's fire must run no stop callback:
// so a thread of timeout_pool() strikes. Those may all be held up by others' stop callbacks; hence
// end() waits for a strike that has begun, which is the group's own, and claims one that has not.

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
  /// `time` has a clock. The group outlives this object.
  group_deadline(task_group& group, const group_time& time)
      : clock_(*time.clock), strike_(std::make_unique<strike>(group)) {
    clock_.arm(*strike_, time.until);
  }
  group_deadline(const group_deadline&) = delete;
  group_deadline& operator=(const group_deadline&) = delete;
  ~group_deadline() { end(); }

  /// Afterwards nobody strikes any more; whether it was the deadline that stopped the group.
  bool end() noexcept {
    if (strike_ == nullptr) return false;
    clock_.cancel(*strike_);
    phase now = strike_->at.load(memory_order_relaxed);  // a fire comes before the cancel
    // The claim's release orders all that was done here before the task frees the strike.
    if (now == phase::fired &&
        strike_->at.compare_exchange_strong(now, phase::claimed, memory_order_acq_rel,
                                            memory_order_acquire)) {
      (void)strike_.release();
      return false;
    }
    while ((now = strike_->at.load(memory_order_acquire)) == phase::begun) {
      hand_queue_over();
      platform::wait(strike_->at, now);
    }
    strike_.reset();
    return now == phase::struck;
  }

 private:
  enum class phase : std::uint32_t {
    armed,
    fired,    ///< the task is queued
    claimed,  ///< by end(): the task has but to free the strike
    begun,    ///< by the task, which stops the group
    too_late,
    struck,
  };

  /// Owned by the deadline, or, once it is claimed, by its task.
  struct strike : thread_timer_node, task_node, platform::allocated {
    explicit strike(task_group& g)
        : thread_timer_node(&on_fire, this_thread()), task_node(&on_task), group(g) {
      make_shared_pools();
    }

    static void on_fire(timer_node& node) noexcept {
      auto& self = static_cast<strike&>(node);
      self.at.store(phase::fired, memory_order_relaxed);  // seen after the cancel, or by the task
      timeout_pool().post(&self, true);
    }
    static void on_task(task_node* node, bool) {
      auto& self = static_cast<strike&>(*node);
      phase now = phase::fired;
      if (!self.at.compare_exchange_strong(now, phase::begun, memory_order_acq_rel,
                                           memory_order_acquire) &&
          platform::holds(rule::claimed_strike_stays_away)) {
        delete &self;
        return;
      }
      const bool first = self.group.request_stop();
      self.at.store(first ? phase::struck : phase::too_late, memory_order_release);
      platform::wake(self.at, 1);  // by its address: it may have gone
    }

    task_group& group;
    atomic<phase> at{phase::armed};
  };

  timer& clock_;
  std::unique_ptr<strike> strike_;
};

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE
