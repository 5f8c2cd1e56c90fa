// SPDX-License-Identifier: Apache-2.0
#pragma once

// trampoline: queueing tasks, draining them, and moving them to the default pool before the thread
// blocks.

#include <utility>

#include "singleflight/core/support/trampoline.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

SINGLEFLIGHT_BODY void hand_queue_over(thread_state& self) {
  task_node* queued = std::exchange(self.queue_head, nullptr);
  self.queue_tail = nullptr;
  self.forked = false;
  while (task_node* const node = queued) {
    queued = node->next;
    post_on_default_pool(node);
  }
}

SINGLEFLIGHT_BODY void hand_queue_over() {
  thread_state& self = this_thread();
  if (self.queue_head != nullptr && platform::holds(rule::sleeper_hands_queue_over)) {
    hand_queue_over(self);
  }
}

SINGLEFLIGHT_BODY void hand_queue_over(platform::unique_lock& hold) {
  if (this_thread().queue_head == nullptr) return;
  hold.unlock();
  hand_queue_over();
  hold.lock();
}

SINGLEFLIGHT_NOINLINE SINGLEFLIGHT_BODY void call_scope::drain(thread_state& self) {
  struct closing {  // after a task that throws or ends its thread, the default pool runs the rest
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

SINGLEFLIGHT_BODY void run_later_here(task_node* node) {
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

SINGLEFLIGHT_BODY bool is_queued_here(const task_node* node) noexcept {
  const task_node* queued = this_thread().queue_head;
  while (queued != nullptr && queued != node) queued = queued->next;
  return queued != nullptr;
}

SINGLEFLIGHT_BODY bool is_inside_run(const thread_state& self) noexcept {
  if (self.inside_run > 0) return true;
  for (const led_frame* frame = self.led; frame != nullptr; frame = frame->outer) {
    if (frame->inline_run) return true;
  }
  return false;
}

}  // namespace detail

SINGLEFLIGHT_BODY void inline_executor_t::execute(task t) const {
  detail::thread_state& self = detail::this_thread();
  if (detail::is_inside_run(self) &&
      detail::platform::holds(detail::rule::inline_tasks_go_to_the_pool)) {
    detail::execute_on_default_pool(std::move(t));
    return;
  }
  detail::run_later_here(t.release());
}

SINGLEFLIGHT_END_NAMESPACE
