// SPDX-License-Identifier: Apache-2.0
#pragma once

// trampoline: a thread's queue of the tasks that inline_executor was given. The outermost library
// call runs them when it ends, one after the other. A task that is queued by another never nests in
// it, so the stack stays constant.

#include "singleflight/core/executor.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

/// Called before this thread blocks: moves the tasks in its trampoline to the default pool, since
/// what the thread waits for may depend on them.
void hand_queue_over(thread_state& self);
void hand_queue_over();

/// Like the above, for a caller that holds a lock, which is released meanwhile.
void hand_queue_over(platform::unique_lock& hold);

/// Marks a library call that may queue tasks in the trampoline; the outermost one drains it.
class call_scope {
 public:
  call_scope() noexcept : self_(this_thread()), outermost_(!std::exchange(self_.in_scope, true)) {}
  bool outermost() const noexcept { return outermost_; }
  /// Returns whether its end has a task to run, as far as is known now.
  bool drains() const noexcept { return outermost_ && self_.queue_head != nullptr; }
  call_scope(const call_scope&) = delete;
  call_scope& operator=(const call_scope&) = delete;
  SINGLEFLIGHT_INLINE ~call_scope() noexcept(false) {
    if (!outermost_) return;
    if (self_.queue_head != nullptr) drain(self_);
    self_.in_scope = false;
  }

 private:
  static void drain(thread_state& self);

  thread_state& self_;
  bool outermost_;
};

/// Queues `node` on this thread, to run at the end of the outermost library call.
void run_later_here(task_node* node);

/// Returns whether `node` is queued on this thread.
bool is_queued_here(const task_node* node) noexcept;

/// For as long as the object exists, this thread is inside run(), and tasks for inline_executor go
/// to the default pool.
class inside_run {
 public:
  explicit inside_run(thread_state& self) noexcept : self_(self) { ++self_.inside_run; }
  inside_run(const inside_run&) = delete;
  inside_run& operator=(const inside_run&) = delete;
  ~inside_run() { --self_.inside_run; }

 private:
  thread_state& self_;
};

/// Surrounds the action of a limit that has expired, in a stop callback or in a timer's fire. A
/// thread that disarms the limit waits for the action. So no waiter is resumed and no load begins
/// inside it: that code might disarm a limit whose action, on the other thread, does the same.
/// Tasks for inline_executor run at the end of the enclosing library call, or, if there is none, on
/// the default pool.
class limit_scope {
 public:
  limit_scope() noexcept : self_(this_thread()), marks_(!self_.in_scope) {
    if (marks_ && platform::holds(rule::expiry_resumes_nobody)) ++self_.inside_run;
  }
  limit_scope(const limit_scope&) = delete;
  limit_scope& operator=(const limit_scope&) = delete;
  ~limit_scope() {
    if (marks_ && platform::holds(rule::expiry_resumes_nobody)) --self_.inside_run;
  }

 private:
  thread_state& self_;
  bool marks_;
};

/// Surrounds a timer's fire. A thread that disarms a node waits for the fire, so no user code runs
/// in it; dropping a task may run some (drop_later).
class fire_scope {
 public:
  fire_scope() noexcept : self_(this_thread()) { ++self_.fires; }
  fire_scope(const fire_scope&) = delete;
  fire_scope& operator=(const fire_scope&) = delete;
  ~fire_scope() { --self_.fires; }

 private:
  thread_state& self_;
  const limit_scope limit_;
};

bool is_inside_run(const thread_state& self) noexcept;

}  // namespace detail

SINGLEFLIGHT_END_NAMESPACE

#if !defined(SINGLEFLIGHT_COMPILED)
#include "singleflight/core/impl/trampoline.hpp"
#endif
