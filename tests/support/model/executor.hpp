// SPDX-License-Identifier: Apache-2.0
#pragma once

// An executor for worlds: it keeps its tasks until a thread of the world runs or drops one.
// Submitting and taking a task are steps.

#include <deque>
#include <memory>
#include <source_location>
#include <utility>

#include "support/model/scheduler.hpp"
#include <singleflight/core/executor.hpp>

namespace model {

/// Copies share one queue. Where there is no memory for one more task, execute throws, as executors
/// may.
class queue_executor {
 public:
  void execute(singleflight::task work) {
    step();
    queue_->push_back(std::move(work));
  }
  /// Runs the oldest task; returns false when there is none.
  bool run_one() {
    singleflight::task work = take();
    if (!work) return false;
    work();
    return true;
  }
  void run_all() {
    while (run_one()) {
    }
  }
  /// Destroys the oldest task unrun; returns false when there is none.
  bool drop_one() {
    const singleflight::task work = take();
    return static_cast<bool>(work);
  }

 private:
  void step() const { arrive(op::exchange, queue_.get(), std::source_location::current()); }
  singleflight::task take() {
    step();
    if (queue_->empty()) return {};
    singleflight::task work = std::move(queue_->front());
    queue_->pop_front();
    return work;
  }
  std::shared_ptr<std::deque<singleflight::task>> queue_ =
      std::make_shared<std::deque<singleflight::task>>();
};

}  // namespace model
