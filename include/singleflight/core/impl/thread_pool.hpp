// SPDX-License-Identifier: Apache-2.0
#pragma once

// thread_pool: queueing and running tasks, starting and ending threads; the process-wide pools.

#include <algorithm>
#include <exception>
#include <memory>
#include <optional>
#include <stdexcept>
#include <system_error>
#include <utility>
#include <vector>

#include "singleflight/core/detail/steady_timer.hpp"
#include "singleflight/core/support/require.hpp"
#include "singleflight/core/support/rules.hpp"
#include "singleflight/core/support/trampoline.hpp"
#include "singleflight/core/thread_pool.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE

SINGLEFLIGHT_COLD SINGLEFLIGHT_BODY thread_pool::thread_pool(thread_pool_options options)
    : fork_member(rank::pool), options_(options), retry_(*this) {
  if (options_.max_threads == 0) {
    throw std::invalid_argument("thread_pool: max_threads must be at least 1");
  }
  threads_.reserve(std::min<std::size_t>(options_.max_threads, 1024));
  (void)detail::the_steady_timer();  // created here, since arm_retry() cannot fail
  enter_forks();
}

SINGLEFLIGHT_COLD SINGLEFLIGHT_BODY thread_pool::~thread_pool() {
  detail::thread_state& self = detail::this_thread();
  const bool within = self.pool == this;
  detail::require(!within || forked_within_, "thread_pool: destroyed within one of its own tasks");
  if (within) self.pool = nullptr;  // work() returns after this task
  detail::settle_promises();
  detail::hand_queue_over();
  leave_forks();
  bool retrying = false;
  {
    platform::unique_lock hold(lock_);
    stopping_ = true;
    retrying = retrying_;
  }
  if (retrying) detail::the_steady_timer().cancel(retry_);
  if (detail::platform::holds(detail::rule::stop_wakes_idle)) work_.notify_all();
  for (;;) {
    platform::unique_lock hold(lock_);
    if (!threads_.empty()) {  // a thread that a task has ended may have started another one
      platform::thread worker = std::move(threads_.back());
      threads_.pop_back();
      hold.unlock();
      if (within && detail::platform::is_this_thread(worker)) {
        worker.detach();
      } else {
        worker.join();
      }
    } else if (detail::task_node* const node = head_;  // no thread could be started for it
               node != nullptr && detail::platform::holds(detail::rule::stop_runs_what_is_left)) {
      head_ = node->next;
      if (head_ == nullptr) tail_ = nullptr;
      --queued_;
      hold.unlock();
      const detail::on_errand errand;
      node->act(node, true);
    } else {
      return;
    }
  }
}

SINGLEFLIGHT_BODY void thread_pool::execute(task t) {
  detail::task_node* const node = t.release();
  try {
    post(node, false);
  } catch (...) {
    // The load that the task would have run ends with this error.
    const std::exception_ptr why = std::current_exception();
    const detail::refusing refusal(detail::this_thread(), why);
    node->act(node, false);
    throw;
  }
}

SINGLEFLIGHT_BODY void thread_pool::post(detail::task_node* node, bool keep) {
  bool wake = false;
  bool starved = false;
  platform::unique_lock hold(lock_);
  if (idle_ > 0) {
    if (detail::platform::holds(detail::rule::idle_is_promised))
      --idle_;  // the thread that is woken below
    ++notified_;
    wake = true;
  } else if (live_ < options_.max_threads && !add_thread_locked() && live_ == 0) {
    if (!keep || !detail::platform::holds(detail::rule::kept_node_waits)) {
      throw std::system_error(std::make_error_code(std::errc::resource_unavailable_try_again),
                              "thread_pool: no thread could be started");
    }
    starved = !std::exchange(retrying_, true);
  }
  node->next = nullptr;
  if (tail_ != nullptr) {
    tail_->next = node;
  } else {
    head_ = node;
  }
  tail_ = node;
  ++queued_;
  // Under the lock: after the unlock the node may have run and the pool may have been destroyed.
  if (!detail::platform::holds(detail::rule::post_ends_with_unlock)) hold.unlock();
  if (wake && detail::platform::holds(detail::rule::post_wakes_idle)) work_.notify_one();
  if (starved && detail::platform::holds(detail::rule::starved_pool_retries)) {
    hold.unlock();
    arm_retry();
  }
}

SINGLEFLIGHT_COLD SINGLEFLIGHT_BODY bool thread_pool::add_thread_locked() noexcept {
  try {
    // Reserve its slot first: a thread that runs cannot be undone.
    if (threads_.size() == threads_.capacity() &&
        detail::platform::holds(detail::rule::thread_has_its_slot)) {
      threads_.reserve(2 * threads_.size());
    }
    threads_.push_back(detail::platform::start_thread(options_.name, [this] { work(); }));
    ++live_;
    ++starting_;
    return true;
  } catch (...) {  // no thread or no memory: existing threads continue; post() decides
    return false;
  }
}

SINGLEFLIGHT_BODY void thread_pool::work() {
  detail::thread_state& self = detail::this_thread();
  self.pool = this;
  const detail::on_errand errand;
  struct leaving {  // also when a task unwinds the thread (pthread_exit)
    thread_pool& pool;
    const detail::thread_state& self;
    ~leaving() {
      if (self.pool != &pool) return;  // the pool has been destroyed
      platform::unique_lock hold(pool.lock_);
      --pool.live_;
      if (pool.head_ != nullptr && detail::platform::holds(detail::rule::leaver_is_replaced)) {
        pool.add_thread_locked();
      }
    }
  } const leave{*this, self};
  for (bool first = true;; first = false) {
    detail::task_node* node = nullptr;
    {
      platform::unique_lock hold(lock_);
      if (first) --starting_;
      while (head_ == nullptr) {
        if (stopping_) return;
        ++idle_;
        while (notified_ == 0 && !stopping_) work_.wait(hold);
        if (notified_ > 0) {
          --notified_;
        } else if (detail::platform::holds(detail::rule::leaver_is_not_idle)) {
          --idle_;
        }
      }
      node = head_;
      head_ = node->next;
      if (head_ == nullptr) tail_ = nullptr;
      --queued_;
    }
    node->act(node, true);
    if (self.pool != this) return;  // in a child of fork: the task has destroyed the pool
  }
}

SINGLEFLIGHT_COLD SINGLEFLIGHT_BODY void thread_pool::arm_retry() noexcept {
  detail::steady_timer& clock = detail::the_steady_timer();
  clock.arm_patiently(retry_, clock.now() + between_attempts);
}

SINGLEFLIGHT_COLD SINGLEFLIGHT_BODY void thread_pool::on_retry(timer_node& node) noexcept {
  thread_pool& self = static_cast<retry&>(node).pool;
  {
    platform::unique_lock hold(self.lock_);
    if (self.head_ == nullptr || self.live_ > 0 || self.add_thread_locked()) {
      self.retrying_ = false;
      return;
    }
  }
  self.arm_retry();
}

SINGLEFLIGHT_BODY void thread_pool::repair() noexcept {
  detail::platform::renew(work_);
  detail::platform::forget_threads(threads_);
  forked_within_ = detail::this_thread().pool == this;  // a task may fork
  live_ = forked_within_ ? 1 : 0;
  idle_ = notified_ = queued_ = starting_ = 0;
  head_ = tail_ = nullptr;
  if (retry_.next == nullptr) retrying_ = false;
}

SINGLEFLIGHT_BODY thread_pool& default_pool() {
  return detail::shared_pools::usual.get([] {
    return std::make_unique<thread_pool>(thread_pool_options{
        .max_threads = std::max<std::size_t>(64, std::size_t{4} * detail::platform::concurrency()),
        .name = "sf-default"});
  });
}

namespace detail {

SINGLEFLIGHT_BODY thread_pool& timeout_pool() {
  return shared_pools::of_timeouts.get([] {
    return std::make_unique<thread_pool>(
        thread_pool_options{.max_threads = 16, .name = "sf-timeout"});
  });
}

SINGLEFLIGHT_BODY void make_shared_pools() {
  (void)default_pool();
  (void)timeout_pool();
}

/// Drops a task on another thread, with the refusal that the calling thread drops it for.
struct late_drop final : task_node, platform::allocated {
  late_drop(task_node* node, const std::exception_ptr* refusal)
      : task_node(&act_on), dropped(node), why(refusal != nullptr ? *refusal : nullptr) {}
  static void act_on(task_node* node, bool) {
    const std::unique_ptr<late_drop> self(static_cast<late_drop*>(node));
    std::optional<refusing> reason;
    if (self->why != nullptr) reason.emplace(this_thread(), self->why);
    self->dropped->act(self->dropped, false);
  }
  task_node* const dropped;
  const std::exception_ptr why;
};

SINGLEFLIGHT_BODY bool drop_later(task_node* node) noexcept {
  const thread_state& self = this_thread();
  if (self.fires == 0 || !platform::holds(detail::rule::fires_drop_nothing)) return false;
  try {
    timeout_pool().post(new late_drop(node, self.refusal), true);
    return true;
  } catch (...) {
    return false;
  }
}

SINGLEFLIGHT_BODY void execute_on_default_pool(task&& t) { default_pool().execute(std::move(t)); }
SINGLEFLIGHT_BODY void post_on_default_pool(task_node* node) { default_pool().post(node, true); }
SINGLEFLIGHT_BODY bool runs_on_default_pool() noexcept {
  const thread_pool* const pool = this_thread().pool;
  return pool != nullptr && pool == shared_pools::usual.peek();
}
SINGLEFLIGHT_BODY bool is_default_pool_starved() noexcept { return default_pool().starved(); }
SINGLEFLIGHT_BODY bool is_pool_starved(const thread_pool& pool) noexcept { return pool.starved(); }
SINGLEFLIGHT_BODY void execute_on_pool(thread_pool& pool, task&& t) { pool.execute(std::move(t)); }

}  // namespace detail

SINGLEFLIGHT_END_NAMESPACE
