// SPDX-License-Identifier: Apache-2.0
#pragma once

// entry_store: the entries of a cache: found without a lock; stored, evicted and expired under one.
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

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <mutex>
#include <optional>
#include <utility>

#include "singleflight/cache/cache_options.hpp"
#include "singleflight/cache/detail/deferred_end.hpp"
#include "singleflight/cache/detail/entry_table.hpp"
#include "singleflight/cache/detail/lifetimes.hpp"
#include "singleflight/cache/detail/rules.hpp"
#include "singleflight/cache/detail/s3_fifo.hpp"
#include "singleflight/core/support/fork.hpp"
#include "singleflight/core/support/trampoline.hpp"
#include "singleflight/flight/detail/group_door.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

/// When removed entries are given to the reclaimer.
enum class reclaim_time : std::uint8_t {
  batched,  ///< once there are many
  now,      ///< in this call
  later,    ///< by a later flush()
};

template <class Key, class Value, class Access, class Equal>
class entry_store {
 public:
  using entry = detail::entry<Key, Value, Access>;
  using view = typename Access::view;

  /// The entries that were removed under the lock, by cause.
  struct removed_entries {
    static constexpr std::size_t causes = 4;
    reclaimable* entries[causes]{};
    std::size_t counts[causes]{};
    std::size_t weight = 0;
    reclaimable* tables = nullptr;

    void add(entry& e, removal_cause cause, std::size_t weighs) noexcept {
      const auto index = static_cast<std::size_t>(cause);
      e.next = entries[index];
      entries[index] = &e;
      ++counts[index];
      weight += std::min(weighs, std::numeric_limits<std::size_t>::max() - weight);
    }
  };

  entry_store(const cache_options<Key, Value>& options, const lifetimes& times, Equal equal)
      : capacity_(options.capacity),
        weighed_(static_cast<bool>(options.weigher)),
        extras_(weighed_ || times.need_extras()),
        max_waiting_(max_waiting_of(capacity_, weighed_)),
        times_(times),
        on_removal_(options.on_removal),
        equal_(std::move(equal)),
        table_(options.capacity),
        queues_(options.capacity, weight_of{extras_}) {
    make_shared_cache_state();
  }
  entry_store(const entry_store&) = delete;
  entry_store& operator=(const entry_store&) = delete;
  /// Requires that no call is in progress; handles may outlive it.
  ~entry_store() {
    removed_entries removed;
    queues_.clear([&](entry_base& e) {
      static_cast<entry&>(e).leave(extras_);
      removed.add(static_cast<entry&>(e), removal_cause::invalidated, 0);
    });
    append(waiting_.exchange(nullptr, memory_order_acquire), removed.entries[0]);
    hazard_domain::instance().reclaim(removed.entries[0]);
  }

  bool has_extras() const noexcept { return extras_; }
  std::size_t capacity() const noexcept { return capacity_; }
  platform::mutex& lock() const noexcept { return lock_; }

  struct found {
    entry_store::entry* entry = nullptr;
    hazard_hold hold{};
    explicit operator bool() const noexcept { return entry != nullptr; }
  };
  /// An entry, protected by a slot that no hold owns yet.
  struct glanced {
    entry_store::entry* entry = nullptr;
    hazard_slot* slot = nullptr;
  };
  /// Finds the entry for `key` for most hits. If it is null, find() has to search. May throw what
  /// the comparison throws.
  glanced glance(std::uint32_t hash, view key) const {
    hazard_record* const record = platform::per_thread<hazard_thread>().record;
    if (record == nullptr) [[unlikely]] {
      return {};
    }
    hazard_slot* const slot = record->free_handle();
    if (slot == nullptr) [[unlikely]] {
      return {};
    }
    return {static_cast<entry*>(table_.glance(hash, *record, *slot, same_as(key))), slot};
  }
  /// Returns the entry for `key`, fresh or not. May throw what the comparison throws.
  SINGLEFLIGHT_NOINLINE found find(std::uint32_t hash, view key) const {
    hazard_record* const record = this_hazard_record();
    if (hazard_slot* const slot = record == nullptr ? nullptr : record->free_handle()) {
      auto* const e = static_cast<entry*>(table_.find(hash, *record, *slot, same_as(key)));
      return e == nullptr ? found{} : found{e, hazard_hold(*e, slot)};
    }
    return find_without_slot(hash, key, record);
  }
  /// Like find(), but the entry is held by a count, for a caller that keeps it for long.
  found find_counted(std::uint32_t hash, view key) const {
    found f = find(hash, key);
    f.hold.count();
    return f;
  }

  /// Must be read before a search (ES5). Never 0.
  std::uint64_t stamp() const noexcept { return stamp_.load(memory_order_acquire); }
  /// Returns whether a key that a search did not find after `seen` was read is certainly still
  /// missing. `seen` is 0 if there was no search.
  bool still_lacks(std::uint64_t seen) const noexcept { return seen != 0 && seen == stamp(); }
  /// Counts a hit on `e`, which the caller holds. The last hit that counts moves it to where a
  /// glance finds it, without waiting: if the lock is not free, the next hit tries again.
  void hit(entry& e) noexcept {
    if (e.touch()) [[unlikely]] {
      promote(e);
    }
  }

  // ---- under lock() -----------------------------------------------------------------------------

  /// Stores `fresh` in place of `old`, the present entry of its key, or null. Returns false if it
  /// is too heavy, or there is no memory for the table; `old` is removed all the same. If it is
  /// stored, the table has a reference of its own. `now` distinguishes a replaced entry from an
  /// expired one.
  bool store_locked(entry& fresh, entry* old, cache_ticks now, removed_entries& removed) noexcept {
    const bool fits = weight_of{extras_}(fresh) <= capacity_;
    if (fits && !sum_fits(fresh, old)) [[unlikely]] {  // ES4
      if (old != nullptr) remove_replaced_locked(*old, now, removed);
      old = nullptr;
      while (!sum_fits(fresh, nullptr)) evict_locked(now, removed);
    }
    if (!fits || (old == nullptr && !table_.make_room_locked(removed.tables))) {
      if (old != nullptr) remove_replaced_locked(*old, now, removed);
      return false;
    }
    fresh.references.store(2, memory_order_relaxed);
    if (old != nullptr) {
      table_.replace_locked(*old, fresh);
      queues_.replace(*old, fresh);
      leave(*old, cause_of(*old, now, removal_cause::replaced), removed);
    } else {
      queues_.insert(fresh);
      table_.insert_locked(fresh);
      if (platform::holds(rule::newcomer_is_stamped)) {
        stamp_.store(stamp_.load(memory_order_relaxed) + 1, memory_order_release);
      }
    }
    while (queues_.over()) evict_locked(now, removed);
    return true;
  }
  entry* find_locked(std::uint32_t hash, view key) const {
    return static_cast<entry*>(table_.find_locked(hash, same_as(key)));
  }
  /// Removes an entry that was replaced by an answer that is not stored.
  void remove_replaced_locked(entry& e, cache_ticks now, removed_entries& removed) noexcept {
    remove_locked(e, cause_of(e, now, removal_cause::replaced), removed);
  }
  void remove_locked(entry& e, removal_cause cause, removed_entries& removed) noexcept {
    queues_.remove(e);
    table_.remove_locked(e);
    leave(e, cause, removed);
  }
  void clear_locked(removed_entries& removed) noexcept {
    queues_.clear(
        [&](entry_base& e) { leave(static_cast<entry&>(e), removal_cause::invalidated, removed); });
    table_.clear_locked(removed.tables);
  }
  /// Removes expired entries, line by line; returns whether the end of the table was reached.
  bool sweep_locked(std::size_t lines, cache_ticks now, removed_entries& removed) noexcept {
    const std::size_t from = sweep_line_;
    bool any = false;
    sweep_line_ = table_.visit_locked(from, lines, [&](entry_base& base) {
      auto& e = static_cast<entry&>(base);
      if (times_.freshness_of(e, now, extras_) == entry_freshness::expired) {
        remove_locked(e, removal_cause::expired, removed);
        any = true;
      }
    });
    if (any) table_.settle_locked(from, lines);
    return sweep_line_ == 0;
  }
  /// Calls visit(entry) for the entries of the next lines; returns the line to continue with, or 0.
  template <class Visit>
  std::size_t visit_locked(std::size_t from, std::size_t lines, Visit&& visit) {
    return table_.visit_locked(from, lines, [&](entry_base& e) { visit(static_cast<entry&>(e)); });
  }
  /// As long as it exists, entries stay in their lines unless the table grows: visits meet all.
  class pin {
   public:
    explicit pin(entry_store& store) : store_(store) {
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
    entry_store& store_;
  };
  std::size_t lines_locked() const noexcept { return table_.lines_locked(); }
  std::size_t size_locked() const noexcept { return table_.size(); }
  std::size_t weight_locked() const noexcept {
    return static_cast<std::size_t>(queues_.weight());  // no more than the capacity
  }

  // ---- after the lock ---------------------------------------------------------------------------

  /// Notifies the listener, and gives the entries to the reclaimer.
  template <class Count>
  void finish(removed_entries& removed, Count&& count, reclaim_time when = reclaim_time::batched) {
    // A table is large, and rare: it does not wait. Nor do light entries beyond a number.
    const std::size_t most = max_waiting_;
    std::size_t weight = removed.tables != nullptr ? most : std::min(removed.weight, most);
    std::size_t entries = 0;
    reclaimable* list = std::exchange(removed.tables, nullptr);
    for (std::size_t cause = 0; cause < removed_entries::causes; ++cause) {
      if (removed.entries[cause] == nullptr) continue;
      count(static_cast<removal_cause>(cause), removed.counts[cause]);
      entries += removed.counts[cause];
      if (on_removal_ && !ending_.load(memory_order_relaxed)) {
        for (reclaimable* one = removed.entries[cause]; one != nullptr; one = one->next) {
          auto& e = *static_cast<entry*>(static_cast<entry_base*>(one));
          notify_removal(e, static_cast<removal_cause>(cause));
        }
      }
      append(removed.entries[cause], list);
    }
    if (list == nullptr) {
      if (when == reclaim_time::now) flush();
      return;
    }
    push_waiting(list, when, std::max(weight, entries < 256 ? entries * (most / 256) : most));
  }
  /// Called when the cache ends: the listener is not notified of further removals.
  void end_notifications() noexcept { ending_.store(true, memory_order_relaxed); }
  /// Gives the reclaimer all that waits.
  void flush() noexcept {
    waiting_weight_.store(0, memory_order_relaxed);
    hazard_domain::instance().reclaim(
        waiting_.exchange(nullptr, platform::order(rule::removed_acquires, memory_order_acquire)));
  }

  auto same_as(view key) const noexcept {
    return [this, stored = Access::store(key)](const entry_base& e) {  // no copy of a key
      return equal_(static_cast<const entry&>(e).key(), Access::load(stored));
    };
  }

 private:
  SINGLEFLIGHT_COLD void promote(entry& e) noexcept {
    hazard_record* const record = this_hazard_record();
    if (record == nullptr || table_.glance_finds(e, *record)) return;
    const platform::unique_lock hold(lock_, std::try_to_lock);
    if (hold.owns_lock()) {
      table_.promote_locked(e);
    } else {
      e.set_hits(entry_base::max_hits - 1);
    }
  }
  void notify_removal(const entry& e, removal_cause cause) const noexcept {
    on_removal_(e.key(), e.kind() == entry_kind::value ? std::addressof(e.value) : nullptr, cause);
  }
  /// Returns how much may wait for the reclaimer's barrier, which reaches all threads and costs up
  /// to some microseconds: a part of the capacity.
  static std::size_t max_waiting_of(std::size_t capacity, bool weighed) noexcept {
    const std::size_t part =
        weighed
            ? capacity / 32
            : std::clamp<std::size_t>(capacity / 32, std::min<std::size_t>(16, capacity / 8), 256);
    return platform::tuned(std::max<std::size_t>(1, part), std::size_t{1});
  }

  struct weight_of {
    bool extras;
    std::size_t operator()(const entry_base& e) const noexcept {
      return extras ? static_cast<entry&>(const_cast<entry_base&>(e)).extras().weight : 1;
    }
  };

  /// Called if no slot is free for a handle; `record` is null at the thread's end.
  found find_without_slot(std::uint32_t hash, view key, hazard_record* record) const {
    entry_base* e = nullptr;
    if (record != nullptr) {
      e = table_.find(hash, *record, record->passing(), same_as(key));
      if (e == nullptr) return {};
      e->add_reference();  // H4
      release(record->passing());
    } else {
      platform::unique_lock hold(lock_);
      e = find_locked(hash, key);
      if (e == nullptr) return {};
      e->add_reference();
    }
    return {static_cast<entry*>(e), hazard_hold(*e, nullptr)};
  }

  void evict_locked(cache_ticks now, removed_entries& removed) noexcept {
    auto* const victim = static_cast<entry*>(queues_.evict());
    table_.remove_locked(*victim);
    leave(*victim, cause_of(*victim, now, removal_cause::evicted), removed);
  }
  /// Returns whether the sum of the weights fits (ES4) with `fresh` in place of `old`, which may be
  /// null.
  bool sum_fits(const entry& fresh, const entry* old) const noexcept {
    const weight_of weight{extras_};
    const std::uint64_t others = queues_.weight() - (old != nullptr ? weight(*old) : 0);
    return weight(fresh) <= std::numeric_limits<std::uint64_t>::max() - others;
  }
  removal_cause cause_of(entry& e, cache_ticks now, removal_cause otherwise) const noexcept {
    const entry_freshness state =
        times_.timed() ? times_.freshness_of(e, now, extras_) : entry_freshness::fresh;
    return state == entry_freshness::stale || state == entry_freshness::expired
               ? removal_cause::expired
               : otherwise;
  }
  void leave(entry& e, removal_cause cause, removed_entries& removed) noexcept {
    e.leave(extras_);
    removed.add(e, cause, weight_of{extras_}(e));
  }

  static void append(reclaimable* more, reclaimable*& list) noexcept {
    if (more == nullptr) return;
    reclaimable* last = more;
    while (last->next != nullptr) last = last->next;
    last->next = list;
    list = more;
  }
  void push_waiting(reclaimable* list, reclaim_time when, std::size_t weight) noexcept {
    reclaimable* last = list;
    while (last->next != nullptr) last = last->next;
    reclaimable* head = waiting_.load(memory_order_relaxed);
    do {
      last->next = head;
    } while (!waiting_.compare_exchange_strong(
        head, list, platform::order(rule::removed_releases, memory_order_release),
        memory_order_relaxed));
    const bool many =
        waiting_weight_.fetch_add(weight, memory_order_relaxed) + weight >= max_waiting_;
    if (when == reclaim_time::now || (when == reclaim_time::batched && many)) flush();
  }

  const std::size_t capacity_;
  const bool weighed_;
  const bool extras_;
  const std::size_t max_waiting_;
  const lifetimes& times_;
  const std::function<void(key_view_t<Key>, const Value*, removal_cause)>& on_removal_;
  [[no_unique_address]] Equal equal_;
  entry_table table_;
  alignas(64) mutable platform::mutex lock_;
  s3_fifo<weight_of> queues_;
  std::size_t sweep_line_ = 0;
  atomic<std::uint64_t> stamp_{1};
  atomic<reclaimable*> waiting_{nullptr};  // removed, the listener notified; to be reclaimed
  atomic<std::size_t> waiting_weight_{0};
  atomic<bool> ending_{false};
  const fork_guard fork_{lock_, fork_member::rank::cache};
};

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE
