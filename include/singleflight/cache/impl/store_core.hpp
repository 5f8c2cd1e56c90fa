// SPDX-License-Identifier: Apache-2.0
#pragma once

// store_core: how entries are stored, evicted, removed and given to the reclaimer.

#include <algorithm>
#include <limits>
#include <memory>
#include <mutex>
#include <utility>

#include "singleflight/cache/detail/store_core.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

/// Returns how much may wait for the reclaimer's barrier, which reaches all threads and costs up to
/// some microseconds: a part of the capacity.
SINGLEFLIGHT_BODY std::size_t store_core::max_waiting_of(std::size_t capacity,
                                                         bool weighed) noexcept {
  const std::size_t part =
      weighed
          ? capacity / 32
          : std::clamp<std::size_t>(capacity / 32, std::min<std::size_t>(64, capacity / 8), 256);
  return platform::tuned(std::max<std::size_t>(1, part), std::size_t{1});
}

SINGLEFLIGHT_BODY void removed_entries::add(entry_base& e, removal_cause cause,
                                            std::size_t weighs) noexcept {
  const auto index = static_cast<std::size_t>(cause);
  e.next = entries[index];
  entries[index] = &e;
  ++counts[index];
  weight += std::min(weighs, std::numeric_limits<std::size_t>::max() - weight);
}

SINGLEFLIGHT_BODY void remaining_entries::free() noexcept {
  reclaimable* all = std::exchange(waiting, nullptr);
  for (reclaimable*& list : queues.entries) {
    while (reclaimable* const one = list) {
      list = one->next;
      static_cast<entry_base*>(one)->leave(end_of);
      one->next = std::exchange(all, one);
    }
  }
  queues.ghosts = {};
  entry_table::free(lines);
  hazard_domain::instance().reclaim(all);
}

SINGLEFLIGHT_BODY void end_of_entries::act_on(task_node* node, bool run) noexcept {
  const std::unique_ptr<end_of_entries> self(static_cast<end_of_entries*>(node));
  // This task is no load, so nothing waits for it: on a thread that runs nothing else, it is at a
  // safe point (deferred_end.hpp, D1).
  thread_state& thread = this_thread();
  const bool alone = run && thread.errands == 1;
  if (alone) thread.errands = 0;
  self->left.free();
  if (alone) thread.errands = 1;
}

SINGLEFLIGHT_BODY store_core::store_core(std::size_t capacity, std::size_t reserve, bool weighed,
                                         const lifetimes& times, const entry_steps& steps)
    : queues_(capacity, weighed || times.need_extras()),
      capacity_(capacity),
      extras_(weighed || times.need_extras()),
      max_waiting_(max_waiting_of(capacity, weighed)),
      times_(times),
      steps_(steps),
      table_(capacity, reserve) {
  make_shared_cache_state();
}

SINGLEFLIGHT_BODY store_core::~store_core() {
  const auto let_go = [this]() -> remaining_entries {
    return {queues_.let_go(), table_.let_go(), waiting_.exchange(nullptr, memory_order_acquire),
            steps_.end_of(extras_)};
  };
  end_of_entries* handed = nullptr;
  try {
    if (*steps_.free_on) {
      handed = new end_of_entries;
      handed->left = let_go();
      (*steps_.free_on)->execute(task(handed));
    }
  } catch (...) {  // a task that the executor did not take has freed all
  }
  if (handed == nullptr) let_go().free();
}

// ---- under the lock -----------------------------------------------------------------------------

SINGLEFLIGHT_BODY bool store_core::store_locked(entry_base& fresh, entry_base* old, cache_ticks now,
                                                removed_entries& removed) noexcept {
  const bool fits = queues_.weight_of(fresh) <= capacity_;
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

SINGLEFLIGHT_BODY void store_core::unlink_locked(entry_base& e, removal_cause cause,
                                                 removed_entries& removed) noexcept {
  queues_.remove(e);
  table_.remove_locked(e);
  leave(e, cause, removed);
}

SINGLEFLIGHT_BODY void store_core::remove_locked(entry_base& e, removal_cause cause,
                                                 removed_entries& removed) noexcept {
  unlink_locked(e, cause, removed);
  table_.step_locked(removed.tables);
}

SINGLEFLIGHT_BODY cleared_entries store_core::clear_locked() noexcept {
  entry_lines* const lines = table_.clear_locked();
  if (lines == nullptr) table_.empty_locked();
  return {queues_.let_go(), lines};
}

SINGLEFLIGHT_BODY bool store_core::sweep_locked(std::size_t lines, cache_ticks now,
                                                removed_entries& removed) noexcept {
  const bool more = table_.visit_locked(swept_, lines, [&](entry_base& e) {
    if (times_.freshness_of(e, now, extras_) == entry_freshness::expired) {
      unlink_locked(e, removal_cause::expired, removed);
    }
  });
  table_.step_locked(removed.tables);
  return !more;
}

SINGLEFLIGHT_COLD SINGLEFLIGHT_BODY void store_core::promote(entry_base& e) noexcept {
  hazard_record* const record = this_hazard_record();
  if (record == nullptr || table_.glance_finds(e, *record)) return;
  const platform::unique_lock hold(lock_, std::try_to_lock);
  if (hold.owns_lock()) {
    table_.promote_locked(e);
  } else {
    e.set_hits(entry_base::max_hits - 1);
  }
}

SINGLEFLIGHT_BODY void store_core::evict_locked(cache_ticks now,
                                                removed_entries& removed) noexcept {
  entry_base& victim = *queues_.evict();
  table_.remove_locked(victim);
  leave(victim, cause_of(victim, now, removal_cause::evicted), removed);
}

/// Returns whether the sum of the weights fits (ES4) with `fresh` in place of `old`, which may be
/// null.
SINGLEFLIGHT_BODY bool store_core::sum_fits(entry_base& fresh, entry_base* old) const noexcept {
  const std::uint64_t others = queues_.weight() - (old != nullptr ? queues_.weight_of(*old) : 0);
  return queues_.weight_of(fresh) <= std::numeric_limits<std::uint64_t>::max() - others;
}

SINGLEFLIGHT_BODY removal_cause store_core::cause_of(entry_base& e, cache_ticks now,
                                                     removal_cause otherwise) const noexcept {
  const entry_freshness state =
      times_.timed() ? times_.freshness_of(e, now, extras_) : entry_freshness::fresh;
  return state == entry_freshness::stale || state == entry_freshness::expired
             ? removal_cause::expired
             : otherwise;
}

SINGLEFLIGHT_BODY void store_core::leave(entry_base& e, removal_cause cause,
                                         removed_entries& removed) noexcept {
  e.leave(steps_.end_of(extras_));
  removed.add(e, cause, queues_.weight_of(e));
}

// ---- after the lock -----------------------------------------------------------------------------

SINGLEFLIGHT_COLD SINGLEFLIGHT_BODY void store_core::move_some() const noexcept {
  reclaimable* left = nullptr;
  {
    const platform::unique_lock hold(lock_, std::try_to_lock);
    if (!hold.owns_lock()) return;
    table_.step_locked(left);
  }
  if (left != nullptr) hazard_domain::instance().reclaim(left);
}

SINGLEFLIGHT_BODY void store_core::dismiss(cleared_entries& cleared,
                                           removed_entries& removed) noexcept {
  if (cleared.lines != nullptr) entry_table::end_of(*cleared.lines, removed.tables);
  cleared.queues.ghosts = {};
  for (reclaimable*& list : cleared.queues.entries) {
    for (reclaimable* one = std::exchange(list, nullptr); one != nullptr;) {
      auto& e = static_cast<entry_base&>(*std::exchange(one, one->next));
      leave(e, removal_cause::invalidated, removed);
    }
  }
}

SINGLEFLIGHT_BODY void store_core::finish(removed_entries& removed, reclaim_time when) {
  // A table is large, and rare: it does not wait. Nor do light entries beyond a number.
  const std::size_t most = max_waiting_;
  const std::size_t weight = removed.tables != nullptr ? most : std::min(removed.weight, most);
  std::size_t entries = 0;
  reclaimable* list = std::exchange(removed.tables, nullptr);
  for (std::size_t cause = 0; cause < removed_entries::causes; ++cause) {
    if (removed.entries[cause] == nullptr) continue;
    entries += removed.counts[cause];
    if (steps_.notify != nullptr && !ending_.load(memory_order_relaxed)) {
      for (reclaimable* one = removed.entries[cause]; one != nullptr; one = one->next) {
        steps_.notify(steps_.listener, *static_cast<entry_base*>(one),
                      static_cast<removal_cause>(cause));
      }
    }
    hazard_domain::append(removed.entries[cause], list);
  }
  if (list == nullptr) {
    if (when == reclaim_time::now) flush();
    return;
  }
  push_waiting(list, when, std::max(weight, entries < 256 ? entries * (most / 256) : most));
}

SINGLEFLIGHT_BODY void store_core::flush() noexcept {
  waiting_weight_.store(0, memory_order_relaxed);
  hazard_domain::instance().reclaim(
      waiting_.exchange(nullptr, platform::order(rule::removed_acquires, memory_order_acquire)));
}

SINGLEFLIGHT_BODY void store_core::push_waiting(reclaimable* list, reclaim_time when,
                                                std::size_t weight) noexcept {
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

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE
