// SPDX-License-Identifier: Apache-2.0
#pragma once

// flight_block: what the callers of one flight share: its state, its outcome, and those who wait.
//
// A flight that nobody joins has none. The first joiner attaches one to the leader's node; start()
// makes one from birth. Joiners and handles know only the block.
//
// I5  `counts` holds references (low half) and interest (high half). It grows only under the bucket
//     lock (a join) or by one who holds a reference; interest reaches 0 only under both locks. A
//     leader's interest ends, and `leader_left` is set, in one section of the bucket lock.
// I6  While phase != done, the block's node, or that of the flight it waits behind, is in the
//     table; so the group is alive for whoever holds the block's lock and sees phase != done.
// I7  phase becomes done once, under the block's lock, in the same critical section in which the
//     flight has been taken out of the keys that can be found, and after that. Its release (in
//     `state`) pairs with every acquire load of `state` that sees done: the load happens-before
//     (P7).
// I8  A waiter is in at most one list; lists change under the block's lock, and those of batches
//     after done under one of done_locks. After done, `blocked` and `timed` are dead: nobody looks
//     at them again, so woken threads need not leave them.
// I9  A load that ends within the start() that made its block, and whose fast leave succeeds, was
//     found by nobody: a join would have made the bucket slow. The block is that thread's alone
//     until start() returns the handle, so there I5 and I7 hold without lock and without atomics.
//
// Lock order: block lock, then bucket lock. No user code under either.

#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <new>
#include <optional>
#include <utility>
#include <variant>

#include "singleflight/core/errors.hpp"
#include "singleflight/core/executor.hpp"
#include "singleflight/core/support/bit_lock.hpp"
#include "singleflight/core/support/conversion.hpp"
#include "singleflight/core/support/fork.hpp"
#include "singleflight/core/support/stop_token.hpp"
#include "singleflight/core/support/waiter.hpp"
#include "singleflight/core/timer.hpp"
#include "singleflight/flight/detail/flight_table.hpp"
#include "singleflight/flight/detail/kept_loads.hpp"
#include "singleflight/flight/detail/rules.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

class flight_core;
struct load_base;

/// What guards the waiters of flights that are done. A flight that is done is in no table, so
/// nobody could hold its own lock around a fork; these locks are few, and held (V4). Which one: by
/// the block's place in memory.
class SINGLEFLIGHT_SHARED_STATE done_locks final : fork_member {
 public:
  static done_locks& instance() noexcept {
    static platform::never_destroyed<done_locks> one;
    return one.get();
  }
  done_locks() noexcept : fork_member(rank::last) { enter_forks(); }

  word_lock& of(const void* block) noexcept {
    return locks_[(reinterpret_cast<std::uintptr_t>(block) * 0x9e3779b97f4a7c15U >> 20) % count]
        .lock;
  }

 private:
  static constexpr std::size_t count = platform::tuned(64, 1);
  struct alignas(64) padded {
    word_lock lock;
  };

  SINGLEFLIGHT_COLD void hold() noexcept override {
    for (padded& one : locks_) one.lock.lock();
  }
  SINGLEFLIGHT_COLD void release() noexcept override {
    for (padded& one : locks_) one.lock.unlock();
  }
  padded locks_[count];
};
inline const platform::made_at_load<&done_locks::instance> done_locks_at_load;

// ---- the block ----------------------------------------------------------------------------------

enum class flight_phase : std::uint32_t {
  running = 0,  ///< a load runs, or is queued
  waiting = 1,  ///< behind a predecessor
  vacant = 2,   ///< nobody leads; the next caller that can takes it
  done = 3,
  offered = 4,  ///< to an elected thread that has not begun its load and may still give it back
};

enum class flight_result : std::uint8_t { none, value, error, code };

/// The async waiters of one flight that resume on one executor.
using flight_batch = resume_batch<block_base>;

/// What a timer's thread leaves to one where user code may run, as the deadline of a caller
/// strikes, or that of the load; guarded by the block lock. Taken by its task, or by the first of
/// those callers that is resumed.
struct errands : task_node {
  explicit errands(block_base& of_block) noexcept;
  block_base& block;
  bool queued = false;           ///< with a reference on the block
  bool cut = false;              ///< queued in the parent of a child of fork
  bool expired = false;          ///< the load has timed out, and is to be told
  std::uint32_t references = 0;  ///< of flights that are over
  load_base* dropped = nullptr;  ///< a list
};

/// What a flight needs once a second party looks at it: those who wait, and what they agreed on.
/// All of it is guarded by the block lock, and made by the first who takes that: a load that ends
/// before anybody could find it never pays for it.
struct waiting_room {
  waiting_room(block_base& block, const any_executor& executor) noexcept;
  waiting_room(const waiting_room&) = delete;
  waiting_room& operator=(const waiting_room&) = delete;

  flight_batch batch;                       ///< the waiters without an executor of their own
  flight_batch* more_batches = nullptr;     ///< one per executor that a wait names
  waiter_list blocked;                      ///< threads that can lead
  waiter_list timed;                        ///< threads with a deadline that are not in `blocked`
  kept_loads kept;                          ///< owned loads that could lead
  std::stop_source stop{std::nostopstate};  ///< made when first asked for
  std::uint32_t bounded = 0;                ///< how many interested callers have a deadline
  std::uint32_t handed_over = 0;
  bool leader_cancelled = false;  ///< a run() leader's stop fired: gone, but it gets the outcome
  bool claimers = false;          ///< a thread waits that could run a queued load
  bool claimers_behind = false;   ///< the same, for the flight behind this one
  bool stop_wanted = false;
  std::optional<detail::errands> errands;  ///< made by the first deadline that leaves some
};

struct block_base : platform::allocated {
  static constexpr std::uint32_t phase_bits = 7;
  static constexpr std::uint32_t sleeping = 8;  ///< somebody sleeps on `state`
  static constexpr std::uint32_t locked = 16;   ///< the block lock
  static constexpr std::uint32_t without_room =
      32;                                     ///< nobody has taken it yet: there is no `room`
  static constexpr std::uint32_t epoch = 64;  ///< added to make sleepers look again
  static constexpr std::uint64_t one_reference = 1;
  static constexpr std::uint64_t one_interest = std::uint64_t{1} << 32;

  block_base(flight_core& group, const any_executor& on, timer& time, flight_phase phase) noexcept
      : state(static_cast<std::uint32_t>(phase) | without_room),
        core(&group),
        clock(&time),
        executor(on) {}
  block_base(const block_base&) = delete;
  block_base& operator=(const block_base&) = delete;
  virtual ~block_base();

  flight_phase phase(memory_order_t order = memory_order_acquire) const noexcept {
    return static_cast<flight_phase>(state.load(order) & phase_bits);
  }
  /// Its acquire pairs with the release of the end (I7).
  bool done() const noexcept {
    return phase(platform::order(rule::waiter_acquires, memory_order_acquire)) ==
           flight_phase::done;
  }
  /// Publication makes all who wait ready where they stand.
  bool pending_is_ready_locked() const noexcept {
    return phase(memory_order_relaxed) == flight_phase::done;
  }
  static void strand_locked(waiter&) noexcept {}
  std::uint32_t interest() const noexcept {
    return static_cast<std::uint32_t>(counts.load(memory_order_relaxed) >> 32);
  }

  void add_reference() noexcept { counts.fetch_add(one_reference, memory_order_relaxed); }
  void drop_reference() noexcept { drop_references(1); }
  void drop_references(std::uint32_t n) noexcept {
    // The last owner needs no read-modify-write: nobody else is left to race with it. Otherwise the
    // release orders this owner's uses before the delete by the last one.
    if ((counts.load(platform::order(rule::last_drop_acquires, memory_order_acquire)) &
         0xffffffffU) == n ||
        (counts.fetch_sub(
             n, platform::acquire_release(rule::last_drop_acquires, rule::drop_releases)) &
         0xffffffffU) == n) {
      delete this;
    }
  }

  // The block lock is a bit of `state`: whoever publishes has one store to make for both.
  void lock() noexcept {
    if ((bit_lock<std::uint32_t, locked>::lock(state) & without_room) != 0) create_waiting_room();
  }
  void unlock() noexcept { unlock(state.load(memory_order_relaxed)); }
  /// With `value` as the new state, in one store: each that may say done is a release (I7).
  void unlock(std::uint32_t value) noexcept {
    bit_lock<std::uint32_t, locked>::unlock(state, value & ~locked);
  }
  /// What guards the waiters and their batches: the block's lock until the flight is done, one of
  /// done_locks from then on. Its end is published under the former, and whoever finds it done has
  /// acquired that (I7): so each sees all that was done to them before.
  class waiters_lock {
   public:
    explicit waiters_lock(block_base& block) noexcept : block_(block) {}
    void lock() noexcept {
      if (after_ != nullptr) {  // it stays done
        after_->lock();
      } else if (block_.phase(memory_order_relaxed) == flight_phase::done || !lock_before()) {
        after_ = &block_.lock_done_waiters();
      }
    }
    void unlock() noexcept {
      if (after_ != nullptr) {
        after_->unlock();
      } else {
        block_.unlock();
      }
    }

   private:
    bool lock_before() noexcept {
      block_.lock();
      if (block_.phase(memory_order_relaxed) != flight_phase::done) return true;
      block_.unlock();
      return false;
    }

    block_base& block_;
    word_lock* after_ = nullptr;
  };
  SINGLEFLIGHT_NOINLINE word_lock& lock_done_waiters() noexcept {
    if ((state.load(memory_order_acquire) & without_room) != 0) {
      lock();
      unlock();
    }
    word_lock& one = done_locks::instance().of(this);
    one.lock();
    return one;
  }
  /// Under the lock, or by the only owner. The release is for who finds it furnished, and done.
  SINGLEFLIGHT_NOINLINE void create_waiting_room() noexcept {
    ::new (static_cast<void*>(&room)) waiting_room(*this, executor);
    state.store(state.load(memory_order_relaxed) & ~without_room, memory_order_release);
  }
  /// Under the lock: a new phase, and a new epoch, so that nobody falls asleep on the old one. The
  /// release pairs with acquire loads of `state` without the lock.
  void set_phase_locked(flight_phase to) noexcept {
    const std::uint32_t now = state.load(memory_order_relaxed);
    state.store(((now + (platform::holds(rule::phase_moves_epoch) ? epoch : 0)) & ~phase_bits) |
                    static_cast<std::uint32_t>(to),
                platform::order(rule::end_releases, memory_order_release));
  }
  void set_done_and_unlock() noexcept {
    const std::uint32_t now = state.load(memory_order_relaxed);
    state.store(
        ((now + epoch) & ~(phase_bits | locked)) | static_cast<std::uint32_t>(flight_phase::done),
        platform::order(rule::end_releases, memory_order_release));
  }
  bool has_waiting_room() const noexcept {
    return (state.load(memory_order_relaxed) & without_room) == 0;
  }
  bool has_sleepers_locked() const noexcept {
    return (state.load(memory_order_relaxed) & sleeping) != 0;
  }
  /// The channel of a thread that can be told apart.
  static std::uint32_t channel_of(const waiter& w) noexcept {
    return std::uint32_t{4} << ((reinterpret_cast<std::uintptr_t>(&w) >> 6) % 29);
  }
  static constexpr std::uint32_t common_channel = 1;
  static constexpr std::uint32_t claimer_channel = 2;
  /// Makes the sleepers of `channel` look again.
  void wake(std::uint32_t channel) noexcept {
    lock();
    const bool asleep = has_sleepers_locked();
    unlock(state.load(memory_order_relaxed) + epoch);
    if (asleep) platform::wake(state, all_sleepers, channel);
  }
  /// A load that this flight waits for was queued: makes those look again who could run it.
  void wake_claimers() noexcept {
    lock();
    const bool any = room.claimers;
    unlock();
    if (any && platform::holds(rule::claimers_are_notified)) wake(claimer_channel);
  }
  static constexpr int all_sleepers = 0x7fffffff;

  atomic<std::uint64_t> counts{0};
  atomic<std::uint32_t> state;
  const std::uint32_t generation = fork_list::generation;  ///< in which it was made

  flight_core* const core;  ///< alive while phase != done (I6)
  timer* const clock;
  /// Set before the block is shared; changed under both locks. Null again: lost in a fork.
  flight_node* node = nullptr;
  flight_node* own_node = nullptr;   ///< of a block with a key of its own
  std::uint64_t id;                  ///< set with `node`
  block_base* next_promoted;         ///< within forget_all
  block_base* next_shut;             ///< within close
  atomic<std::uint64_t> behind{0};   ///< the id of what it waits behind: a flight, or a place
  atomic<std::uint32_t> lenders{0};  ///< callers inside that can lead, now or when they get here
  atomic<std::uint32_t> absent{0};  ///< those of them that wait for another key of their call first

  const any_executor executor;  ///< the group's: for its loads, and for waits that name none

  // Guarded by the block lock from here on; the outcome is constant once the flight is done.
  std::uint32_t callers = 0;        ///< at publication
  atomic<bool> leader_left{false};  ///< its interest has ended, it may still run its load
  bool run_leads = true;            ///< led by a run(), which gets its own outcome
  flight_result result = flight_result::none;
  flight_errc code{};        ///< result == code; else that of `error`, where it has one
  std::exception_ptr error;  ///< result == error; the last failure before a hand-over
  bool error_given = false;  ///< the run() leader that failed so has had it, and was not the end
  atomic<std::uint32_t> detached{0};  ///< joiners that wait for nothing, and whose interest stays
  load_base* load = nullptr;          ///< the owned load that leads
  union {
    waiting_room room;  ///< there unless `without_room`
  };

  struct timeout_alarm : timer_node {
    explicit timeout_alarm(block_base& b) noexcept : timer_node(&fire_timeout), block(&b) {}
    block_base* const block;
    bool armed = false;  ///< by the load's own thread of control
  };
  std::unique_ptr<timeout_alarm> alarm;  ///< load_timeout

 private:
  static void fire_timeout(timer_node& node) noexcept;
};

/// The block with room for the value.
template <class V>
struct flight_block : block_base {
  using stored = std::conditional_t<std::is_void_v<V>, std::monostate, V>;
  flight_block(flight_core& group, const any_executor& on, timer& time, flight_phase phase) noexcept
      : block_base(group, on, time, phase) {}
  ~flight_block() override {
    if (constructed) value.~stored();
  }
  template <class... Args>
  void construct(Args&&... args) {
    detail::construct_of<stored>(std::addressof(value), std::forward<Args>(args)...);
    constructed = true;
  }
  /// make(void* at) constructs the value.
  template <class Make>
  void construct_by(const Make& make) {
    make(std::addressof(value));
    constructed = true;
  }

  union {
    stored value;
  };
  bool constructed = false;  ///< written by the completer before done
};

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE
