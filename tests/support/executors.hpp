// SPDX-License-Identifier: Apache-2.0
#pragma once

// Executors that a test controls: one keeps its tasks until the test runs them, one drops every
// task, one refuses every task, one starts a thread for each task.

#include <cstddef>
#include <deque>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <thread>
#include <utility>

#include <singleflight/core/executor.hpp>

namespace support {

/// Keeps tasks until the test runs them, on the calling thread. Copies share one queue.
class manual_executor {
 public:
  void execute(singleflight::task work) {
    const std::lock_guard hold(queue_->lock);
    queue_->tasks.push_back(std::move(work));
  }
  /// Runs the oldest task; returns false when there is none.
  bool run_one() {
    singleflight::task work = take();
    if (!work) return false;
    work();
    return true;
  }
  /// Runs tasks until none is left; returns how many ran.
  std::size_t run_all() {
    std::size_t count = 0;
    while (run_one()) ++count;
    return count;
  }
  /// Destroys the oldest task unrun; returns false when there is none.
  bool drop_one() {
    const singleflight::task work = take();
    return static_cast<bool>(work);
  }
  std::size_t size() const {
    const std::lock_guard hold(queue_->lock);
    return queue_->tasks.size();
  }

 private:
  struct queue {
    std::mutex lock;
    std::deque<singleflight::task> tasks;
  };
  singleflight::task take() {
    const std::lock_guard hold(queue_->lock);
    if (queue_->tasks.empty()) return {};
    singleflight::task work = std::move(queue_->tasks.front());
    queue_->tasks.pop_front();
    return work;
  }
  std::shared_ptr<queue> queue_ = std::make_shared<queue>();
};

/// Destroys every task unrun.
struct dropping_executor {
  void execute(singleflight::task work) const { const singleflight::task dropped(std::move(work)); }
};

/// Refuses every task by an exception.
struct refusing_executor {
  void execute(singleflight::task) const { throw std::runtime_error("this executor is full"); }
};

/// Starts a new thread for every task. The original object (not a copy) joins them all at its end.
class thread_per_task {
 public:
  thread_per_task() = default;
  thread_per_task(const thread_per_task& other) : all_(other.all_), owner_(false) {}
  thread_per_task& operator=(const thread_per_task&) = delete;
  ~thread_per_task() {
    if (owner_) join();
  }

  void execute(singleflight::task work) {
    const std::lock_guard hold(all_->lock);
    all_->threads.emplace_back([w = std::move(work)]() mutable { w(); });
  }
  /// Waits for all threads, including those that these threads start.
  void join() {
    for (;;) {
      std::thread one;
      {
        const std::lock_guard hold(all_->lock);
        if (all_->threads.empty()) return;
        one = std::move(all_->threads.front());
        all_->threads.pop_front();
      }
      one.join();
    }
  }

 private:
  struct threads {
    std::mutex lock;
    std::deque<std::thread> threads;
  };
  std::shared_ptr<threads> all_ = std::make_shared<threads>();
  bool owner_ = true;
};

}  // namespace support
