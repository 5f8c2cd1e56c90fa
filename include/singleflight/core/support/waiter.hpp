// SPDX-License-Identifier: Apache-2.0
#pragma once

// waiter: what a caller brings along to wait with, and how those who are suspended go on.
//
// A suspended coroutine, or a callback, stands in a list of the batch of its executor. Once it is
// ready, a runner on that executor takes it out and resumes it. What is waited for is the batch's
// owner (a flight's block, a semaphore): its lock guards the lists, so whoever is destroyed
// meanwhile takes itself out, and a reference on it keeps the batch while a runner is under way.
//
// W1  A batch that waits have named goes with the last of them and its last runner, whichever is
//     later: one critical section counts that one off, sees that no other is left, and takes the
//     batch out of the owner's list, where the next wait would have found it. A wait that is over
//     leaves nothing behind, however long its owner lives (P4).
// W2  In a child of fork, a runner that this thread is inside of, or has in its trampoline, goes
//     on. One that another thread was working through, or that stood in a pool, is over. One that
//     was in an executor of the user's may come, if that is an event loop of this thread's, or
//     never: so it counts on, and keeps its batch, but another may be handed over beside it
//     (`cut`). Such an executor does not link the nodes: one node may stand in it twice. The
//     default pool, where a dropped one goes, does: so it has a node of its own there, which stands
//     in it once (`posted`). Where neither runner goes on, or may come, those who were ready are
//     resumed in the parent alone: in the child they stand in no list, and may be destroyed.
// W3  A batch whose owner is not mended by the fork (a flight that was done, a result) is mended
//     late: before a runner is handed over in the child, or as one begins (`generation`). Only the
//     thread that has forked can look into its trampoline: another one mends the batches of pools
//     alone, whose runners stand in none, and leaves any other as it was.

#include <coroutine>
#include <cstdint>
#include <exception>
#include <utility>

#include "singleflight/core/errors.hpp"
#include "singleflight/core/executor.hpp"
#include "singleflight/core/support/require.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

enum class wait_state : std::uint8_t { idle, pending, ready, resumed };
enum class wait_verdict : std::uint8_t { outcome, timed_out, cancelled, lead, recursive };

/// What a caller gets whose wait has ended without the outcome.
constexpr flight_errc errc_of(wait_verdict why) noexcept {
  return why == wait_verdict::timed_out   ? flight_errc::timed_out
         : why == wait_verdict::cancelled ? flight_errc::cancelled
                                          : flight_errc::recursive;
}

/// One who waits: a suspended coroutine, a callback, or a blocked thread that can be told apart.
/// "The lock" is its owner's.
struct waiter {
  waiter* prev;                         ///< while in a list
  waiter* next;                         ///< while in a list
  std::uintptr_t target;                ///< in a batch: a coroutine frame, or a ready_action | 1
  const steady_time* limit = nullptr;   ///< the lock: of a wait that has one
  wait_state state = wait_state::idle;  ///< the lock
  atomic<wait_verdict> verdict{wait_verdict::outcome};  ///< written under the lock

  waiter() = default;
  waiter(const waiter&) = delete;
  waiter& operator=(const waiter&) = delete;

  /// Under the lock: its coroutine is being destroyed. From the moment a runner has taken it out
  /// until it has resumed, that is undefined whatever this library does: the language forbids it.
  void require_not_resuming_locked() const noexcept {
    require(state != wait_state::resumed,
            "a coroutine is destroyed on one thread while another resumes it: destroy it in a task "
            "of a serial executor, or where nothing can resume it");
  }
};

/// What a waiter that is a callback points to.
struct ready_action {
  void (*act)(ready_action*);
};

/// Doubly linked, null-ended at the back, circular at the front (first->prev is the last).
class waiter_list {
 public:
  bool empty() const noexcept { return first_ == nullptr; }
  waiter* first() const noexcept { return first_; }
  void push(waiter& w) noexcept {
    w.next = nullptr;
    if (first_ == nullptr) {
      first_ = w.prev = &w;
    } else {
      w.prev = first_->prev;
      first_->prev->next = &w;
      first_->prev = &w;
    }
  }
  void remove(waiter& w) noexcept {
    if (first_ == &w) {
      first_ = w.next;
      if (first_ != nullptr) first_->prev = w.prev;
      return;
    }
    w.prev->next = w.next;
    (w.next != nullptr ? w.next : first_)->prev = w.prev;
  }
  waiter* pop() noexcept {
    waiter* const w = first_;
    if (w != nullptr) remove(*w);
    return w;
  }

