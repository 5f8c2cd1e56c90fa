// SPDX-License-Identifier: Apache-2.0
#pragma once

// task_group: tasks that are waited for together; error_group, collect and run_all are built on it.
//
// The group owns the queue of its unbegun tasks. An executor gets a ticket: permission to send a
// thread, which then takes tasks of the group as long as one may begin. At most one ticket is with
// the executor at a time; its node is part of the group, so queueing costs a task nothing.
//
// G1  While a task may begin (one is unbegun, and fewer run than the limit), a thread is on its
//     way: a ticket is posted, or a sleeping waiter has been called, or, on inline_executor, a
//     thread that works for the group will take the task; unless the executor has refused the
//     ticket, and then no thread sleeps in wait().
// G2  A waiter sleeps only after it has seen, under the lock, that no task may begin. Whatever
//     changes that later (a new task, the end of a runner's thread) calls the waiter before it
//     would post a ticket.
// G3  `pending_` counts what a wait waits for: tasks unbegun, running, or skipped and not destroyed
//     yet. The thread that takes it to 0 while waiters are listed ends the round, and takes all of
//     them out of the list in the same critical section; each is given its outcome, then notified.
// G4  A listed waiter's node is alive: its thread leaves under the lock, of its own accord, or once
//     it has been notified (its `word` is `over`), after which no other thread touches the node.
// G5  These hold a reference each: the owner, a ticket that is posted or at work, a listed waiter
//     until it has held the lock again, and a stop whose callbacks run. What is done after an
//     unlock needs nothing of the group: a wakeup has its own copy of the executor.
// G6  In a child of fork, only the forking thread's own ticket is posted and no waiter is listed.
//     The references of tickets that other threads would have run are kept: a user's executor may
//     still run one.
// G7  The memory of a task that has ended is kept for later ones: one block in `ready_`, the others
//     in `free_blocks_`, which the lock guards. A thread that adds a task takes the ready one
//     without the lock, and puts another in its place under it. So a task allocates nothing once
//     there have been as many at a time, but for threads that take the ready one at the same time.
//
// One lock guards everything but the waiters' words and `ready_`; no user code runs under it (a
// task, its destructor, a stop callback, the executor). Its unlock releases, its lock acquires: so
// the effects of a task come before those of its end, and these, with the release of `word` and a
// waiter's acquire, before the return of the wait. What is stored in `ready_` is released, and
// acquired by the thread that takes it.

#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "singleflight/core/executor.hpp"
#include "singleflight/core/outcome.hpp"
#include "singleflight/core/support/bit_lock.hpp"
#include "singleflight/core/support/stop_token.hpp"
#include "singleflight/sync/detail/group_frame.hpp"
#include "singleflight/sync/detail/group_task.hpp"
#include "singleflight/sync/detail/group_waiters.hpp"
#include "singleflight/sync/detail/rules.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE

namespace detail {

class task_group final : private task_node, private fork_member, public platform::allocated {
 public:
  static constexpr std::size_t unlimited = std::numeric_limits<std::size_t>::max();

  struct settings {
    any_executor executor;
    std::size_t limit;
    std::size_t max_queued;
    bool stops_on_error;
    std::stop_token parent;
    bool lasts = false;  ///< it is kept between its uses: then a fork repairs it
  };
  enum class admission : std::uint8_t { accepted, skipped, full };

  explicit task_group(settings options)
      : task_node(&on_ticket), fork_member(rank::lines), options_(std::move(options)) {
    if (options_.lasts) enter_forks();
  }
  ~task_group() {
    if (options_.lasts) leave_forks();
    if (task_block* const one = ready_.load(memory_order_relaxed)) task_block::free(one);
    while (task_block* const one = free_blocks_) {
      free_blocks_ = one->next;
      task_block::free(one);
    }
  }

  /// Makes a task of a callable, and adds it. With `immediately`, it is neither queued nor skipped
  /// if it cannot begin.
  template <class Fn>
  admission add(Fn&& fn, bool immediately) {
    return add_task(make_group_task(*this, std::forward<Fn>(fn)), immediately);
  }
  /// The memory of a task (G7).
  void* take() {
    task_block* const block = ready_.exchange(nullptr, memory_order_acquire);
    return block != nullptr ? block : task_block::make();
  }
  void give_back(void* block) noexcept {
    auto* const ready = ::new (block) task_block{nullptr};
    if (task_block* const other = ready_.exchange(ready, memory_order_acq_rel)) {
      task_block::free(other);
    }
  }

  /// Runs tasks of this group until nothing is left to be waited for. In a cycle of waits it
  /// returns `recursive` only where no weaker wait could be ended, and never when it is firm.
  outcome<void> wait(wait_graph::strength strength);

  /// Skips what has not begun and asks the rest to stop. Returns false if that had been done
  /// already.
  bool request_stop();

  std::stop_token token();

  /// Returns the errors in the order in which the tasks failed.
  std::vector<task_error> errors() { return errors_of(failed_, lock_); }

  std::size_t skipped() noexcept {
    lock_.lock();
    const std::size_t count = skipped_;
    lock_.unlock();
    return count;
  }

  /// Returns whether this thread is within a task of the group, or within its stop: a wait here
  /// would wait for itself.
  bool runs_on_this_thread() const noexcept { return group_frame::is_inside(this); }

  /// Called when the owner is destroyed; nothing is pending then. A ticket may still be in the
  /// executor, and the executor may be kept alive by what it holds: so the group releases it here.
  void disown();

 private:
  void keep_block_locked(task_block& block) noexcept;
  /// Destroys `t` if it is not accepted.
  admission add_task(owned_task t, bool immediately);

  /// The thread that is to be set to work once the lock is free.
  struct wakeup {
    const atomic<std::uint32_t>* sleeper = nullptr;
    std::optional<any_executor> ticket;  ///< for which executor: a copy, the group may be destroyed
  };

  bool is_full(bool immediately) const noexcept {
    const std::size_t all = running_ + queue_.count;
    if (options_.limit == unlimited) return queue_.count >= options_.max_queued;
    return all >= options_.limit && (immediately || all - options_.limit >= options_.max_queued);
  }

  // ---- which thread works (G1, G2) --------------------------------------------------------------

  bool may_begin() const noexcept {
    return queue_.first != nullptr &&
           (running_ < options_.limit || !platform::holds(rule::task_limit_is_kept));
  }
  wakeup choose_worker_locked(bool thread_ends = false) noexcept;
  /// Returns whether a ticket for inline_executor would run on this very thread: later tasks,
  /// before its own.
  bool works_inline_locked() const noexcept {
    return options_.executor.is_inline() && group_frame::works_for(this) &&
           platform::holds(rule::worker_keeps_order);
  }
  /// Called without the lock.
  void send(wakeup& worker);

  static std::uint32_t ticket_reference() noexcept {
    return platform::holds(rule::ticket_holds_group) ? 1 : 0;
  }
  static std::uint32_t waiter_reference() noexcept {
    return platform::holds(rule::sleeper_holds_group) ? 1 : 0;
  }
  static void on_ticket(task_node* node, bool run);

  /// Runs tasks as long as one may begin. Throws only when a task ends the thread; the lock is then
  /// free.
  void work_locked();
  void run_and_lock(group_task& t, wakeup& first);

  /// Called without the lock, before the first sleep of a thread that leads something. Returns
  /// false if the wait is recursive.
  static bool record_wait(group_waiter& self, std::uint64_t use,
                          wait_graph::strength strength) noexcept;

  // ---- errors and stops -------------------------------------------------------------------------

  /// Returns how many tasks have ended, for pending_: this one, and those that its failure skipped.
  std::size_t fail_and_lock(group_task& t);
  /// Returns what will not begin; to be destroyed, and then subtracted from pending_.
  group_tasks stop_locked() noexcept;
  /// Runs the stop callbacks and destroys `skipped`. The lock is held before and after, but not
  /// meanwhile.
  void run_stop_and_lock(const group_tasks& skipped);

  // ---- one use after the other (G3, G4) ---------------------------------------------------------

  /// Returns the records of the last use, to be destroyed without the lock.
  group_tasks begin_use_locked() noexcept;
  outcome<void> outcome_locked() const;
  /// Gives the outcome to `self` and to all listed waiters; returns these, to be notified.
  group_waiter* end_use_locked(group_waiter* self);
  group_waiter* end_use_if_over_locked() {
    return pending_ == 0 && !waiters_.empty() && platform::holds(rule::last_task_ends_waits)
               ? end_use_locked(nullptr)
               : nullptr;
  }
  /// Every thread that holds references leaves through here.
  void unlock_and_drop(std::uint32_t references);

  // ---- fork (G6) --------------------------------------------------------------------------------

  SINGLEFLIGHT_COLD void hold() noexcept override { lock_.lock(); }
  SINGLEFLIGHT_COLD void release() noexcept override { lock_.unlock(); }
  SINGLEFLIGHT_COLD void repair() noexcept override {
    if (!is_queued_here(this)) posted_ = false;
    references_ -= waiters_.forget() * waiter_reference();
  }

  settings options_;

  // The lock, and what each task changes under it, on one line: two threads meet here all the time.
  alignas(64) word_lock lock_;  // guards all below
  bool posted_ = false;         // a ticket is in the executor
  bool stopped_ = false;        // nothing begins any more in this use
  bool over_ = true;            // the last wait has reported everything
  std::uint64_t use_ = 0;       // the id of this use in the wait graph
  group_tasks queue_;
  std::size_t running_ = 0;
  std::size_t pending_ = 0;
  std::size_t next_index_ = 0;
  task_block* free_blocks_ = nullptr;

  alignas(64) group_waiters waiters_;
  std::size_t skipped_ = 0;
  group_tasks failed_;
  std::stop_source stop_{std::nostopstate};  // made when first asked for
  std::uint32_t references_ = 1;
  atomic<task_block*> ready_{nullptr};
};

inline std::stop_token token_of(task_group& group) { return group.token(); }

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE

#if !defined(SINGLEFLIGHT_COMPILED)
#include "singleflight/sync/impl/task_group.hpp"
#endif
