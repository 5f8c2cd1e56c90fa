// SPDX-License-Identifier: Apache-2.0
#pragma once

// task_group: how tasks are added, run, waited for and stopped. Members of task_group.

#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <new>
#include <optional>
#include <utility>

#include "singleflight/sync/detail/rules.hpp"
#include "singleflight/sync/detail/task_group.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

SINGLEFLIGHT_BODY auto task_group::add_task(owned_task t, bool immediately) -> admission {
  group_tasks old_errors;
  wakeup worker;
  lock_.lock();
  const admission result = stopped_               ? admission::skipped
                           : is_full(immediately) ? admission::full
                                                  : admission::accepted;
  if (result == admission::accepted || (result == admission::skipped && !immediately)) {
    if (over_) old_errors = begin_use_locked();
    t->index = next_index_++;
    if (result == admission::skipped) ++skipped_;
  }
  if (result == admission::accepted) {
    queue_.push(*t.release());
    ++pending_;
    worker = choose_worker_locked();
    if (task_block* const block = free_blocks_) {
      free_blocks_ = block->next;
      keep_block_locked(*block);
    }
  }
  lock_.unlock();
  if (task_block* const block = t != nullptr ? t.release()->end() : nullptr) give_back(block);
  group_tasks::destroy(old_errors);
  send(worker);
  return result;
}

SINGLEFLIGHT_BODY void task_group::keep_block_locked(task_block& block) noexcept {
  task_block* none = nullptr;
  if (ready_.load(memory_order_relaxed) == nullptr &&
      ready_.compare_exchange_strong(none, &block, memory_order_release, memory_order_relaxed)) {
    return;
  }
  block.next = free_blocks_;
  free_blocks_ = &block;
}

// ---- the wait -----------------------------------------------------------------------------------

SINGLEFLIGHT_BODY outcome<void> task_group::wait(wait_graph::strength strength) {
  settle_promises();
  group_waiter self;
  bool recorded = this_thread().led == nullptr;  // then nobody waits for this thread
  bool closes_cycle = false;
  lock_.lock();
  for (;;) {
    if (platform::holds(rule::waiter_helps)) work_locked();
    if (pending_ == 0) break;
    waiters_.list(self);
    references_ += waiter_reference();
    const std::uint64_t use = use_;  // which does not end before this is listed no more
    lock_.unlock();
    if (!std::exchange(recorded, true)) closes_cycle = !record_wait(self, use, strength);
    if (!closes_cycle && !self.record.interrupted()) self.sleep();
    lock_.lock();
    if (!self.listed && platform::holds(rule::called_waiter_gets_outcome)) {
      unlock_and_drop(waiter_reference());
      self.sleep_until_over();
      return self.take_outcome();
    }
    references_ -= waiter_reference();  // not the last: the use has not ended, the owner is there
    if (self.listed) waiters_.unlist(self);
    if (closes_cycle || self.record.interrupted()) {
      wakeup worker = choose_worker_locked();  // this waiter may have been called
      lock_.unlock();
      send(worker);
      return flight_errc::recursive;
    }
  }
  group_waiter* const others = end_use_locked(&self);
  lock_.unlock();
  group_waiters::notify(others);
  return self.take_outcome();
}

SINGLEFLIGHT_BODY bool task_group::record_wait(group_waiter& self, std::uint64_t use,
                                               wait_graph::strength strength) noexcept {
  const bool firm = strength == wait_graph::strength::firm;
  try {
    return self.record.enter({.id = use}, this_thread().led, nullptr, strength,
                             firm ? nullptr : &group_waiter::end_cycle, &self);
  } catch (const std::bad_alloc&) {
    return true;  // its cycles are not seen: a wait that ends without memory is worth more
  }
}

// ---- which thread works -------------------------------------------------------------------------

SINGLEFLIGHT_BODY auto task_group::choose_worker_locked(bool thread_ends) noexcept -> wakeup {
  wakeup worker;
  if (!may_begin() || waiters_.called()) return worker;
  if (!waiters_.empty() && platform::holds(rule::sleeper_is_called)) {
    worker.sleeper = waiters_.call();
  } else if (!posted_ && (thread_ends || !works_inline_locked())) {
    posted_ = true;
    references_ += ticket_reference();
    // What a thread that ends leaves behind goes to the default pool, as in the trampoline.
    const bool here = (thread_ends && options_.executor.is_inline()) ||
                      !platform::holds(rule::wakeup_holds_executor);
    worker.ticket.emplace(here ? any_executor() : options_.executor);
  }
  return worker;
}

SINGLEFLIGHT_BODY void task_group::send(wakeup& worker) {
  if (worker.sleeper != nullptr) {
    platform::wake(*worker.sleeper, 1);  // by its address: it may have returned
  } else if (worker.ticket) {
    // Destroyed here, where no lock is held.
    const any_executor own = std::exchange(*worker.ticket, {});
    const any_executor& executor =
        platform::holds(rule::wakeup_holds_executor) ? own : options_.executor;
    try {
      executor.execute(task(static_cast<task_node*>(this)));
    } catch (...) {  // refused: the ticket was dropped; a thread in wait() runs the tasks
      if (platform::is_thread_exit()) throw;
    }
  }
}

SINGLEFLIGHT_BODY void task_group::on_ticket(task_node* node, bool run) {
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

SINGLEFLIGHT_BODY void task_group::work_locked() {
  if (!may_begin()) return;
  const group_frame here(this, group_frame::kind::works, use_);
  do {
    group_task* const t = queue_.pop();
    ++running_;
    // Before the task, which may wait for one that has not begun.
    wakeup worker =
        platform::holds(rule::ticket_comes_before_task) ? choose_worker_locked() : wakeup{};
    lock_.unlock();
    run_and_lock(*t, worker);
  } while (may_begin());
}

SINGLEFLIGHT_BODY void task_group::run_and_lock(group_task& t, wakeup& first) {
  try {
    send(first);
    t.run(*this);
  } catch (...) {
    if (platform::is_thread_exit()) {
      pending_ -= fail_and_lock(t);
      wakeup worker = choose_worker_locked(true);  // this thread takes no more
      group_waiter* const ended = end_use_if_over_locked();
      lock_.unlock();
      group_waiters::notify(ended);
      send(worker);
      throw;
    }
    t.error = keep_alive(std::current_exception());
  }
  if (t.error != nullptr) {
    pending_ -= fail_and_lock(t);
  } else {
    task_block* const block = t.end();
    lock_.lock();
    if (block != nullptr) keep_block_locked(*block);
    --running_;
    --pending_;
  }
}

// ---- errors and stops ---------------------------------------------------------------------------

SINGLEFLIGHT_BODY std::size_t task_group::fail_and_lock(group_task& t) {
  lock_.lock();
  failed_.push(t);
  group_tasks skipped;
  if (options_.stops_on_error && !stopped_) {
    skipped = stop_locked();
    run_stop_and_lock(skipped);
  }
  --running_;
  return 1 + skipped.count;
}

SINGLEFLIGHT_BODY bool task_group::request_stop() {
  lock_.lock();
  if (stopped_) {
    lock_.unlock();
    return false;
  }
  ++references_;
  const group_tasks skipped = stop_locked();
  run_stop_and_lock(skipped);
  pending_ -= skipped.count;
  unlock_and_drop(1);
  return true;
}

SINGLEFLIGHT_BODY group_tasks task_group::stop_locked() noexcept {
  stopped_ = true;
  if (!platform::holds(rule::stop_skips_unbegun)) return {};
  skipped_ += queue_.count;
  if (!platform::holds(rule::skipped_are_waited_for)) {
    pending_ -= std::exchange(queue_.count, 0);
  }
  return std::exchange(queue_, {});
}

SINGLEFLIGHT_BODY void task_group::run_stop_and_lock(const group_tasks& skipped) {
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

SINGLEFLIGHT_BODY std::stop_token task_group::token() {
  lock_.lock();
  std::stop_token now = stop_.get_token();
  lock_.unlock();
  if (now.stop_possible()) return now;
  std::stop_source made;
  lock_.lock();
  if (!stop_.stop_possible()) {
    if (stopped_) platform::request_stop(made);  // it has no callbacks yet
    stop_ = made;
  }
  now = stop_.get_token();
  lock_.unlock();
  return now;
}

// ---- one use after the other --------------------------------------------------------------------

SINGLEFLIGHT_BODY group_tasks task_group::begin_use_locked() noexcept {
  over_ = false;
  if (use_ == 0 || platform::holds(rule::use_has_its_id)) use_ = next_flight_id(this_thread());
  skipped_ = 0;
  next_index_ = 0;
  if (!platform::holds(rule::error_ends_with_its_use)) return {};
  return std::exchange(failed_, {});
}

SINGLEFLIGHT_BODY outcome<void> task_group::outcome_locked() const {
  if (over_) return {};  // nothing since the last wait
  if (failed_.first != nullptr) {
    if (failed_.first->error == nullptr) return flight_errc::broken;
    return failed_.first->error;
  }
  if (skipped_ != 0) return flight_errc::cancelled;
  return {};
}

SINGLEFLIGHT_BODY group_waiter* task_group::end_use_locked(group_waiter* self) {
  const outcome<void> ended = outcome_locked();
  if (self != nullptr) self->set_outcome(ended, stop_);
  group_waiter* const others = waiters_.end(ended, stop_);
  over_ = true;
  stop_ = std::stop_source(std::nostopstate);  // the waiters that were given it have the last one
  stopped_ = platform::stop_requested(options_.parent);
  return others;
}

SINGLEFLIGHT_BODY void task_group::unlock_and_drop(std::uint32_t references) {
  group_waiter* const ended = end_use_if_over_locked();
  references_ -= references;
  const bool last = references_ == 0;
  lock_.unlock();
  group_waiters::notify(ended);
  if (last) delete this;
}

SINGLEFLIGHT_BODY void task_group::disown() {
  lock_.lock();
  const any_executor executor = std::exchange(options_.executor, {});
  const group_tasks old_errors = std::exchange(failed_, {});
  unlock_and_drop(1);
  group_tasks::destroy(old_errors);
}

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE
