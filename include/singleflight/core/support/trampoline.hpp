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
void hand_queue_over(thread_state& self);
void hand_queue_over();

/// The same for who holds a lock, which is let go meanwhile.
void hand_queue_over(platform::unique_lock& hold);

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
  static void drain(thread_state& self);

  thread_state& self_;
  bool outermost_;
};

/// Queues `node` on this thread, for the end of the outermost library call.
void run_later_here(task_node* node);

/// Whether `node` is queued on this thread.
bool is_queued_here(const task_node* node) noexcept;

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

bool is_inside_run(const thread_state& self) noexcept;

}  // namespace detail

SINGLEFLIGHT_END_NAMESPACE

#if !defined(SINGLEFLIGHT_COMPILED)
#include "singleflight/core/impl/trampoline.hpp"
#endif
