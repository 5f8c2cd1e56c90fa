// SPDX-License-Identifier: Apache-2.0
#pragma once

// resume_batch: how the suspended waiters of one executor are resumed.
//
// A suspended coroutine, or a callback, is listed in the batch of its executor. Once it is ready, a
// runner on that executor removes and resumes it. The batch's owner is what is waited for (a
// flight's block, a semaphore): its lock guards the lists, so a waiter that is destroyed meanwhile
// removes itself, and a reference on the owner keeps the batch alive while a runner is queued or
// running.
//
// W1  A batch that waits have named is freed with the last of those waits or with its last runner,
//     whichever ends later: one critical section counts that one off, sees that no other is left,
//     and removes the batch from the owner's list, where the next wait would have found it. A wait
//     that is over leaves nothing behind, however long its owner lives (P4).
// W2  In a child of fork, a runner that this thread is inside, or has in its trampoline, continues.
//     One that another thread was running, or that was queued in a pool, is lost. One that was
//     queued in a user's executor may still run, if that is an event loop of this thread, or never:
//     so it remains counted and keeps its batch, but another may be handed over in addition to it
//     (`cut`). Such an executor does not link the nodes, so one node may be queued there twice. The
//     default pool, where a dropped runner goes, does link them: so a runner has a separate node
//     for it, which is queued there once (`posted`). If neither runner continues or may still run,
//     the ready waiters are resumed in the parent only: in the child they are in no list and may be
//     destroyed.
// W3  A batch whose owner is not repaired by the fork (a finished flight, a result) is repaired
//     late: before a runner is handed over in the child, or when one begins (`generation`). Only
//     the forking thread can search its own trampoline. Another thread repairs only the batches of
//     pools, whose runners are in no trampoline, and leaves any other batch unchanged.

#include <exception>
#include <utility>

#include "singleflight/core/executor.hpp"
#include "singleflight/core/support/waiter.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

/// The waiters of one owner that resume on one executor. There are two runners, so that a waiter
/// that blocks after its resumption does not delay the others if the executor has a second thread.
///
/// Owner provides waiters_lock, constructed from an Owner, which takes and releases what is "the
/// lock" here; add_reference() and drop_reference(); pending_is_ready_locked(), whether all pending
/// waiters are ready without being moved; strand_locked(w), called in a child of fork for a waiter
/// that will not be resumed there.
template <class Owner>
struct resume_batch : platform::allocated {
  struct runner : task_node {
    struct second_node : task_node {
      explicit second_node(runner& own) noexcept : task_node(&act_on), of(own) {}
      static void act_on(task_node* node, bool /*run: the default pool drops none*/) {
        runner& self = static_cast<second_node*>(node)->of;
        self.batch->run(self, true);
      }
      runner& of;
    };

    explicit runner(resume_batch& own) noexcept : task_node(&act_on), batch(&own), in_pool(*this) {}
    static void act_on(task_node* node, bool run) {
      auto& self = *static_cast<runner*>(node);
      if (run) {
        self.batch->run(self, false);
      } else if (self.batch->takes_over(self)) {
        detail::post_on_default_pool(&self.in_pool);
      }
    }
    bool is_under_way() const noexcept { return handed > cut; }

    resume_batch* const batch;
    const thread_state* by = nullptr;  ///< the lock: the thread that is running it
    std::uint8_t handed = 0;           ///< the lock: its tasks that are queued or running
    std::uint8_t cut = 0;              ///< the lock: how many of them may never run (W2)
    bool posted = false;               ///< the lock: one was dropped, and `in_pool` is queued
    second_node in_pool;
  };

  explicit resume_batch(any_executor on) noexcept
      : executor(std::move(on)), main(*this), spare(*this) {}
  resume_batch(const resume_batch&) = delete;
  resume_batch& operator=(const resume_batch&) = delete;

