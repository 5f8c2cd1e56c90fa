// SPDX-License-Identifier: Apache-2.0
#pragma once

// semaphore_core: what the callers of one semaphore share: the permits that are left, and those who
// queue.
//
// S1  `word_` is the lock (bit 0), `slow` (bit 1), and what is available in the rest: less than
//     nothing after a resize below what is held. `slow` is set exactly while somebody queues or the
//     semaphore is closed.
// S2  Without the lock permits are taken and given by one compare-exchange that wants both bits
//     clear. So while anybody queues everyone comes through the lock, and nobody overtakes.
// S3  Only the front of the queue is served. While nobody has the lock the front asks for more than
//     is available, or a thread is between two rounds of change(), and comes back for the rest. In
//     a child of fork the threads that queued ahead, or would have come back, are not there:
//     `unserved_` is set, and the next call serves the queue before it does anything else.
// S4  A waiter is settled once, under the lock, in the critical section that takes it out of the
//     queue: granted, refused, or given up by its own limit. Whichever comes first holds.
// S5  References: the semaphore's, one for each handle, the runners', and one for each thread
//     between two rounds of change(). A permit has none: the semaphore outlives it, and the fast
//     release is the last touch of its holder.
//
// The release of a permit (compare-exchange, or the unlock's store) pairs with the acquire of
// whoever takes it, at the fast path or at the lock: what was done under a permit happens-before
// what the next one does with it.

#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <stdexcept>
#include <string>
#include <utility>

#include "singleflight/core/errors.hpp"
#include "singleflight/core/support/bit_lock.hpp"
#include "singleflight/core/support/sleeper.hpp"
#include "singleflight/sync/detail/permit_waiter.hpp"
#include "singleflight/sync/detail/rules.hpp"
#include "singleflight/sync/semaphore_options.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

class semaphore_core final : public platform::allocated, fork_member {
 public:
  using count = std::ptrdiff_t;
  /// Some bits short of a count, so that sums of permits are counts as well.
  static constexpr int most_bits = std::numeric_limits<count>::digits - 3;
  static constexpr count most = count{1} << most_bits;

  semaphore_core(count capacity, const any_executor& executor, timer& time, std::size_t max_waiters)
      : fork_member(rank::lines),
        clock(time),
        word_(word_of(check_capacity(capacity))),
        capacity_(capacity),
        max_waiters_(max_waiters),
        home(executor) {
    home.owner = this;
    make_shared_pools();
    enter_forks();
  }
  ~semaphore_core() { leave_forks(); }
  semaphore_core(const semaphore_core&) = delete;
  semaphore_core& operator=(const semaphore_core&) = delete;

  // ---- alone ------------------------------------------------------------------------------------

  /// Takes `n` if they are there and nobody queues.
  bool take_fast(count n) noexcept {
    std::uint64_t word = word_.load(memory_order_relaxed);
    while ((word & (locked | (platform::holds(rule::newcomers_queue) ? slow : 0))) == 0 &&
           available_in(word) >= n) {
      if (word_.compare_exchange_weak(word, word - word_of(n),
                                      platform::order(rule::take_acquires, memory_order_acquire),
                                      memory_order_relaxed)) {
        return true;
      }
    }
    return false;
  }
  void give(count n) {
    std::uint64_t word = word_.load(memory_order_relaxed);
    while ((word & (locked | (platform::holds(rule::release_serves_queue) ? slow : 0))) == 0) {
      if (word_.compare_exchange_weak(word, word + word_of(n),
                                      platform::order(rule::give_releases, memory_order_release),
                                      memory_order_relaxed)) {
        return;
      }
    }
    change([&](aftermath&) { available_ += n; });
  }

  // ---- through the lock -------------------------------------------------------------------------

  /// Settles `w` at once, or queues it; adds the reference of its handle while nothing can go: it
  /// holds a permit, or the lock.
  void enter(permit_waiter& w) {
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
  /// Counts a call that is refused before it has begun.
  flight_errc refuse(flight_errc why) noexcept {
    lock();
    ++(why == flight_errc::timed_out ? stats_.timed_out : stats_.cancelled);
    unlock();
    return why;
  }

  bool try_take(count n) {
    if (take_fast(n)) return true;
    lock_served();
    const bool there = !closed_ && queue_.empty() && n <= available_;
    if (there) available_ -= n;
    unlock();
    return there;
  }

  /// For one wait that names `executor`: to be released after it.
  permit_batch* make_batch(const any_executor& executor) {
    permit_batch* const made = permit_batch::make(*this, executor);
    lock();
    made->enlist_locked(more_batches_);
    unlock();
    return made;
  }
  /// A coroutine is about to suspend. False: it should go on at once.
  bool enrol(permit_waiter& w, permit_batch& batch, bool always) {
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

  /// A limit has struck: if it comes before the grant, `w` leaves the queue with that verdict.
  void give_up(permit_waiter& w, wait_verdict why) {
    change([&](aftermath& after) {
      if (w.is_settled.load(memory_order_relaxed) &&
          platform::holds(rule::cancel_yields_to_grant)) {
        return;
      }
      if (w.verdict.load(memory_order_relaxed) != wait_verdict::outcome) return;
      ++(why == wait_verdict::timed_out ? stats_.timed_out : stats_.cancelled);
      w.verdict.store(why, memory_order_relaxed);
      take_out_locked(w);
      if (w.state == wait_state::pending) w.batch->make_ready_locked(w, after.runners);
    });
  }

  /// A thread is about to sleep. False: `w` is over.
  bool fall_asleep(permit_waiter& w, sleeper& thread) {
    lock_served();
    w.require_idle_locked();
    const bool waits = !w.over_locked();
    if (waits) w.thread = &thread;
    unlock();
    return waits;
  }

  /// The coroutine of `w` will not be resumed any more.
  void leave_batch(permit_waiter& w) noexcept {
    lock();
    w.leave_batch_locked();
    unlock();
  }

  /// The handle of `w` goes, unused: it leaves the queue, or returns what it was granted.
  void drop(permit_waiter& w) {
    change([&](aftermath&) {
      w.leave_batch_locked();
      if (w.queued) {
        take_out_locked(w);
      } else if (w.granted_locked() && platform::holds(rule::dropped_grant_returns)) {
        available_ += w.weight;
      }
    });
  }

  void resize(count capacity) {
    check_capacity(capacity);
    change([&](aftermath&) {
      available_ += capacity - capacity_;
      if (capacity < capacity_ && platform::holds(rule::resize_refuses_the_heavy)) {
        sweep_at_ = queue_.first();
      } else if (!platform::holds(rule::sweep_outlasts_resize)) {
        sweep_at_ = nullptr;
      }
      capacity_ = capacity;
    });
  }
  void close() {
    change([&](aftermath&) { closed_ = true; });
  }

  /// Whether everything has come back. Acquires what the last holder did.
  bool is_whole() noexcept {
    lock();
    const bool whole = available_ == capacity_;
    unlock();
    return whole;
  }

  // ---- looking ----------------------------------------------------------------------------------

  count available() const noexcept { return available_in(word_.load(memory_order_relaxed)); }
  std::size_t waiters() const noexcept { return waiters_.load(memory_order_relaxed); }
  count capacity() noexcept {
    lock();
    const count now = capacity_;
    unlock();
    return now;
  }
  semaphore_stats stats() noexcept {
    lock();
    const semaphore_stats now = stats_;
    unlock();
    return now;
  }

  // ---- as the owner of batches ------------------------------------------------------------------

  using waiters_lock = owner_lock<semaphore_core>;
  void lock() noexcept { available_ = available_in(lock_bit::lock(word_)); }
  void unlock() noexcept {
    lock_bit::unlock(word_, word_of(available_) | (queue_.empty() && !closed_ ? 0 : slow));
  }
  static constexpr bool pending_is_ready_locked() noexcept { return false; }
  /// What it was granted comes back: in the child nobody will use it.
  void strand_locked(waiter& w) noexcept {
    auto& one = static_cast<permit_waiter&>(w);
    if (!one.granted_locked() || !platform::holds(rule::stranded_grant_returns)) return;
    available_ += one.weight;
    one.refused = flight_errc::broken;
  }
  void add_reference() noexcept { references_.fetch_add(1, memory_order_relaxed); }
  void drop_reference() noexcept {
    // The release orders this owner's uses before the delete by the last one (acquire).
    if (references_.fetch_sub(1, memory_order_acq_rel) == 1) delete this;
  }

  static void check_weight(count n) {
    if (n < 1) [[unlikely]] {
      throw std::invalid_argument("semaphore: a weight of " + std::to_string(n) +
                                  " makes no sense; it must be at least 1");
    }
  }

  timer& clock;

 private:
  using lock_bit = bit_lock<std::uint64_t, 1>;
  static constexpr std::uint64_t locked = 1;
  static constexpr std::uint64_t slow = 2;
  static std::uint64_t word_of(count n) noexcept { return static_cast<std::uint64_t>(n) << 2; }
  static count available_in(std::uint64_t word) noexcept {
    return static_cast<count>(static_cast<std::int64_t>(word) >> 2);
  }
  static count check_capacity(count n) {
    if (n < 1 || n > most) {
      throw std::invalid_argument("semaphore: a capacity of " + std::to_string(n) +
                                  " makes no sense; it must be at least 1 (and at most 2^" +
                                  std::to_string(most_bits) + ")");
    }
    return n;
  }

  /// What is done after the lock: threads first, then coroutines. How many are told, and looked at,
  /// is bounded, so that the lock is never held for long; the rest is for the next round.
  struct aftermath {
    static constexpr std::size_t most_told = platform::tuned(std::size_t{32}, std::size_t{1});
    static constexpr std::size_t most_looked_at = 32 * most_told;
    std::array<sleeper::name, most_told> threads;
    std::size_t thread_count = 0;
    std::size_t told = 0;
    std::size_t looked_at = 0;
    permit_batch::runner* runners = nullptr;
    bool room() const noexcept { return told < most_told && looked_at < most_looked_at; }
  };

  /// One change under the lock, and what follows from it for those who queue.
  template <class Step>
  void change(Step step) {
    const call_scope scope;
    bool again = false;
    lock();
    aftermath first;
    step(first);
    for (aftermath after = first;; after = {}) {
      if (platform::holds(rule::change_serves_queue)) serve_locked(after);
      // Those left over may be served by somebody else, and be the last users of all this.
      const bool held = std::exchange(again, !after.room());
      if (again && !held && platform::holds(rule::server_holds_reference)) add_reference();
      unlock();
      for (std::size_t i = 0; i < after.thread_count; ++i) sleeper::wake(after.threads[i]);
      permit_batch::submit(after.runners);
      if (!again) {
        if (held && platform::holds(rule::server_holds_reference)) drop_reference();
        return;
      }
      lock();
    }
  }

  /// Takes the lock, once those are served whom a fork has left unserved.
  void lock_served() {
    lock();
    while (unserved_) [[unlikely]] {
      unserved_ = false;
      unlock();
      change([](aftermath&) {});
      lock();
    }
  }

  /// Settles those who need not queue any longer, from the front, as many as there is room for.
  void serve_locked(aftermath& after) noexcept {
    while (sweep_at_ != nullptr && after.room()) {
      ++after.looked_at;
      auto& one = static_cast<permit_waiter&>(*std::exchange(sweep_at_, sweep_at_->next));
      if (one.weight <= capacity_) continue;
      ++stats_.rejected;
      settle_locked(one, flight_errc::rejected, after);
    }
    while (after.room() && !queue_.empty()) {
      auto& front = static_cast<permit_waiter&>(*queue_.first());
      if (closed_ && platform::holds(rule::close_tells_the_queue)) {
        ++stats_.closed;
        settle_locked(front, flight_errc::closed, after);
      } else if (front.weight <= available_) {
        available_ -= front.weight;
        settle_locked(front, {}, after);
      } else {
        return;
      }
    }
  }

  SINGLEFLIGHT_INLINE void settle_locked(permit_waiter& w, flight_errc refused,
                                         aftermath& after) noexcept {
    take_out_locked(w);
    w.refused = refused;
    ++after.told;
    if (w.thread != nullptr) {
      w.is_settled.store(true, memory_order_relaxed);
      after.threads[after.thread_count++] = w.thread->tell();  // it may be gone now
      return;
    }
    if (w.state == wait_state::pending) w.batch->make_ready_locked(w, after.runners);
    // If it does not wait yet, it may be gone after this.
    w.is_settled.store(true, platform::order(rule::settle_releases, memory_order_release));
  }

  void take_out_locked(permit_waiter& w) noexcept {
    if (!w.queued) return;
    if (sweep_at_ == &w) sweep_at_ = w.next;
    queue_.remove(w);
    w.queued = false;
    count_waiters_locked(-1);
  }
  void refuse_locked(permit_waiter& w, flight_errc why) noexcept {
    ++(why == flight_errc::closed ? stats_.closed : stats_.overloaded);
    w.refused = why;
    w.is_settled.store(true, memory_order_relaxed);
  }
  void add_handle() noexcept {
    if (platform::holds(rule::handles_hold_reference)) add_reference();
  }
  // ---- fork: threads that queue are not there in a child. What is held stays held; what was
  // granted to a coroutine that is resumed in the parent alone is not. Nobody is resumed here, so
  // those who stood behind are served by the next call --------------------------------------------

  SINGLEFLIGHT_COLD void hold() noexcept override { lock(); }
  SINGLEFLIGHT_COLD void release() noexcept override { unlock(); }
  SINGLEFLIGHT_COLD void mend() noexcept override {
    for (waiter* w = queue_.first(); w != nullptr;) {
      waiter* const next = w->next;
      auto& one = static_cast<permit_waiter&>(*w);
      if (one.thread != nullptr || one.blocks) take_out_locked(one);
      w = next;
    }
    unserved_ = !queue_.empty();
    home.mend_locked(false);
    for (permit_batch* b = more_batches_; b != nullptr; b = b->next) b->mend_locked(false);
  }

  void count_waiters_locked(std::ptrdiff_t n) noexcept {
    waiters_.store(waiters_.load(memory_order_relaxed) + static_cast<std::size_t>(n),
                   memory_order_relaxed);
  }

  atomic<std::uint64_t> word_;
  atomic<std::uint32_t> references_{1};
  atomic<std::size_t> waiters_{0};  // written under the lock
  // Guarded by the lock:
  count available_ = 0;  // while it is held
  count capacity_;
  waiter_list queue_;
  semaphore_stats stats_;
  bool closed_ = false;
  bool unserved_ = false;                 // in a child of fork: nobody has looked at the queue yet
  waiter* sweep_at_ = nullptr;            // from here on some may ask for more than the capacity
  permit_batch* more_batches_ = nullptr;  // of waits that name an executor
  const std::size_t max_waiters_;

 public:
  permit_batch home;  ///< those who name no executor
};

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE
