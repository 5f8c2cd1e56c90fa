// SPDX-License-Identifier: Apache-2.0
#pragma once

// semaphore_core: what the callers of one semaphore share: the available permits, and the queue of
// requests.
//
// S1  `word_` holds the lock (bit 0), `slow` (bit 1), and in the other bits the available permits;
//     these are negative after resize() below the number held. `slow` is set exactly while a
//     request is queued or the semaphore is closed.
// S2  Without the lock, permits are taken and returned by one compare-exchange that requires both
//     bits to be clear. So while a request is queued every call takes the lock, and none overtakes.
// S3  Only the front of the queue is served. While no thread holds the lock, the front asks for
//     more than is available, or a thread is between two rounds of change() and will serve the
//     rest. In a child of fork, the threads that queued ahead, or were between two rounds, do not
//     exist: `unserved_` is set, and the next call serves the queue before it does anything else.
// S4  A waiter is settled once, under the lock, in the critical section that takes it out of the
//     queue: granted, refused, or given up by its own limit. Whichever comes first holds.
// S5  References: the semaphore's, one for each handle, the runners', and one for each thread
//     between two rounds of change(). A permit has none: the semaphore outlives it, and the fast
//     release is the last touch of its holder.
//
// The release of a permit (compare-exchange, or the unlock's store) pairs with the acquire of the
// thread that takes it, on the fast path or at the lock: what was done under a permit
// happens-before what its next holder does under it.

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
  /// Some bits less than a count has, so that sums of permits are counts as well.
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

  /// Takes `n` if they are available and no request is queued.
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
    change([&](wake_list&) { available_ += n; });
  }

  // ---- through the lock -------------------------------------------------------------------------

  /// Settles `w` at once, or queues it; adds the reference of its handle while the semaphore cannot
  /// be destroyed, because `w` holds a permit or this thread holds the lock.
  void enter(permit_waiter& w);
  /// Counts a call that is refused before it has begun.
  flight_errc refuse(flight_errc why) noexcept;
  bool try_take(count n);

  /// Makes a batch for one wait that names `executor`; it must be released after that wait.
  permit_batch* make_batch(const any_executor& executor);
  /// Called when a coroutine is about to suspend. Returns false if it should resume at once.
  bool enrol(permit_waiter& w, permit_batch& batch, bool always);
  /// Called when a limit has expired: if that comes before the grant, `w` leaves the queue with
  /// that verdict.
  void give_up(permit_waiter& w, wait_verdict why);
  /// Called when a thread is about to sleep. Returns false if `w` is over.
  bool fall_asleep(permit_waiter& w, sleeper& thread);
  /// Called when the coroutine of `w` will not be resumed any more.
  void leave_batch(permit_waiter& w) noexcept;
  /// Called when the handle of `w` is destroyed unused: `w` leaves the queue, or returns what it
  /// was granted.
  void drop(permit_waiter& w);

  void resize(count capacity);
  void close();

  /// Returns whether all permits have been returned. Acquires what the last holder did.
  bool is_whole() noexcept {
    lock();
    const bool whole = available_ == capacity_;
    unlock();
    return whole;
  }

  // ---- statistics -------------------------------------------------------------------------------

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
  /// Returns what `w` was granted: in the child it will not be used.
  void strand_locked(waiter& w) noexcept {
    auto& request = static_cast<permit_waiter&>(w);
    if (!request.granted_locked() || !platform::holds(rule::stranded_grant_returns)) return;
    available_ += request.weight;
    request.refused = flight_errc::broken;
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

  /// What is woken after the unlock: threads first, then coroutines. How many are settled and
  /// looked at in one round is bounded, so that the lock is never held for long; the next round
  /// takes the rest.
  struct wake_list {
    static constexpr std::size_t most_settled = platform::tuned(std::size_t{32}, std::size_t{1});
    static constexpr std::size_t most_looked_at = 32 * most_settled;
    std::array<sleeper::name, most_settled> threads;
    std::size_t thread_count = 0;
    std::size_t settled = 0;
    std::size_t looked_at = 0;
    permit_batch::runner* runners = nullptr;
    bool has_room() const noexcept { return settled < most_settled && looked_at < most_looked_at; }
  };

  /// Makes one change under the lock, then serves the queue as far as the change allows.
  template <class Step>
  void change(Step step);

  /// Takes the lock, after serving the requests that a fork has left unserved.
  void lock_served();

  /// Settles the requests that need not queue any longer, from the front, as many as `wakes` has
  /// room for.
  void serve_locked(wake_list& wakes) noexcept;
  void settle_locked(permit_waiter& w, flight_errc refused, wake_list& wakes) noexcept;
  void dequeue_locked(permit_waiter& w) noexcept;
  void refuse_locked(permit_waiter& w, flight_errc why) noexcept;
  void add_handle() noexcept {
    if (platform::holds(rule::handles_hold_reference)) add_reference();
  }
  void count_waiters_locked(std::ptrdiff_t n) noexcept {
    waiters_.store(waiters_.load(memory_order_relaxed) + static_cast<std::size_t>(n),
                   memory_order_relaxed);
  }

  // ---- fork -------------------------------------------------------------------------------------

  SINGLEFLIGHT_COLD void hold() noexcept override { lock(); }
  SINGLEFLIGHT_COLD void release() noexcept override { unlock(); }
  SINGLEFLIGHT_BODY void repair() noexcept override;

  atomic<std::uint64_t> word_;
  atomic<std::uint32_t> references_{1};
  atomic<std::size_t> waiters_{0};  // written under the lock
  // Guarded by the lock:
  count available_ = 0;  // while it is held
  count capacity_;
  waiter_list queue_;
  semaphore_stats stats_;
  bool closed_ = false;
  bool unserved_ = false;       // in a child of fork: the queue has not been looked at yet
  waiter* sweep_at_ = nullptr;  // from here on requests may ask for more than the capacity
  permit_batch* more_batches_ = nullptr;  // of waits that name an executor
  const std::size_t max_waiters_;

 public:
  permit_batch home;  ///< of waits that name no executor
};

template <class Step>
void semaphore_core::change(Step step) {
  const call_scope scope;
  bool again = false;
  lock();
  wake_list first;
  step(first);
  for (wake_list wakes = first;; wakes = {}) {
    if (platform::holds(rule::change_serves_queue)) serve_locked(wakes);
    // Those left over may be served by another thread, and be the last owners of this object.
    const bool held = std::exchange(again, !wakes.has_room());
    if (again && !held && platform::holds(rule::server_holds_reference)) add_reference();
    unlock();
    for (std::size_t i = 0; i < wakes.thread_count; ++i) sleeper::wake(wakes.threads[i]);
    permit_batch::submit(wakes.runners);
    if (!again) {
      if (held && platform::holds(rule::server_holds_reference)) drop_reference();
      return;
    }
    lock();
  }
}

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE

#if !defined(SINGLEFLIGHT_COMPILED)
#include "singleflight/sync/impl/semaphore_core.hpp"
#endif