  /// Creates a batch for one wait that named `executor`, which releases it afterwards. Holds a
  /// reference on `owner`.
  static resume_batch* make(Owner& owner, const any_executor& executor) {
    auto* const made = new resume_batch(executor);
    made->owner = &owner;
    owner.add_reference();
    return made;
  }
  /// Called under the lock: lists the batch, for the next wait on the same executor.
  void enlist_locked(resume_batch*& list) noexcept {
    next = list;
    if (next != nullptr) next->link = &next;
    list = this;
    link = &list;
  }
  /// Called under the lock when one more wait has named it.
  void share_locked() noexcept {
    if (platform::holds(rule::batch_counts_waits)) ++waits;
    owner->add_reference();
  }
  /// Called when a wait that named it is over and is in no list.
  void release() noexcept {
    Owner& held = *owner;
    typename Owner::waiters_lock lock(held);
    lock.lock();
    --waits;
    const bool last = leave_if_last_locked();
    lock.unlock();
    if (last) delete this;
    held.drop_reference();
  }

  /// Called under the lock: if the batch has waiters, adds a runner to `chain`; the second one if
  /// the first is queued or running, since a waiter that it has resumed may block it.
  void activate_locked(runner*& chain) noexcept {
    if (pending.empty() && ready.empty()) return;
    repair_late_locked();
    runner& r = main.is_under_way() ? spare : main;
    if (r.is_under_way()) return;
    ++r.handed;
    owner->add_reference();
    r.next = chain;
    chain = &r;
  }

  /// Called under the lock: makes `w`, which is in no list, ready to be resumed with its verdict.
  void make_ready_locked(waiter& w, runner*& chain) noexcept {
    repair_late_locked();  // before `w` is listed, which is resumed in this process
    w.state = wait_state::ready;
    ready.push(w);
    activate_locked(chain);
  }

  /// Called under the lock, in a child of fork (W2); `forker` is the forking thread. With `lost`,
  /// the pending waiters wait in the parent only.
  void repair_locked(bool lost, const thread_state* forker = &this_thread()) noexcept {
    generation = fork_list::generation;
    bool any = false;
    for (runner* const r : {&main, &spare}) {
      if (std::exchange(r->posted, false)) --r->handed;
      if (r->handed != 0 && r->by != forker && !is_queued_here(r)) {
        if (std::exchange(r->by, nullptr) != nullptr) --r->handed;
        if (!executor.is_of_a_user()) r->handed = 0;
        r->cut = r->handed;
      }
      any = any || r->handed != 0;
    }
    const bool none = !any && platform::holds(rule::lost_runner_strands);
    if (lost || (none && owner->pending_is_ready_locked())) strand_locked(pending);
    if (none) strand_locked(ready);
  }

  static void submit(runner* chain) {
    while (runner* const r = chain) {
      chain = static_cast<runner*>(r->next);
      submit_one(*r);
    }
  }
  static void submit_one(runner& r) {
    try {
      const any_executor on = r.batch->executor;  // a copy: the task may free the batch
      on.execute(task(&r));
    } catch (...) {  // refused: the dropped task has moved to the default pool
      if (platform::is_thread_exit()) throw;
    }
  }

  Owner* owner = nullptr;
  resume_batch* next = nullptr;   ///< the lock: in the owner's list, if it has one
  resume_batch** link = nullptr;  ///< the lock: the pointer to it in that list
  std::uint32_t waits = 1;  ///< the lock: that have named it; stays 1 for the owner's own batch
  std::uint32_t generation = fork_list::generation;  ///< the lock: in which it was last repaired
  waiter_list pending;                               ///< the lock
  waiter_list ready;  ///< the lock: to be resumed with their verdicts
  const any_executor executor;
  runner main;
  runner spare;

 private:
  /// Repairs the batch if the process has forked since (W3).
  void repair_late_locked() noexcept {
    if (generation == fork_list::generation) [[likely]] {
      return;
    }
    if ((this_thread().forked || executor.is_pool()) &&
        platform::holds(rule::done_flight_is_repaired_late)) {
      repair_locked(false, thread_state::forker);
    } else {
      generation = fork_list::generation;
    }
  }
  void strand_locked(waiter_list& list) noexcept {
    while (waiter* const w = list.pop()) {
      w->state = wait_state::idle;
      owner->strand_locked(*w);
    }
  }
  /// Called when the executor has dropped a task of `r`. Returns true if the default pool is to run
  /// it; false if one is queued there already, and this one just ends.
  bool takes_over(runner& r) noexcept {
    Owner& held = *owner;
    typename Owner::waiters_lock lock(held);
    lock.lock();
    repair_late_locked();
    const bool is_queued_there = r.posted && platform::holds(rule::pool_node_is_queued_once);
    const bool another = r.handed > 1 && !platform::holds(rule::dropped_runner_goes_to_the_pool);
    if (!is_queued_there && !another) {
      r.posted = true;
      if (r.cut == r.handed) --r.cut;  // this one will run
      lock.unlock();
      return true;
    }
    end_locked(r);
    const bool last = leave_if_last_locked();
    lock.unlock();
    if (last) delete this;
    held.drop_reference();
    return false;
  }
  void end_locked(runner& r) noexcept {
    --r.handed;
    if (r.cut > r.handed) r.cut = r.handed;
  }
  /// Returns true if the caller has to free the batch after the unlock (W1).
  bool leave_if_last_locked() noexcept {
    if (waits != 0) return false;
    if (main.handed + spare.handed != 0 && platform::holds(rule::batch_stays_for_runners)) {
      return false;
    }
    if (link != nullptr) {
      *link = next;
      if (next != nullptr) next->link = link;
    }
    return true;
  }

  /// After a resumption that throws or ends its thread, hands the rest over to another task.
  struct working {
    runner& self;
    typename Owner::waiters_lock& lock;
    bool finished = false;
    ~working() {
      if (finished) return;
      lock.lock();
      self.batch->repair_late_locked();  // while `by` still shows that it runs on this thread
      self.by = nullptr;
      lock.unlock();
      submit_one(self);
    }
  };

  waiter_list& to_resume_locked() noexcept {
    return owner->pending_is_ready_locked() && !pending.empty() ? pending : ready;
  }

  /// Resumes the ready waiters one after the other, never nested. Each is removed under the lock,
  /// so one that is destroyed before its turn has removed itself and is not resumed.
  void run(runner& self, bool from_pool) {
    Owner& held = *owner;
    typename Owner::waiters_lock lock(held);
    lock.lock();
    self.by = &this_thread();  // before the repair, so that this runner continues
    repair_late_locked();
    if (from_pool) self.posted = false;
    working guard{self, lock};
    const waiter* const first = to_resume_locked().first();
    if (&self == &main && first != nullptr && first->next != nullptr && !spare.is_under_way()) {
      // Before this runner has removed a waiter: if the executor runs the second one here, within
      // this call, it resumes all of them.
      ++spare.handed;
      held.add_reference();
      lock.unlock();
      submit_one(spare);
      lock.lock();
    }
    for (;;) {
      waiter_list& from = to_resume_locked();
      waiter* const w = from.pop();
      if (w == nullptr) {
        guard.finished = true;
        self.by = nullptr;
        end_locked(self);
        const bool last = leave_if_last_locked();
        lock.unlock();
        if (last) delete this;
        held.drop_reference();
        return;
      }
      w->state = wait_state::resumed;
      [[maybe_unused]] const waiter* const following = from.first();
      lock.unlock();
#if defined(__GNUC__)
      __builtin_prefetch(following, 1);
#endif
      try {
        resume(*w);
      } catch (...) {  // there is no handler for an exception that escapes a callback or coroutine
        if (!platform::is_thread_exit()) std::terminate();
        throw;
      }
      lock.lock();
    }
  }
};

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE
