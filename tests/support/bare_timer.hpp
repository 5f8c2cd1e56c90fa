// SPDX-License-Identifier: Apache-2.0
#pragma once

// bare_timer: a timer such as a program may bring along: it fires when the test calls fire_all(),
// on that thread, with no library call around it.

#include <algorithm>
#include <atomic>
#include <chrono>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include <singleflight/core/timer.hpp>

namespace support {

class bare_timer final : public singleflight::timer {
 public:
  time_point now() const noexcept override { return time_point(now_.load()); }
  void arm(singleflight::timer_node& node, time_point when) override {
    const std::scoped_lock hold(lock_);
    node.when = when;
    node.next = &node;  // armed
    armed_.push_back(&node);
  }
  /// Tests never cancel a node while it fires.
  void cancel(singleflight::timer_node& node) noexcept override {
    const std::scoped_lock hold(lock_);
    if (std::erase(armed_, &node) != 0) node.next = nullptr;
  }

  /// Advances the time until every armed node is due, and fires them all.
  void fire_all() {
    std::vector<singleflight::timer_node*> due;
    {
      const std::scoped_lock hold(lock_);
      due = std::exchange(armed_, {});
      for (singleflight::timer_node* const node : due) {
        now_ = std::max(now_.load(), node->when.time_since_epoch());
        node->next = nullptr;
      }
    }
    fires_on_ = std::this_thread::get_id();
    for (singleflight::timer_node* const node : due) node->fire(*node);
    fires_on_ = std::thread::id();
  }
  /// Whether the calling thread is inside a fire.
  bool fires_here() const { return fires_on_.load() == std::this_thread::get_id(); }

 private:
  std::atomic<time_point::duration> now_{std::chrono::hours(1)};
  std::atomic<std::thread::id> fires_on_{};
  std::mutex lock_;
  std::vector<singleflight::timer_node*> armed_;
};

}  // namespace support
