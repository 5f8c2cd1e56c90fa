// SPDX-License-Identifier: Apache-2.0
#pragma once

// semaphore_core: how a request is queued, given up and served. Members of semaphore_core.

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <utility>

#include "singleflight/sync/detail/rules.hpp"
#include "singleflight/sync/detail/semaphore_core.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

// ---- one request --------------------------------------------------------------------------------

SINGLEFLIGHT_BODY void semaphore_core::enter(permit_waiter& w) {
  if (take_fast(w.weight)) {
    w.is_settled.store(true, memory_order_relaxed);
    add_handle();
    return;
  }
  lock_served();
  if (closed_) {
    refuse_locked(w, flight_errc::closed);
  } else if (w.weight > capacity_) {
    const count capacity = capacity_;
    unlock();
    throw std::invalid_argument("semaphore: a weight of " + std::to_string(w.weight) +
                                " is over the capacity of " + std::to_string(capacity) +
                                ", and would never be served");
  } else if (queue_.empty() && w.weight <= available_) {
    available_ -= w.weight;
    w.is_settled.store(true, memory_order_relaxed);
  } else if (max_waiters_ != 0 && waiters_.load(memory_order_relaxed) >= max_waiters_) {
    refuse_locked(w, flight_errc::overloaded);
  } else {
    queue_.push(w);
    w.queued = true;
    count_waiters_locked(1);
    ++stats_.queued;
  }
  add_handle();
  unlock();
}

SINGLEFLIGHT_BODY flight_errc semaphore_core::refuse(flight_errc why) noexcept {
  lock();
  ++(why == flight_errc::timed_out ? stats_.timed_out : stats_.cancelled);
  unlock();
  return why;
}

SINGLEFLIGHT_BODY void semaphore_core::refuse_locked(permit_waiter& w, flight_errc why) noexcept {
  ++(why == flight_errc::closed ? stats_.closed : stats_.overloaded);
  w.refused = why;
  w.is_settled.store(true, memory_order_relaxed);
}

SINGLEFLIGHT_BODY bool semaphore_core::try_take(count n) {
  if (take_fast(n)) return true;
  lock_served();
  const bool granted = !closed_ && queue_.empty() && n <= available_;
  if (granted) available_ -= n;
  unlock();
  return granted;
}

// ---- its wait -----------------------------------------------------------------------------------

SINGLEFLIGHT_BODY permit_batch* semaphore_core::make_batch(const any_executor& executor) {
  permit_batch* const made = permit_batch::make(*this, executor);
  lock();
  made->enlist_locked(more_batches_);
  unlock();
  return made;
}

SINGLEFLIGHT_BODY bool semaphore_core::enrol(permit_waiter& w, permit_batch& batch, bool always) {
  const call_scope scope;
  permit_batch::runner* runners = nullptr;
  lock_served();
  w.require_idle_locked();
  const bool over = w.over_locked();
  if (over && !always) {
    unlock();
    return false;
  }
  w.batch = &batch;
  w.state = wait_state::pending;
  if (over) batch.make_ready_locked(w, runners);
  unlock();
  permit_batch::submit(runners);
  return true;
}

SINGLEFLIGHT_BODY bool semaphore_core::fall_asleep(permit_waiter& w, sleeper& thread) {
  lock_served();
  w.require_idle_locked();
  const bool waits = !w.over_locked();
  if (waits) w.thread = &thread;
  unlock();
  return waits;
}

SINGLEFLIGHT_BODY void semaphore_core::give_up(permit_waiter& w, wait_verdict why) {
  change([&](wake_list& wakes) {
    if (w.is_settled.load(memory_order_relaxed) && platform::holds(rule::cancel_yields_to_grant)) {
      return;
    }
    if (w.verdict.load(memory_order_relaxed) != wait_verdict::outcome) return;
    ++(why == wait_verdict::timed_out ? stats_.timed_out : stats_.cancelled);
    w.verdict.store(why, memory_order_relaxed);
    dequeue_locked(w);
    if (w.state == wait_state::pending) w.batch->make_ready_locked(w, wakes.runners);
  });
}

SINGLEFLIGHT_BODY void semaphore_core::leave_batch(permit_waiter& w) noexcept {
  lock();
  w.leave_batch_locked();
  unlock();
}

SINGLEFLIGHT_BODY void semaphore_core::drop(permit_waiter& w) {
  change([&](wake_list&) {
    w.leave_batch_locked();
    if (w.queued) {
      dequeue_locked(w);
    } else if (w.granted_locked() && platform::holds(rule::dropped_grant_returns)) {
      available_ += w.weight;
    }
  });
}

// ---- the whole semaphore ------------------------------------------------------------------------

SINGLEFLIGHT_BODY void semaphore_core::resize(count capacity) {
  check_capacity(capacity);
  change([&](wake_list&) {
    available_ += capacity - capacity_;
    if (capacity < capacity_ && platform::holds(rule::resize_rejects_overweight)) {
      sweep_at_ = queue_.first();
    } else if (!platform::holds(rule::sweep_outlasts_resize)) {
      sweep_at_ = nullptr;
    }
    capacity_ = capacity;
  });
}

SINGLEFLIGHT_BODY void semaphore_core::close() {
  change([&](wake_list&) { closed_ = true; });
}

// ---- the queue ----------------------------------------------------------------------------------

SINGLEFLIGHT_BODY void semaphore_core::dequeue_locked(permit_waiter& w) noexcept {
  if (!w.queued) return;
  if (sweep_at_ == &w) sweep_at_ = w.next;
  queue_.remove(w);
  w.queued = false;
  count_waiters_locked(-1);
}

SINGLEFLIGHT_INLINE void semaphore_core::settle_locked(permit_waiter& w, flight_errc refused,
                                                       wake_list& wakes) noexcept {
  dequeue_locked(w);
  w.refused = refused;
  ++wakes.settled;
  if (w.thread != nullptr) {
    w.is_settled.store(true, memory_order_relaxed);
    wakes.threads[wakes.thread_count++] = w.thread->tell();  // `w` may be destroyed from here on
    return;
  }
  if (w.state == wait_state::pending) w.batch->make_ready_locked(w, wakes.runners);
  // If nothing waits for it yet, `w` may be destroyed after this.
  w.is_settled.store(true, platform::order(rule::settle_releases, memory_order_release));
}

SINGLEFLIGHT_BODY void semaphore_core::serve_locked(wake_list& wakes) noexcept {
  while (sweep_at_ != nullptr && wakes.has_room()) {
    ++wakes.looked_at;
    auto& request = static_cast<permit_waiter&>(*std::exchange(sweep_at_, sweep_at_->next));
    if (request.weight <= capacity_) continue;
    ++stats_.rejected;
    settle_locked(request, flight_errc::rejected, wakes);
  }
  while (wakes.has_room() && !queue_.empty()) {
    auto& front = static_cast<permit_waiter&>(*queue_.first());
    if (closed_ && platform::holds(rule::close_ends_the_queue)) {
      ++stats_.closed;
      settle_locked(front, flight_errc::closed, wakes);
    } else if (front.weight <= available_) {
      available_ -= front.weight;
      settle_locked(front, {}, wakes);
    } else {
      return;
    }
  }
}

SINGLEFLIGHT_BODY void semaphore_core::lock_served() {
  lock();
  while (unserved_) [[unlikely]] {
    unserved_ = false;
    unlock();
    change([](wake_list&) {});
    lock();
  }
}

// ---- fork ---------------------------------------------------------------------------------------

// Threads that queue do not exist in a child. What is held stays held; what was granted to a
// coroutine that is resumed in the parent alone is returned. Nobody is resumed here, so the next
// call serves those who queued behind.
SINGLEFLIGHT_BODY void semaphore_core::repair() noexcept {
  for (waiter* w = queue_.first(); w != nullptr;) {
    waiter* const next = w->next;
    auto& request = static_cast<permit_waiter&>(*w);
    if (request.thread != nullptr || request.blocks) dequeue_locked(request);
    w = next;
  }
  unserved_ = !queue_.empty();
  home.repair_locked(false);
  for (permit_batch* b = more_batches_; b != nullptr; b = b->next) b->repair_locked(false);
}

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE
