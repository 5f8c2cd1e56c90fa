// SPDX-License-Identifier: Apache-2.0
#pragma once

/// semaphore: bounds how much is in use at a time; first come, first served.
///
/// Use when    a backend can take only so many calls, rows or bytes at once.
/// Not for     sharing one answer (flight/group.hpp); refusing calls to a broken backend
///             (sync/circuit_breaker.hpp).
/// Example     examples/09_semaphore.cpp
///
/// Threads     every member, from any thread; the destructor once no new call can begin.
/// Ordering    strictly first in, first out: a large request is not starved, a small one does not
///             overtake, and try_acquire takes nothing while any request is queued. What was done
///             under a permit happens-before what the next holder of its share does.
/// Blocking    acquire blocks until its turn or its limits; start_acquire queues at once and is
///             awaited; all other members never wait.
/// Cancel      a limit ends its own wait only, and those behind move up. A grant that came first
///             holds; one that no caller takes is returned.
/// Errors      std::invalid_argument for a weight below 1 or over the capacity (for the latter,
///             try_acquire returns an empty permit), and for more than a permit holds;
///             flight_error: timed_out, cancelled, closed, overloaded (max_waiters), rejected (a
///             resize below the weight of a queued request).
/// Lifetime    outlives its permits: the destructor aborts the process when one is held, and also
///             while a request is queued; close() refuses those. Callers that close() has refused
///             may resume after the semaphore is destroyed.
/// Cost        alone: one compare-exchange to acquire, one to release, no allocation. To queue:
///             a short critical section and no allocation; a release notifies all it serves in one
///             task per executor.

#include <chrono>
#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <utility>

#include "singleflight/core/default_timer.hpp"
#include "singleflight/core/limits.hpp"
#include "singleflight/core/observable.hpp"
#include "singleflight/core/outcome.hpp"
#include "singleflight/core/support/require.hpp"
#include "singleflight/sync/detail/rules.hpp"
#include "singleflight/sync/detail/semaphore_core.hpp"
#include "singleflight/sync/semaphore_options.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE

/// A share of a semaphore; its destructor returns it. Move-only; one thread at a time.
class [[nodiscard]] permit {
 public:
  using count = std::ptrdiff_t;

  /// An empty permit, which holds nothing.
  permit() noexcept = default;
  permit(permit&& other) noexcept
      : core_(std::exchange(other.core_, nullptr)), held_(std::exchange(other.held_, 0)) {}
  permit& operator=(permit&& other) noexcept {
    permit(std::move(other)).swap(*this);
    return *this;
  }
  ~permit() {
    if (held_ > 0) core_->give(held_);
  }

  /// Returns how much it holds; 0 for an empty one.
  count size() const noexcept { return held_; }
  explicit operator bool() const noexcept { return held_ > 0; }

  /// Returns everything to the semaphore.
  void release() {
    if (held_ > 0) core_->give(std::exchange(held_, 0));
  }
  /// Returns `n` to the semaphore. Throws std::invalid_argument for n < 1 or n > size().
  void release(count n) {
    check(n, "release");
    held_ -= n;
    core_->give(n);
  }
  /// Splits `n` off into a permit of its own. Throws std::invalid_argument for n < 1 or n > size().
  permit split(count n) {
    check(n, "split");
    held_ -= n;
    return permit(*core_, n);
  }
  /// Takes over what `other` holds. Throws std::invalid_argument when `other` is of another
  /// semaphore.
  void merge(permit&& other) {
    if (!other) return;
    if (held_ > 0 && core_ != other.core_) {
      throw std::invalid_argument("permit: two permits of different semaphores cannot be merged");
    }
    core_ = other.core_;
    held_ += std::exchange(other.held_, 0);
  }
  void swap(permit& other) noexcept {
    std::swap(core_, other.core_);
    std::swap(held_, other.held_);
  }

 private:
  friend class semaphore;
  friend class pending_permit;
  permit(detail::semaphore_core& core, count n) noexcept : core_(&core), held_(n) {}

  void check(count n, const char* what) const {
    if (n < 1 || n > held_) refuse(n, what);
  }
  [[noreturn]] SINGLEFLIGHT_COLD void refuse(count n, const char* what) const {
    throw std::invalid_argument(std::string("permit: cannot ") + what + " " + std::to_string(n) +
                                " of " + std::to_string(held_) + " held");
  }

  detail::semaphore_core* core_ = nullptr;
  count held_ = 0;
};

/// A place in the queue, to be awaited or waited for; one-shot. It cannot be moved: the queue
/// stores its address. Its destructor leaves the queue, or returns what was granted. No load can be
/// named (`within`): permits have no owner, so a cycle of them is not detected.
class [[nodiscard]] pending_permit : public detail::handle_of<pending_permit>,
                                     private detail::permit_waiter {
 public:
  using result = permit;
  static constexpr bool calls_back = false;

  pending_permit(const pending_permit&) = delete;
  pending_permit& operator=(const pending_permit&) = delete;
  ~pending_permit() {
    if (!taken_) core_->drop(*this);
    if (detail::platform::holds(detail::rule::handles_hold_reference)) core_->drop_reference();
  }

  /// Blocks until it is granted; returns the permit, or throws flight_error.
  permit get() { return blocked_outcome({}).value(); }
  outcome<permit> get_outcome() { return blocked_outcome({}); }
  /// Whether get and co_await would return at once.
  [[nodiscard]] bool ready() const noexcept { return settled(); }

  class awaiter {
   public:
    explicit awaiter(pending_permit& handle) noexcept : handle_(handle) {}
    bool await_ready() const noexcept { return handle_.settled(); }
    bool await_suspend(std::coroutine_handle<> frame) {
      handle_.target = reinterpret_cast<std::uintptr_t>(frame.address());
      return handle_.core_->enrol(handle_, handle_.core_->home, false);
    }
    permit await_resume() {
      return handle_.take(handle_.verdict.load(detail::memory_order_relaxed)).value();
    }

   private:
    pending_permit& handle_;
  };
  awaiter operator co_await() & noexcept { return awaiter(*this); }
  using detail::handle_of<pending_permit>::operator co_await;

 private:
  friend class semaphore;
  template <class, class, bool, class>
  friend class handle_wait;
  friend detail::handle_access;

  pending_permit(detail::semaphore_core& core, std::ptrdiff_t n, bool blocks_here = false)
      : permit_waiter(n, blocks_here), core_(&core) {
    core.enter(*this);
  }

  bool settled() const noexcept {
    detail::require(!taken_, "pending_permit: used twice");
    return is_settled.load(detail::platform::order(detail::rule::settled_acquires,
                                                   detail::memory_order_acquire)) ||
           verdict.load(detail::memory_order_relaxed) != detail::wait_verdict::outcome;
  }

  // ---- for handle_wait --------------------------------------------------------------------------
  using batch_type = detail::permit_batch;
  timer& clock() const noexcept { return core_->clock; }
  batch_type& home_batch() const noexcept { return core_->home; }
  batch_type* batch_on(const any_executor& executor) { return core_->make_batch(executor); }
  bool enrol(batch_type& where, const detail::steady_time*, bool always) {
    return core_->enrol(*this, where, always);
  }
  void cancel(batch_type&, detail::wait_verdict why) { core_->give_up(*this, why); }
  void take_out(batch_type&) noexcept { core_->leave_batch(*this); }
  void end_limit() noexcept {}

  /// Consumes the handle; returns the permit, or why there is none.
  outcome<permit> take(detail::wait_verdict ended) noexcept {
    detail::require(!std::exchange(taken_, true), "pending_permit: used twice");
    if (ended != detail::wait_verdict::outcome) return errc_of(ended);
    if (refused != flight_errc{}) return refused;
    return permit(*core_, weight);
  }

  outcome<permit> blocked_outcome(const limits& bounds) {
    using detail::wait_verdict;
    if (!settled()) {
      detail::settle_promises();
      detail::sleeper sleeper(core_->clock, bounds.deadline, bounds.stop);
      if (core_->fall_asleep(*this, sleeper)) {
        const wait_verdict why = sleeper.sleep();
        if (why != wait_verdict::outcome) core_->give_up(*this, why);
      }
    }
    return take(verdict.load(detail::memory_order_relaxed));
  }

  detail::semaphore_core* core_;  // with a reference of its own, from enter()
  bool taken_ = false;
};

class semaphore final : public observable {
 public:
  using count = std::ptrdiff_t;

  /// Throws std::invalid_argument for a capacity below 1.
  explicit semaphore(count capacity, const semaphore_options& options = {})
      : core_(new detail::semaphore_core(
            capacity, options.executor, options.timer != nullptr ? *options.timer : default_timer(),
            options.max_waiters)) {}
  semaphore(const semaphore&) = delete;
  semaphore& operator=(const semaphore&) = delete;
  /// Aborts the process when a permit is still held: its holder would use a destroyed semaphore.
  ~semaphore() {
    detail::require(core_->is_whole(), "semaphore: destroyed while permits are held");
    core_->drop_reference();
  }

  /// Returns `n` permits, once all earlier requests have theirs.
  permit acquire(count n = 1) {
    detail::semaphore_core::check_weight(n);
    if (core_->take_fast(n)) [[likely]] {
      return permit(*core_, n);
    }
    return acquire_queued(n, {}).value();
  }
  permit acquire(count n, const limits& bounds) { return acquire(as_outcome, n, bounds).value(); }
  outcome<permit> acquire(as_outcome_t, count n = 1, const limits& bounds = {}) {
    detail::semaphore_core::check_weight(n);
    if (const auto code = detail::expired(bounds, core_->clock)) return core_->refuse(*code);
    if (core_->take_fast(n)) return permit(*core_, n);
    return acquire_queued(n, bounds);
  }
  /// Joins the queue now; await the handle, or get() it.
  [[nodiscard]] pending_permit start_acquire(count n = 1) {
    detail::semaphore_core::check_weight(n);
    return pending_permit(*core_, n);
  }
  /// Never waits: returns an empty permit when too few are available or a request is queued.
  permit try_acquire(count n = 1) {
    detail::semaphore_core::check_weight(n);
    return core_->try_take(n) ? permit(*core_, n) : permit();
  }

  /// Sets the capacity, at once. If it is below the number held, nothing is granted until enough
  /// has been returned. Queued requests for more than the new capacity get `rejected`.
  void resize(count capacity) { core_->resize(capacity); }
  /// Refuses new and queued requests with `closed`; permits stay valid.
  void close() { core_->close(); }

  count capacity() const noexcept { return core_->capacity(); }
  /// Returns the permits available at some moment; negative after resize() below the number held.
  count available() const noexcept { return core_->available(); }
  /// Returns the number of queued requests; stale on arrival.
  std::size_t waiters_approx() const noexcept { return core_->waiters(); }

  semaphore_stats stats() const noexcept { return core_->stats(); }
  void observe(metric_visitor& visitor) const override {
    visitor.gauge("capacity", capacity());
    visitor.gauge("available", available());
    visitor.gauge("waiters", waiters_approx());
    detail::observe_counters(visitor, stats());
  }

 private:
  SINGLEFLIGHT_NOINLINE outcome<permit> acquire_queued(count n, const limits& bounds) {
    detail::settle_promises();  // before it queues: what this resumes may acquire a permit too
    pending_permit request(*core_, n, true);
    return request.blocked_outcome(bounds);
  }

  detail::semaphore_core* core_;  // shared with queued requests, and with runners
};

SINGLEFLIGHT_END_NAMESPACE