 private:
  waiter* first_ = nullptr;
};

inline void resume(waiter& w) {
  if ((w.target & 1) != 0) {
    auto* const callback = reinterpret_cast<ready_action*>(w.target & ~std::uintptr_t{1});
    callback->act(callback);
  } else {
    std::coroutine_handle<>::from_address(reinterpret_cast<void*>(w.target)).resume();
  }
}

/// The lock of the waiters of an owner that has one for all its life.
template <class Owner>
class owner_lock {
 public:
  explicit owner_lock(Owner& of) noexcept : of_(of) {}
  void lock() noexcept { of_.lock(); }
  void unlock() noexcept { of_.unlock(); }

 private:
  Owner& of_;
};

/// The waiters of one owner that resume on one executor. Two runners, so that a waiter that blocks
/// after its resumption does not hold up the others where the executor has a second thread.
///
/// Owner: waiters_lock, made of an Owner, which takes and frees what is "the lock" here;
/// add_reference(), drop_reference(); pending_is_ready_locked(): whether all who wait are ready
/// where they stand; strand_locked(w): in a child of fork, `w` is not to be resumed.
template <class Owner>
struct resume_batch : platform::allocated {
  struct runner : task_node {
    struct second_node : task_node {
      explicit second_node(runner& mine) noexcept : task_node(&act_on), of(mine) {}
      static void act_on(task_node* node, bool /*run: the default pool drops none*/) {
        runner& self = static_cast<second_node*>(node)->of;
        self.batch->run(self, true);
      }
      runner& of;
    };

    explicit runner(resume_batch& mine) noexcept
        : task_node(&act_on), batch(&mine), in_pool(*this) {}
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
    const thread_state* by = nullptr;  ///< the lock: the thread that works it
    std::uint8_t handed = 0;           ///< the lock: tasks that are out, or being worked
    std::uint8_t cut = 0;              ///< the lock: how many of them may never come
    bool posted = false;               ///< the lock: one was dropped, and `in_pool` is queued
    second_node in_pool;
  };

  explicit resume_batch(any_executor on) noexcept
      : executor(std::move(on)), main(*this), spare(*this) {}
  resume_batch(const resume_batch&) = delete;
  resume_batch& operator=(const resume_batch&) = delete;

  /// For one wait that named `executor`: to be released after it. Holds a reference on `of`.
  static resume_batch* make(Owner& of, const any_executor& executor) {
    auto* const made = new resume_batch(executor);
    made->owner = &of;
    of.add_reference();
    return made;
  }
  /// Under the lock: where the next wait on the same executor finds it.
  void enlist_locked(resume_batch*& list) noexcept {
    next = list;
    if (next != nullptr) next->link = &next;
    list = this;
    link = &list;
  }
  /// Under the lock: for one wait more.
  void share_locked() noexcept {
    if (platform::holds(rule::batch_counts_waits)) ++waits;
    owner->add_reference();
  }
  /// A wait that named it is over, and stands in no list.
  void release() noexcept {
    Owner& of = *owner;
    typename Owner::waiters_lock lock(of);
    lock.lock();
    --waits;
    const bool last = leave_if_last_locked();
    lock.unlock();
    if (last) delete this;
    of.drop_reference();
  }

  /// Under the lock: a batch with somebody to resume gets a runner, put into `chain`; a second one
  /// when the first is under way, since that one may be held up by the waiter that it has resumed.
  void activate_locked(runner*& chain) noexcept {
    if (pending.empty() && ready.empty()) return;
    mend_late_locked();
    runner& r = main.is_under_way() ? spare : main;
    if (r.is_under_way()) return;
    ++r.handed;
    owner->add_reference();
    r.next = chain;
    chain = &r;
  }

  /// Under the lock: `w`, in no list, is to be resumed with its verdict.
  void make_ready_locked(waiter& w, runner*& chain) noexcept {
    mend_late_locked();  // before `w`, which is to be resumed here
    w.state = wait_state::ready;
    ready.push(w);
    activate_locked(chain);
  }

  /// Under the lock, in a child of fork (W2) that `forker` has made. With `lost`, those who are
  /// pending wait in the parent alone.
  void mend_locked(bool lost, const thread_state* forker = &this_thread()) noexcept {
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
      const any_executor on = r.batch->executor;  // the task may take the batch with it
      on.execute(task(&r));
    } catch (...) {  // refused: dropping the task has sent it to the default pool
      if (platform::is_thread_exit()) throw;
    }
  }

  Owner* owner = nullptr;
  resume_batch* next = nullptr;   ///< the lock: in the owner's list, if that has one
  resume_batch** link = nullptr;  ///< the lock: what points to it there
  std::uint32_t waits = 1;        ///< the lock: that have named it; for ever of the owner's own
  std::uint32_t generation = fork_list::generation;  ///< the lock: in which it was mended last
  waiter_list pending;                               ///< the lock
  waiter_list ready;                                 ///< the lock; to be resumed with their verdict
  const any_executor executor;
  runner main;
  runner spare;

 private:
  /// W3.
  void mend_late_locked() noexcept {
    if (generation == fork_list::generation) [[likely]] {
      return;
    }
    if ((this_thread().forked || executor.is_pool()) &&
        platform::holds(rule::done_flight_is_mended_late)) {
      mend_locked(false, thread_state::forker);
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
  /// The executor has dropped `r`, which is to go to the default pool. False: one of it stands
  /// there already, so this one just ends.
  bool takes_over(runner& r) noexcept {
    Owner& of = *owner;
    typename Owner::waiters_lock lock(of);
    lock.lock();
    mend_late_locked();
    const bool stands_there = r.posted && platform::holds(rule::pool_node_stands_once);
    const bool another = r.handed > 1 && !platform::holds(rule::dropped_runner_goes_to_the_pool);
    if (!stands_there && !another) {
      r.posted = true;
      if (r.cut == r.handed) --r.cut;  // this one comes
      lock.unlock();
      return true;
    }
    end_locked(r);
    const bool last = leave_if_last_locked();
    lock.unlock();
    if (last) delete this;
    of.drop_reference();
    return false;
  }
  void end_locked(runner& r) noexcept {
    --r.handed;
    if (r.cut > r.handed) r.cut = r.handed;
  }
  /// W1. True: the caller frees it, after the lock.
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

  /// A resumption that throws, or ends its thread, leaves the rest to another.
  struct working {
    runner& self;
    typename Owner::waiters_lock& lock;
    bool finished = false;
    ~working() {
      if (finished) return;
      lock.lock();
      self.batch->mend_late_locked();  // while it is seen to be here
      self.by = nullptr;
      lock.unlock();
      submit_one(self);
    }
  };

  waiter_list& to_resume_locked() noexcept {
    return owner->pending_is_ready_locked() && !pending.empty() ? pending : ready;
  }

  /// Resumes the ready waiters one after the other, never nested. Each is taken out under the lock,
  /// so that one that is destroyed before its turn is simply not there any more.
  void run(runner& self, bool from_pool) {
    Owner& of = *owner;
    typename Owner::waiters_lock lock(of);
    lock.lock();
    self.by = &this_thread();  // first: it goes on
    mend_late_locked();
    if (from_pool) self.posted = false;
    working guard{self, lock};
    const waiter* const first = to_resume_locked().first();
    if (&self == &main && first != nullptr && first->next != nullptr && !spare.is_under_way()) {
      // Before this one has taken any: where the executor runs it here, it leaves none.
      ++spare.handed;
      of.add_reference();
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
        of.drop_reference();
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
      } catch (...) {  // nobody is there to take what a callback or a coroutine lets escape
        if (!platform::is_thread_exit()) std::terminate();
        throw;
      }
      lock.lock();
    }
  }
};

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE
