// SPDX-License-Identifier: Apache-2.0
#pragma once

// cache_core: members that are too long for the class.

#include "singleflight/cache/detail/cache_core.hpp"
#include "singleflight/cache/detail/rules.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

SINGLEFLIGHT_BODY bool cache_core::claim_refresh(entry_base& e) const noexcept {
  entry_extras& extras = e.extras();
  const cache_ticks time = now();
  std::int64_t due = extras.held_off.load(memory_order_relaxed);
  if (hold_off::of(due).until > time) return false;
  const hold_off claim{times.retry_at(time, 1), hold_off::cause::claimed};
  if (!platform::holds(rule::claim_spares_failure)) {
    due = extras.held_off.load(memory_order_relaxed);
  }
  return extras.held_off.compare_exchange_strong(due, claim.word(), memory_order_relaxed,
                                                 memory_order_relaxed);
}

SINGLEFLIGHT_BODY void cache_core::hold_off_late(entry_base& e) const noexcept {
  const cache_ticks time = now();
  const hold_off late{times.retry_at(time, 1), hold_off::cause::late};
  std::int64_t seen = e.extras().held_off.load(memory_order_relaxed);
  do {
    const hold_off present = hold_off::of(seen);
    if (present.why == hold_off::cause::failed && present.until > time) return;
  } while (!e.extras().held_off.compare_exchange_strong(seen, late.word(), memory_order_relaxed,
                                                        memory_order_relaxed));
}

SINGLEFLIGHT_BODY void cache_core::hold_off_failed(entry_base& e) const noexcept {
  entry_extras& extras = e.extras();
  const std::uint32_t failures = extras.failures.fetch_add(1, memory_order_relaxed) + 1;
  const hold_off wait{times.retry_at(now(), failures), hold_off::cause::failed};
  extras.held_off.store(wait.word(), memory_order_relaxed);
}

SINGLEFLIGHT_BODY void cache_core::finish(store_core& store, removed_entries& removed,
                                          reclaim_time when) {
  for (std::size_t cause = 0; cause < removed_entries::causes; ++cause) {
    if (removed.counts[cause] == 0) continue;
    stats.add(static_cast<std::size_t>(counter::removed) + cause, removed.counts[cause]);
  }
  store.finish(removed, when);
}

SINGLEFLIGHT_BODY bool cache_core::sweep(store_core& store) {
  constexpr std::size_t lines = 64;
  bool at_end = false;
  bool more = false;
  while (!at_end) {
    const cache_ticks time = now();
    removed_entries removed;
    {
      platform::unique_lock hold(store.lock());
      at_end = store.sweep_locked(lines, time, removed);
      more = store.size_locked() > 0;
    }
    finish(store, removed);
  }
  store.flush();
  return more;
}

SINGLEFLIGHT_BODY cache_stats cache_core::totals(const store_core& store,
                                                 const group_stats& loads) const {
  const auto sums = stats.totals();
  const auto total = [&sums](counter c) { return sums[static_cast<std::size_t>(c)]; };
  const auto removed = [&sums](removal_cause why) {
    return sums[static_cast<std::size_t>(counter::removed) + static_cast<std::size_t>(why)];
  };
  cache_stats s;
  const ended_calls& ended = loads;
  static_cast<ended_calls&>(s) = ended;
  s.hits = total(counter::hits);
  s.stale_hits = total(counter::stale_hits);
  s.misses = total(counter::misses);
  s.loads = total(counter::loads);
  s.load_failures = total(counter::load_failures);
  s.refreshes = total(counter::refreshes);
  s.not_stored = total(counter::not_stored);
  s.evicted = removed(removal_cause::evicted);
  s.expired = removed(removal_cause::expired);
  s.replaced = removed(removal_cause::replaced);
  s.invalidated = removed(removal_cause::invalidated);
  platform::unique_lock hold(store.lock());
  s.entries = store.size_locked();
  s.weight = store.weight_locked();
  return s;
}

SINGLEFLIGHT_BODY void cache_core::observe(metric_visitor& visitor, const cache_stats& totals) {
  observe_counters(visitor, totals);
  visitor.gauge("entries", totals.entries);
  visitor.gauge("weight", totals.weight);
}

SINGLEFLIGHT_BODY entry_info cache_core::explain(entry_base& e, bool has_extras) const {
  const cache_ticks time = to_ticks(clock.now());
  const entry_freshness state =
      timed ? times.freshness_of(e, time, has_extras) : entry_freshness::fresh;
  entry_info info{
      .present = true,
      .fresh = state == entry_freshness::fresh || state == entry_freshness::due,
      .absent = e.kind() == entry_kind::absent,
      .error = e.kind() == entry_kind::error,
      .age = from_ticks(e.age(time)),
      .weight = has_extras ? e.extras().weight : 1,
  };
  if (timed) {
    const cache_ticks fresh = times.fresh_for(e, has_extras);
    if (fresh != lifetimes::never) info.expires_in = from_ticks(fresh - e.age(time));
  }
  return info;
}

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE
