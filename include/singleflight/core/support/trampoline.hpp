// SPDX-License-Identifier: Apache-2.0
#pragma once

// The per-thread trampoline: what inline_executor queues, the outermost library call runs at its
// end, one after the other. A task that queues another never nests in it, so the stack stays
// constant.

#include "singleflight/core/executor.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

/// Before this thread sleeps: what stands in its trampoline goes to the default pool. What this
/// thread sleeps for may be waiting for that.
inline void hand_queue_over(thread_state& self) {
  task_node* queued = std::exchange(self.queue_head, nullptr);
  self.queue_tail = nullptr;
  self.forked = false;
  while (task_node* const node = queued) {
    queued = node->next;
    post_on_default_pool(node);
  }
}
inline void hand_queue_over() {
  thread_state& self = this_thread();
  if (self.queue_head != nullptr && platform::holds(rule::sleeper_hands_queue_over)) {
    hand_queue_over(self);
  }
}

/// The same for who holds a lock, which is let go meanwhile.
inline void hand_queue_over(platform::unique_lock& hold) {
  if (this_thread().queue_head == nullptr) return;
  hold.unlock();
  hand_queue_over();
  hold.lock();
}

/// Marks a library call that may hand work to the trampoline; the outermost one drains it.
class call_scope {
 public:
  call_scope() noexcept : self_(this_thread()), outermost_(!std::exchange(self_.in_scope, true)) {}
  bool outermost() const noexcept { return outermost_; }
  /// Whether its end has something to run, as far as known now.
  bool drains() const noexcept { return outermost_ && self_.queue_head != nullptr; }
  call_scope(const call_scope&) = delete;
  call_scope& operator=(const call_scope&) = delete;
  SINGLEFLIGHT_INLINE ~call_scope() noexcept(false) {
    if (!outermost_) return;
    if (self_.queue_head != nullptr) drain(self_);
    self_.in_scope = false;
  }

 private:
  SINGLEFLIGHT_NOINLINE static void drain(thread_state& self) {
    struct closing {  // a task that throws or ends its thread leaves the rest to the default pool
      thread_state& self;
      bool drained = false;
      ~closing() {
        if (drained) return;
        self.in_scope = false;
        hand_queue_over(self);
      }
    } close{self};
    const on_errand errand;
    while (task_node* const node = self.queue_head) {
      self.queue_head = node->next;
      if (node->next == nullptr) self.queue_tail = nullptr;
      node->act(node, true);
    }
    close.drained = true;
  }

  thread_state& self_;
  bool outermost_;
};

/// Queues `node` on this thread, for the end of the outermost library call.
inline void run_later_here(task_node* node) {
  const call_scope scope;
  thread_state& self = this_thread();
  node->next = nullptr;
  if (self.queue_tail != nullptr) {
    self.queue_tail->next = node;
  } else {
    self.queue_head = node;
  }
  self.queue_tail = node;
}

/// Whether `node` is queued on this thread.
inline bool is_queued_here(const task_node* node) noexcept {
  const task_node* at = this_thread().queue_head;
  while (at != nullptr && at != node) at = at->next;
  return at != nullptr;
}

/// While it lives, work for inline_executor goes to the default pool: this thread is inside run().
class inside_run {
 public:
  explicit inside_run(thread_state& self) noexcept : self_(self) { ++self_.inside_run; }
  inside_run(const inside_run&) = delete;
  inside_run& operator=(const inside_run&) = delete;
  ~inside_run() { --self_.inside_run; }

 private:
  thread_state& self_;
};

/// Around what a limit does as it strikes: within a stop callback, or a timer's fire, which whoever
/// disarms the limit on another thread waits for. So nobody is resumed there, and no load begins:
/// it might disarm one whose strike, on that other thread, does the same. What inline_executor is
/// given comes at the end of the library call around the strike, or on the default pool if there is
/// none.
class strike_scope {
 public:
  strike_scope() noexcept : self_(this_thread()), marks_(!self_.in_scope) {
    if (marks_ && platform::holds(rule::strikes_run_nobody)) ++self_.inside_run;
  }
  strike_scope(const strike_scope&) = delete;
  strike_scope& operator=(const strike_scope&) = delete;
  ~strike_scope() {
    if (marks_ && platform::holds(rule::strikes_run_nobody)) --self_.inside_run;
  }

 private:
  thread_state& self_;
  bool marks_;
};

/// The same within a timer's fire. What is disarmed waits for that, so no users' code runs there: a
/// task that is dropped stands for some (drop_later).
class fire_scope {
 public:
  fire_scope() noexcept : self_(this_thread()) { ++self_.fires; }
  fire_scope(const fire_scope&) = delete;
  fire_scope& operator=(const fire_scope&) = delete;
  ~fire_scope() { --self_.fires; }

 private:
  thread_state& self_;
  const strike_scope strikes_;
};

inline bool is_inside_run(const thread_state& self) noexcept {
  if (self.inside_run > 0) return true;
  for (const led_frame* frame = self.led; frame != nullptr; frame = frame->outer) {
    if (frame->inline_run) return true;
  }
  return false;
}

}  // namespace detail

inline void inline_executor_t::execute(task t) const {
  detail::thread_state& self = detail::this_thread();
  if (detail::is_inside_run(self) &&
      detail::platform::holds(detail::rule::strangers_go_to_the_pool)) {
    detail::execute_on_default_pool(std::move(t));
    return;
  }
  detail::run_later_here(t.release());
}

SINGLEFLIGHT_END_NAMESPACE
