// SPDX-License-Identifier: Apache-2.0
#pragma once

// task_group: tasks that are waited for together; what error_group, collect and run_all stand on.
//
// The group owns the queue of its unbegun tasks. What an executor gets is a ticket: leave to send a
// thread, which then takes tasks of the group as long as one may begin. One ticket at a time stands
// in the executor; its node is part of the group, so queueing costs a task nothing.
//
// G1  While a task may begin (one is unbegun, and fewer run than the limit), somebody is on the
//     way: a ticket is posted, or a sleeping waiter has been called, or, on inline_executor, a
//     thread that works for the group will come to it; unless the executor has refused the ticket,
//     and then nobody sleeps in wait().
// G2  A waiter sleeps only after it has seen, under the lock, that no task may begin. What changes
//     that later (a go, the end of a runner's thread) calls it before it would post a ticket.
// G3  `pending_` counts what a wait waits for: tasks unbegun, running, or skipped and not destroyed
//     yet. Whoever takes it to 0 while waiters are listed ends the use and takes all of them out of
//     the list in the same critical section; each is given its outcome, then told.
// G4  A listed waiter's node is alive: it leaves by itself under the lock, or once it has been told
//     (its `word` is `over`), after which nobody touches it.
// G5  The owner, a ticket that is posted or at work, a listed waiter until it has had the lock
//     again, and a stop that is being told hold a reference each. What is to be done after an
//     unlock needs nothing of the group: a summons has its own copy of the executor.
// G6  In a child of fork no ticket is posted and no waiter listed but those of the forking thread.
//     The references of tickets that other threads would have run are kept: an executor of the
//     user's may still bring one.
//
// One lock guards all but the waiters' words; no user code under it (a task, its destructor, a stop
// callback, the executor). Its unlock releases, its lock acquires: so the effects of a task come
// before those of its end, and these, with the release of `word` and a waiter's acquire, before the
// return of the wait.

#include <cstddef>
#include <cstdint>
#include <exception>
#include <limits>
#include <memory>
#include <new>
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
    bool lasts = false;  ///< it is kept between its uses: then a fork mends it
  };
  enum class entry : std::uint8_t { taken, skipped, full };

  explicit task_group(settings with)
      : task_node(&on_ticket), fork_member(rank::lines), with_(std::move(with)) {
    if (with_.lasts) enter_forks();
  }
  ~task_group() {
    if (with_.lasts) leave_forks();
  }

  /// Destroys `t` when it is not taken. `at_once`: neither queued nor skipped if it cannot begin.
  entry add(std::unique_ptr<group_task> t, bool at_once) {
    group_tasks past;
    summons call;
    lock_.lock();
    const entry how = stopped_ ? entry::skipped : full(at_once) ? entry::full : entry::taken;
    if (how == entry::taken || (how == entry::skipped && !at_once)) {
      if (over_) past = begin_use_locked();
      t->index = next_index_++;
      if (how == entry::skipped) ++skipped_;
    }
    if (how == entry::taken) {
      queue_.push(*t.release());
      ++pending_;
      call = summon_locked();
    }
    lock_.unlock();
    group_tasks::destroy(past);
    answer(call);
    return how;
  }

  /// Runs tasks of this group until nothing is left to be waited for. In a cycle of waits it is
  /// `recursive` only where no weaker one could be struck, and never when it is firm.
  outcome<void> wait(wait_graph::strength how) {
    settle_promises();
    group_waiter self;
    bool recorded = this_thread().led == nullptr;  // then nobody waits for this thread
    bool closes = false;
    lock_.lock();
    for (;;) {
      if (platform::holds(rule::waiter_helps)) work_locked();
      if (pending_ == 0) break;
      waiters_.list(self);
      references_ += waiter_reference();
      const std::uint64_t use = use_;  // which goes on as long as this is listed
      lock_.unlock();
      if (!std::exchange(recorded, true)) closes = !record(self, use, how);
      if (!closes && !self.record.struck()) self.sleep();
      lock_.lock();
      if (!self.listed && platform::holds(rule::called_waiter_is_told)) {
        unlock_and_drop(waiter_reference());
        self.sleep_until_over();
        return self.leave();
      }
      references_ -= waiter_reference();  // not the last: the use goes on, and so does the owner
      if (self.listed) waiters_.unlist(self);
      if (closes || self.record.struck()) {
        summons call = summon_locked();  // it may have been called
        lock_.unlock();
        answer(call);
        return flight_errc::recursive;
      }
    }
    group_waiter* const others = end_use_locked(&self);
    lock_.unlock();
    group_waiters::tell(others);
    return self.leave();
  }

  /// Skips what has not begun and tells the rest to stop. False when that had been done already.
  bool request_stop() {
    lock_.lock();
    if (stopped_) {
      lock_.unlock();
      return false;
    }
    ++references_;
    const group_tasks skipped = stop_locked();
    tell_stop_and_lock(skipped);
    pending_ -= skipped.count;
    unlock_and_drop(1);
    return true;
  }

  std::stop_token token() {
    lock_.lock();
    std::stop_token now = stop_.get_token();
    lock_.unlock();
    if (now.stop_possible()) return now;
    std::stop_source made;
    lock_.lock();
    if (!stop_.stop_possible()) {
      if (stopped_) platform::request_stop(made);  // nobody listens to it yet
      stop_ = made;
    }
    now = stop_.get_token();
    lock_.unlock();
    return now;
  }

  /// In the order in which they failed.
  std::vector<task_error> errors() { return errors_of(failed_, lock_); }

  std::size_t skipped() noexcept {
    lock_.lock();
    const std::size_t count = skipped_;
    lock_.unlock();
    return count;
  }

  /// Whether this thread is within a task of the group, or within its stop: a wait here would wait
  /// for itself.
  bool runs_on_this_thread() const noexcept { return group_frame::is_inside(this); }

  /// The owner goes; nothing is pending. A ticket may still be in the executor, and the executor
  /// may be kept alive by what it holds: so it is let go here.
  void disown() {
    lock_.lock();
    const any_executor executor = std::exchange(with_.executor, {});
    const group_tasks past = std::exchange(failed_, {});
    unlock_and_drop(1);
    group_tasks::destroy(past);
  }

 private:
  /// Who is to be set to work once the lock is free.
  struct summons {
    const atomic<std::uint32_t>* sleeper = nullptr;
    std::optional<any_executor> ticket;  ///< for whom: the group may have gone when it gets there
  };

  /// Before the first sleep of a thread that leads something; without the lock. False: recursive.
  static bool record(group_waiter& self, std::uint64_t use, wait_graph::strength how) noexcept {
    const bool firm = how == wait_graph::strength::firm;
    try {
      return self.record.enter({.id = use}, this_thread().led, nullptr, how,
                               firm ? nullptr : &group_waiter::strike, &self);
    } catch (const std::bad_alloc&) {
      return true;  // its cycles are not seen: a wait that ends without memory is worth more
    }
  }

  bool full(bool at_once) const noexcept {
    const std::size_t all = running_ + queue_.count;
    if (with_.limit == unlimited) return queue_.count >= with_.max_queued;
    return all >= with_.limit && (at_once || all - with_.limit >= with_.max_queued);
  }

  // ---- who comes to work (G1, G2) ---------------------------------------------------------------

  bool may_begin() const noexcept {
    return queue_.first != nullptr &&
           (running_ < with_.limit || !platform::holds(rule::task_limit_is_kept));
  }

  summons summon_locked(bool thread_ends = false) noexcept {
    summons call;
    if (!may_begin() || waiters_.called()) return call;
    if (!waiters_.empty() && platform::holds(rule::sleeper_is_called)) {
      call.sleeper = waiters_.call();
    } else if (!posted_ && (thread_ends || !comes_to_it_locked())) {
      posted_ = true;
      references_ += ticket_reference();
      // What a dying thread leaves behind goes to the default pool, as in the trampoline.
      const bool here = (thread_ends && with_.executor.is_inline()) ||
                        !platform::holds(rule::summons_holds_executor);
      call.ticket.emplace(here ? any_executor() : with_.executor);
    }
    return call;
  }
  /// A ticket for inline_executor would bring this very thread: later tasks, before its own.
  bool comes_to_it_locked() const noexcept {
    return with_.executor.is_inline() && group_frame::works_for(this) &&
           platform::holds(rule::worker_keeps_order);
  }
  /// Without the lock.
  void answer(summons& call) {
    if (call.sleeper != nullptr) {
      platform::wake(*call.sleeper, 1);  // by its address: it may have left
    } else if (call.ticket) {
      const any_executor mine =
          std::exchange(*call.ticket, {});  // goes here, where no lock is held
      const any_executor& to =
          platform::holds(rule::summons_holds_executor) ? mine : with_.executor;
      try {
        to.execute(task(static_cast<task_node*>(this)));
      } catch (...) {  // refused: the ticket was dropped; whoever waits runs the tasks
        if (platform::is_thread_exit()) throw;
      }
    }
  }

  static std::uint32_t ticket_reference() noexcept {
    return platform::holds(rule::ticket_holds_group) ? 1 : 0;
  }
  static std::uint32_t waiter_reference() noexcept {
    return platform::holds(rule::sleeper_holds_group) ? 1 : 0;
  }
  static void on_ticket(task_node* node, bool run) {
    auto& self = static_cast<task_group&>(*node);
    self.lock_.lock();
    self.posted_ = false;
    if (run) {
      try {
        self.work_locked();
      } catch (...) {  // a task has ended the thread
        self.lock_.lock();
        self.unlock_and_drop(ticket_reference());
        throw;
      }
    }
    self.unlock_and_drop(ticket_reference());
  }

  /// Runs tasks as long as one may begin. Throws only when a task ends the thread; the lock is then
  /// free.
  void work_locked() {
    if (!may_begin()) return;
    const group_frame here(this, group_frame::kind::works, use_);
    do {
      group_task* const t = queue_.pop();
      ++running_;
      // Before the task, which may wait for one that has not begun.
      summons call = platform::holds(rule::ticket_comes_before_task) ? summon_locked() : summons{};
      lock_.unlock();
      run_and_lock(*t, call);
    } while (may_begin());
  }

  void run_and_lock(group_task& t, summons& first) {
    try {
      answer(first);
      t.run(*this);
    } catch (...) {
      if (platform::is_thread_exit()) {
        pending_ -= fail_and_lock(t);
        summons call = summon_locked(true);  // this thread takes no more
        group_waiter* const told = end_use_if_over_locked();
        lock_.unlock();
        group_waiters::tell(told);
        answer(call);
        throw;
      }
      t.error = keep_alive(std::current_exception());
    }
    if (t.error != nullptr) {
      pending_ -= fail_and_lock(t);
    } else {
      delete &t;
      lock_.lock();
      --running_;
      --pending_;
    }
  }

  // ---- errors and stops -------------------------------------------------------------------------

  /// Returns how many tasks have ended, for pending_: this one, and those that its failure skipped.
  std::size_t fail_and_lock(group_task& t) {
    lock_.lock();
    failed_.push(t);
    group_tasks skipped;
    if (with_.stops_on_error && !stopped_) {
      skipped = stop_locked();
      tell_stop_and_lock(skipped);
    }
    --running_;
    return 1 + skipped.count;
  }

  /// What will not begin; to be destroyed, and counted out of pending_ after that.
  group_tasks stop_locked() noexcept {
    stopped_ = true;
    if (!platform::holds(rule::stop_skips_unbegun)) return {};
    skipped_ += queue_.count;
    if (!platform::holds(rule::skipped_are_waited_for)) {
      pending_ -= std::exchange(queue_.count, 0);
    }
    return std::exchange(queue_, {});
  }

  /// The lock is held before and after, but not meanwhile.
  void tell_stop_and_lock(const group_tasks& skipped) {
    std::stop_source stop = stop_;
    const std::uint64_t use = skipped.count != 0 ? use_ : 0;  // else no wait waits for this
    if (platform::holds(rule::stop_outside_group_lock)) lock_.unlock();
    {
      std::optional<group_frame> here;
      if (platform::holds(rule::stop_counts_as_task)) {
        here.emplace(this, group_frame::kind::stops, use);
      }
      if (stop.stop_possible()) platform::request_stop(stop);
      if (!platform::holds(rule::stop_outside_group_lock)) lock_.unlock();
      group_tasks::destroy(skipped);
    }
    lock_.lock();
  }

  // ---- one use after the other (G3, G4) ---------------------------------------------------------

  /// The records of the use before, to be destroyed without the lock.
  group_tasks begin_use_locked() noexcept {
    over_ = false;
    if (use_ == 0 || platform::holds(rule::use_has_its_id)) use_ = next_flight_id(this_thread());
    skipped_ = 0;
    next_index_ = 0;
    if (!platform::holds(rule::error_ends_with_its_use)) return {};
    return std::exchange(failed_, {});
  }

  outcome<void> outcome_locked() const {
    if (over_) return {};  // nothing since the last wait
    if (failed_.first != nullptr) {
      if (failed_.first->error == nullptr) return flight_errc::broken;
      return failed_.first->error;
    }
    if (skipped_ != 0) return flight_errc::cancelled;
    return {};
  }

  /// Gives the outcome to `self` and to all who are listed; these are returned, to be told.
  group_waiter* end_use_locked(group_waiter* self) {
    const outcome<void> how = outcome_locked();
    if (self != nullptr) self->give(how, stop_);
    group_waiter* const others = waiters_.end(how, stop_);
    over_ = true;
    stop_ = std::stop_source(std::nostopstate);  // those who were given it have the last one
    stopped_ = platform::stop_requested(with_.parent);
    return others;
  }
  group_waiter* end_use_if_over_locked() {
    return pending_ == 0 && !waiters_.empty() && platform::holds(rule::last_task_tells_waiters)
               ? end_use_locked(nullptr)
               : nullptr;
  }

  /// The end of a visit.
  void unlock_and_drop(std::uint32_t references) {
    group_waiter* const told = end_use_if_over_locked();
    references_ -= references;
    const bool last = references_ == 0;
    lock_.unlock();
    group_waiters::tell(told);
    if (last) delete this;
  }

  // ---- fork (G6) --------------------------------------------------------------------------------

  SINGLEFLIGHT_COLD void hold() noexcept override { lock_.lock(); }
  SINGLEFLIGHT_COLD void release() noexcept override { lock_.unlock(); }
  SINGLEFLIGHT_COLD void mend() noexcept override {
    if (!is_queued_here(this)) posted_ = false;
    references_ -= waiters_.forget() * waiter_reference();
  }

  settings with_;

  // The lock, and what each task changes under it, on one line: two threads meet here all the time.
  alignas(64) word_lock lock_;  // guards all below
  bool posted_ = false;         // a ticket is in the executor
  bool stopped_ = false;        // nothing begins any more in this use
  bool over_ = true;            // the last wait has spoken of all there is
  std::uint64_t use_ = 0;       // what this use is called in the graph of those who wait
  group_tasks queue_;
  std::size_t running_ = 0;
  std::size_t pending_ = 0;
  std::size_t next_index_ = 0;

  alignas(64) group_waiters waiters_;
  std::size_t skipped_ = 0;
  group_tasks failed_;
  std::stop_source stop_{std::nostopstate};  // made when first asked for
  std::uint32_t references_ = 1;
};

inline std::stop_token token_of(task_group& group) { return group.token(); }

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE
