// SPDX-License-Identifier: Apache-2.0
#pragma once

// flight_block: the state that the callers of one flight share: its counts, waiters and outcome.
//
// A flight that is never joined has no block. The first joiner attaches one to the leader's node;
// start() makes one with the flight. A joiner or a handle holds a reference on the block, never a
// pointer to the node.
//
// Who may use a block: a thread that owns a reference. It takes one under the lock of the bucket
// whose node names the block, or gets it from another owner. An owner uses `counts` and `state` as
// atomics, the outcome freely once it has read `done` (I7), and all else under the block's lock.
//
// I5  `counts` contains references (low half) and interest (high half). It is increased only under
//     the bucket lock (a join) or by the owner of a reference; interest reaches 0 only under both
//     locks. A leader's interest ends, and `leader_left` is set, in one critical section of the
//     bucket lock.
// I6  While phase != done, the block's node, or that of the flight it waits behind, is in the
//     table. So the group is alive for a thread that holds the block lock and reads phase != done.
// I7  phase becomes done once, under the block's lock, when the flight can no longer be found by
//     its key: in the critical section of the bucket in which it leaves the table (E1), or, where
//     expire() has forgotten it or close() has detached it from the flight ahead, after that. Its
//     release (in `state`) pairs with every acquire load of `state` that reads done: the load
//     happens-before (P7).
// I8  A waiter is in at most one list. Lists change under the block's lock; after done, those of
//     batches change under one of done_locks. After done, `blocked` and `timed` are never read
//     again, so woken threads need not remove themselves.
// I9  If a load ends within the start() that made its block, and its fast leave succeeds, no other
//     thread has found the flight: a join would have made the bucket slow. That thread alone owns
//     the block until start() returns the handle, so I5 and I7 hold there without a lock or
//     atomics.
//
// Lock order: block lock, then bucket lock. Under the latter, keys are compared and copied.

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
#include "singleflight/core/support/resume_batch.hpp"
#include "singleflight/core/support/stop_token.hpp"
#include "singleflight/core/timer.hpp"
#include "singleflight/flight/detail/flight_table.hpp"
#include "singleflight/flight/detail/kept_loads.hpp"
#include "singleflight/flight/detail/rules.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

class flight_core;
struct load_base;

/// The locks that guard the waiters of flights that are done; a block's address selects its lock. A
/// flight that is done need not be in a table, so a fork may be unable to find and hold its own
/// lock; it holds these few (V4).
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
  vacant = 2,   ///< it has no leader; the next caller that can lead becomes it
  done = 3,
  offered = 4,  ///< to an elected thread that has not begun its load and may still refuse
};

enum class flight_result : std::uint8_t { none, value, error, code };

/// The async waiters of one flight that resume on one executor.
using flight_batch = resume_batch<block_base>;

/// The work that a timer's thread defers to a thread where user code may run, when the deadline of
/// a caller or of the load expires; guarded by the block lock. It is done by its task, or before
/// that by a caller whose deadline has expired and that is resumed.
struct errands : task_node {
  explicit errands(block_base& of_block) noexcept;
  block_base& block;
  bool queued = false;           ///< with a reference on the block
  bool cut = false;              ///< it was queued in the parent of this child of fork
  bool expired = false;          ///< the load has timed out, and must be asked to stop
  std::uint32_t references = 0;  ///< on the block, of flights that have ended; to be dropped
  load_base* dropped = nullptr;  ///< a list of loads to be released
};

/// The state that a flight needs once a second thread uses it: its waiters, kept loads and stop
/// source. It is guarded by the block lock, and created by the first thread that takes that lock: a
/// load that ends before it could be found never pays for it.
struct waiting_room {
  waiting_room(block_base& block, const any_executor& executor) noexcept;
  waiting_room(const waiting_room&) = delete;
  waiting_room& operator=(const waiting_room&) = delete;

  flight_batch batch;                       ///< the waiters without an executor of their own
  flight_batch* more_batches = nullptr;     ///< one per executor that a wait names
  waiter_list blocked;                      ///< threads that can lead
  waiter_list timed;                        ///< threads with a deadline that are not in `blocked`
  kept_loads kept;                          ///< owned loads that could lead
  std::stop_source stop{std::nostopstate};  ///< created when a load first gets a token
  std::uint32_t bounded = 0;                ///< how many interested callers have a deadline
  std::uint32_t handed_over = 0;
  bool leader_cancelled = false;  ///< a run() leader's stop fired; it still gets the outcome
  bool claimers = false;          ///< a thread that could run a queued load waits
  bool claimers_behind = false;   ///< such a thread waits for the flight behind this one
  bool stop_wanted = false;
  std::optional<detail::errands> errands;  ///< created by the first deadline that defers work
};

struct block_base : platform::allocated {
  static constexpr std::uint32_t phase_bits = 7;
  static constexpr std::uint32_t sleeping = 8;       ///< a thread sleeps on `state`
  static constexpr std::uint32_t locked = 16;        ///< the block lock
  static constexpr std::uint32_t without_room = 32;  ///< the lock was not taken yet: no `room`
  static constexpr std::uint32_t epoch = 64;         ///< added to make sleepers check again
  static constexpr std::uint64_t one_reference = 1;
  static constexpr std::uint64_t one_interest = std::uint64_t{1} << 32;

  block_base(flight_core& group, const any_executor& on, timer& time, flight_phase phase) noexcept
      : state(static_cast<std::uint32_t>(phase) | without_room),
        core(&group),
        clock(&time),
        executor(on) {}
  block_base(const block_base&) = delete;
  block_base& operator=(const block_base&) = delete;
  SINGLEFLIGHT_BODY virtual ~block_base();
  /// Returns where the value lies, or will lie once it is `constructed`.
  virtual void* value_place() noexcept = 0;

  /// make(void* at) constructs the value.
  template <class Make>
  void construct_by(const Make& make) {
    make(value_place());
    constructed = true;
  }
  /// Makes a block with a key of its own use its own node; called before the block is shared.
  void use_own_node() noexcept {
    node = own_node;
    id = own_node->id;
    own_node->block.store(this, memory_order_relaxed);
  }

  flight_phase phase(memory_order_t order = memory_order_acquire) const noexcept {
    return static_cast<flight_phase>(state.load(order) & phase_bits);
  }
  /// The acquire pairs with the release that publishes done (I7).
  bool done() const noexcept {
    return phase(platform::order(rule::waiter_acquires, memory_order_acquire)) ==
           flight_phase::done;
  }
  /// Publication makes all pending waiters ready without moving them.
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
    // The last owner needs no read-modify-write, since no other owner can race with it. Otherwise
    // the release orders this owner's uses before the delete by the last one.
    if ((counts.load(platform::order(rule::last_drop_acquires, memory_order_acquire)) &
         0xffffffffU) == n ||
        (counts.fetch_sub(
             n, platform::acquire_release(rule::last_drop_acquires, rule::drop_releases)) &
         0xffffffffU) == n) {
      delete this;
    }
  }

  // The block lock is a bit of `state`, so one store both publishes and unlocks.
  void lock() noexcept {
    if ((bit_lock<std::uint32_t, locked>::lock(state) & without_room) != 0) create_waiting_room();
  }
  void unlock() noexcept { unlock(state.load(memory_order_relaxed)); }
  /// Unlocks and sets the state to `value` in one store: a release, since it may publish done (I7).
  void unlock(std::uint32_t value) noexcept {
    bit_lock<std::uint32_t, locked>::unlock(state, value & ~locked);
  }
  /// The lock that guards the waiters and their batches: the block's lock until the flight is done,
  /// one of done_locks from then on. Done is published under the former, and a thread that reads
  /// done has acquired it (I7), so each holder sees all earlier changes of the lists.
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
  /// Called under the lock, or by the only owner. The release is for a thread that finds `room`
  /// without the lock, once the flight is done.
  SINGLEFLIGHT_NOINLINE void create_waiting_room() noexcept {
    ::new (static_cast<void*>(&room)) waiting_room(*this, executor);
    state.store(state.load(memory_order_relaxed) & ~without_room, memory_order_release);
  }
  /// Called under the lock: sets the phase and a new epoch, so that no thread falls asleep on the
  /// old one. The release pairs with acquire loads of `state` without the lock.
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
  /// The channel of a thread that must be woken individually.
  static std::uint32_t channel_of(const waiter& w) noexcept {
    return std::uint32_t{4} << ((reinterpret_cast<std::uintptr_t>(&w) >> 6) % 29);
  }
  static constexpr std::uint32_t common_channel = 1;
  static constexpr std::uint32_t claimer_channel = 2;
  /// Wakes the sleepers of `channel`, which check the state again.
  void wake(std::uint32_t channel) noexcept {
    lock();
    const bool asleep = has_sleepers_locked();
    unlock(state.load(memory_order_relaxed) + epoch);
    if (asleep) platform::wake(state, all_sleepers, channel);
  }
  /// A load that this flight waits for was queued: wakes the threads that could run it.
  void wake_claimers() noexcept {
    lock();
    const bool any = room.claimers;
    unlock();
    if (any && platform::holds(rule::claimers_are_notified)) wake(claimer_channel);
  }
  static constexpr int all_sleepers = 0x7fffffff;

  atomic<std::uint64_t> counts{0};  ///< I5
  atomic<std::uint32_t> state;
  const std::uint32_t generation = fork_list::generation;  ///< of the process that made it

  flight_core* const core;  ///< alive while phase != done (I6)
  timer* const clock;
  /// Set before the block is shared; changed under both locks. Null again in a child of fork that
  /// has lost the flight.
  flight_node* node = nullptr;
  flight_node* own_node = nullptr;  ///< of a block with a key of its own
  std::uint64_t id;                 ///< set with `node`
  block_base* next_promoted;        ///< within forget_all
  block_base* next_shut;            ///< within close
  atomic<std::uint64_t> behind{0};  ///< the id of what it waits behind: a flight, or a place
  /// Callers that can lead, now or once they wait here. Incremented under either lock, decremented
  /// under the block lock.
  atomic<std::uint32_t> lenders{0};
  /// Lenders that first wait for another key of their call. Incremented under the bucket lock,
  /// decremented under the block lock, or by a caller that leaves without having waited here.
  atomic<std::uint32_t> absent{0};

  const any_executor executor;  ///< the group's: for its loads, and for waits that name none

  // Guarded by the block lock from here to `room`, except for `leader_left` and `detached`; the
  // outcome is constant once the flight is done.
  std::uint32_t callers = 0;  ///< at publication
  /// Its interest has ended; it may still run its load. Set under the bucket lock (I5), under
  /// which is_full() reads it; cleared under the block lock alone when an elected caller leads: a
  /// join that still reads it as set takes that leader for a waiter, and never admits one too many.
  atomic<bool> leader_left{false};
  bool run_leads = true;  ///< led by a run(), which gets its own outcome
  flight_result result = flight_result::none;
  flight_errc code{};        ///< if result == code; else the code of `error`, if it has one
  std::exception_ptr error;  ///< if result == error; the last failure before a hand-over
  bool error_given = false;  ///< a run() leader returned `error`, and the flight was handed over
  bool constructed = false;  ///< the value is; written before done is published
  /// Joiners that wait no more, and whose interest remains; incremented under no lock.
  atomic<std::uint32_t> detached{0};
  load_base* load = nullptr;  ///< the owned load that leads
  union {
    waiting_room room;  ///< constructed unless `without_room`
  };

  struct timeout_alarm : timer_node {
    explicit timeout_alarm(block_base& b) noexcept : timer_node(&fire_timeout), block(&b) {}
    block_base* const block;
    bool armed = false;  ///< changed by the load's own thread of control only
  };
  std::unique_ptr<timeout_alarm> alarm;  ///< load_timeout; the load's own thread of control uses it

 private:
  static void fire_timeout(timer_node& node) noexcept;
};

/// A block that also holds the value.
template <class V>
struct flight_block : block_base {
  using stored = std::conditional_t<std::is_void_v<V>, std::monostate, V>;
  flight_block(flight_core& group, const any_executor& on, timer& time, flight_phase phase) noexcept
      : block_base(group, on, time, phase) {}
  ~flight_block() override {
    if (constructed) value.~stored();
  }
  void* value_place() noexcept override { return std::addressof(value); }
  template <class... Args>
  void construct(Args&&... args) {
    detail::construct_of<stored>(std::addressof(value), std::forward<Args>(args)...);
    constructed = true;
  }

  union {
    stored value;
  };
};

/// The block of a handle whose flight is over without a value: one that was refused or cancelled.
struct ended_block final : block_base {
  SINGLEFLIGHT_BODY ended_block(flight_core& group, const any_executor& on, timer& time,
                                flight_errc why) noexcept;
  SINGLEFLIGHT_BODY void* value_place() noexcept override;
};

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE
