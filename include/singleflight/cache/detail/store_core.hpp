// SPDX-License-Identifier: Apache-2.0
#pragma once

// store_core: the entries of a cache, without their keys and values: stored, evicted, expired and
// removed under one lock. entry_store adds the look-up by key.
//
// ES1 `lock_` guards the table's changes, the queues, the weight and the sweep's position. Of user
//     code, only the comparison of keys runs under it (it may throw, before any change); `forget`
//     of the group is called under it, whose bucket locks come after it. Removed entries are
//     collected in `removed_entries`; after the lock the listener is notified of them, and the
//     reclaimer gets them.
// ES2 One lock for all keys: hits do not wait for it, and a thread that takes it has just loaded a
//     value, or now and then moves a frequently used one. Shards would divide the capacity, and
//     with it the maximum weight of an entry.
// ES3 An entry that can be found is in the table and in a queue; it leaves both at once.
// ES4 The sum of the weights never wraps. An entry is admitted, and then others are evicted until
//     the sum is within the capacity; if the capacity is more than half of the maximum sum, and the
//     new entry would exceed that maximum, the others are evicted first.
// ES5 `stamp_` counts the entries that were added for a key that had none: raised under the lock,
//     with release, once the entry can be found. If a thread reads it, with acquire, and then does
//     not find a key, there is no entry for that key as long as the stamp stays the same.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <utility>

#include "singleflight/cache/cache_options.hpp"
#include "singleflight/cache/detail/deferred_end.hpp"
#include "singleflight/cache/detail/entry_table.hpp"
#include "singleflight/cache/detail/lifetimes.hpp"
#include "singleflight/cache/detail/rules.hpp"
#include "singleflight/cache/detail/s3_fifo.hpp"
#include "singleflight/core/support/fork.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

/// When removed entries are given to the reclaimer.
enum class reclaim_time : std::uint8_t {
  batched,  ///< once there are many
  now,      ///< in this call
  later,    ///< by a later flush()
};

/// The entries that were removed under the lock, by cause.
struct removed_entries {
  static constexpr std::size_t causes = 4;
  reclaimable* entries[causes]{};
  std::size_t counts[causes]{};
  std::size_t weight = 0;
  reclaimable* tables = nullptr;

  void add(entry_base& e, removal_cause cause, std::size_t weighs) noexcept;
};

/// The entries that clear has let go of, and the lines (or null) where they can still be found.
struct cleared_entries {
  s3_fifo::contents queues;
  entry_lines* lines;
};
/// What is left when a cache ends.
struct remaining_entries {
  s3_fifo::contents queues;
  entry_lines* lines = nullptr;
  reclaimable* waiting = nullptr;
  reclaimable::end end_of = nullptr;

  /// Gives all to the reclaimer; no search finds it any more.
  void free() noexcept;
};
/// Frees what a cache has left, also if it is dropped.
struct end_of_entries final : task_node, platform::allocated {
  end_of_entries() noexcept : task_node(&act_on) {}
  static void act_on(task_node* node, bool run) noexcept;
  remaining_entries left;
};

class store_core {
 public:
  /// What a cache knows of its entries. `listener` outlives the store.
  struct entry_steps {
    reclaimable::end (*end_of)(bool with_extras) noexcept;  ///< their destroy function
    /// Calls the cache's listener for a removed entry; null if there is none.
    void (*notify)(const void* listener, entry_base& e, removal_cause cause) noexcept;
    const void* listener;
    /// Frees what is left at the end; outlives the store.
    const std::optional<any_executor>* free_on;
  };

  /// `reserve`: for so many entries the table is made.
  store_core(std::size_t capacity, std::size_t reserve, bool weighed, const lifetimes& times,
             const entry_steps& steps);
  store_core(const store_core&) = delete;
  store_core& operator=(const store_core&) = delete;
  /// Requires that no call is in progress; handles may outlive it.
  ~store_core();

  bool has_extras() const noexcept { return extras_; }
  std::size_t capacity() const noexcept { return capacity_; }
  platform::mutex& lock() const noexcept { return lock_; }

  /// Must be read before a search (ES5). Never 0.
  std::uint64_t stamp() const noexcept { return stamp_.load(memory_order_acquire); }
  /// Returns whether a key that a search did not find after `seen` was read is certainly still
  /// missing. `seen` is 0 if there was no search.
  bool still_lacks(std::uint64_t seen) const noexcept { return seen != 0 && seen == stamp(); }
  /// Counts a hit on `e`, which the caller holds. The last hit that counts moves it to where a
  /// glance finds it, without waiting: if the lock is not free, the next hit tries again.
  void hit(entry_base& e) noexcept {
    if (e.touch()) [[unlikely]] {
      promote(e);
    }
  }

  // ---- under lock() -----------------------------------------------------------------------------

  /// Stores `fresh` in place of `old`, the present entry of its key, or null. Returns false if it
  /// is too heavy, or there is no memory for the table; `old` is removed all the same. If it is
  /// stored, the table has a reference of its own. `now` distinguishes a replaced entry from an
  /// expired one.
  bool store_locked(entry_base& fresh, entry_base* old, cache_ticks now,
                    removed_entries& removed) noexcept;
  /// Removes an entry that was replaced by an answer that is not stored.
  void remove_replaced_locked(entry_base& e, cache_ticks now, removed_entries& removed) noexcept {
    remove_locked(e, cause_of(e, now, removal_cause::replaced), removed);
  }
  void remove_locked(entry_base& e, removal_cause cause, removed_entries& removed) noexcept;
  /// Leaves no entries. The caller then calls dismiss().
  cleared_entries clear_locked() noexcept;
  bool holds_locked(const entry_base& e) const noexcept { return table_.holds_locked(e); }
  /// Removes expired entries, line by line; returns whether the end of the table was reached.
  bool sweep_locked(std::size_t lines, cache_ticks now, removed_entries& removed) noexcept;
  /// As long as it exists, visits meet all entries (entry_table::visit_locked).
  class pin {
   public:
    explicit pin(store_core& store) : store_(store) {
      const platform::unique_lock hold(store_.lock());
      store_.table_.pin_locked();
    }
    pin(const pin&) = delete;
    pin& operator=(const pin&) = delete;
    ~pin() {
      const platform::unique_lock hold(store_.lock());
      store_.table_.unpin_locked();
    }

   private:
    store_core& store_;
  };
  std::size_t size_locked() const noexcept { return table_.size(); }
  std::size_t weight_locked() const noexcept {
    return static_cast<std::size_t>(queues_.weight());  // no more than the capacity
  }

  // ---- after the lock ---------------------------------------------------------------------------

  /// Removes the entries that clear_locked() has let go of; takes a time that grows with them.
  void dismiss(cleared_entries& cleared, removed_entries& removed) noexcept;
  /// Notifies the listener, and gives the entries to the reclaimer.
  void finish(removed_entries& removed, reclaim_time when = reclaim_time::batched);
  /// Called when the cache ends: the listener is not notified of further removals.
  void end_notifications() noexcept { ending_.store(true, memory_order_relaxed); }
  /// Gives the reclaimer all that waits.
  void flush() noexcept;
  /// Called after a search found an entry that a glance did not find: if the table moves entries to
  /// another array, moves some, unless the lock is in use (entry_table, T8).
  void help() const noexcept {
    if (table_.is_moving()) [[unlikely]] {
      move_some();
    }
  }

 protected:
  entry_table& table() noexcept { return table_; }
  const entry_table& table() const noexcept { return table_; }

 private:
  void promote(entry_base& e) noexcept;
  void unlink_locked(entry_base& e, removal_cause cause, removed_entries& removed) noexcept;
  void evict_locked(cache_ticks now, removed_entries& removed) noexcept;
  bool sum_fits(entry_base& fresh, entry_base* old) const noexcept;
  removal_cause cause_of(entry_base& e, cache_ticks now, removal_cause otherwise) const noexcept;
  void leave(entry_base& e, removal_cause cause, removed_entries& removed) noexcept;
  void move_some() const noexcept;
  void push_waiting(reclaimable* list, reclaim_time when, std::size_t weight) noexcept;

  static std::size_t max_waiting_of(std::size_t capacity, bool weighed) noexcept;

  alignas(64) mutable platform::mutex lock_;
  s3_fifo queues_;
  entry_table::position swept_{};
  atomic<std::uint64_t> stamp_{1};
  atomic<reclaimable*> waiting_{nullptr};  // removed, the listener notified; to be reclaimed
  atomic<std::size_t> waiting_weight_{0};
  const fork_guard fork_{lock_, fork_member::rank::cache};

  // What each hit reads shares no line with what a store writes.
  alignas(64) const std::size_t capacity_;
  const bool extras_;
  atomic<bool> ending_{false};
  const std::size_t max_waiting_;
  const lifetimes& times_;
  const entry_steps steps_;
  mutable entry_table table_;  // a search may move entries
};

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE

#if !defined(SINGLEFLIGHT_COMPILED)
#include "singleflight/cache/impl/store_core.hpp"
#endif
