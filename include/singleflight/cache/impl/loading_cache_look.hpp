// SPDX-License-Identifier: Apache-2.0
#pragma once

// loading_cache: find, its statistics, and what it stores of a key.

#include "singleflight/cache/loading_cache.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE

template <class Key, class Value, class Hash, class Equal>
template <class Arg>
auto loading_cache<Key, Value, Hash, Equal>::find(const Arg& key) -> std::optional<result> {
  const argument<Arg> k(key);
  found f = store_.find(entry_hash(k.view()), k.view());
  if (f && f.entry->kind() != detail::entry_kind::error && is_fresh(*f.entry)) {
    store_.hit(*f.entry);
    stats_.add(counter::hits);
    return answer(std::move(f), freshness::fresh);
  }
  stats_.add(counter::misses);
  return std::nullopt;
}

template <class Key, class Value, class Hash, class Equal>
cache_stats loading_cache<Key, Value, Hash, Equal>::stats() const {
  const auto totals = stats_.totals();
  const auto total = [&totals](counter c) { return totals[static_cast<std::size_t>(c)]; };
  const auto removed = [&totals](removal_cause why) {
    return totals[static_cast<std::size_t>(counter::removed) + static_cast<std::size_t>(why)];
  };
  cache_stats s;
  const group_stats calls = flights_.stats();
  const ended_calls& ended = calls;
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
  detail::platform::unique_lock hold(store_.lock());
  s.entries = store_.size_locked();
  s.weight = store_.weight_locked();
  return s;
}

template <class Key, class Value, class Hash, class Equal>
void loading_cache<Key, Value, Hash, Equal>::observe(metric_visitor& visitor) const {
  const cache_stats s = stats();
  detail::observe_counters(visitor, s);
  visitor.gauge("entries", s.entries);
  visitor.gauge("weight", s.weight);
}

template <class Key, class Value, class Hash, class Equal>
template <class Arg>
entry_info loading_cache<Key, Value, Hash, Equal>::explain(const Arg& key) const {
  using namespace detail;
  const argument<Arg> k(key);
  const found f = store_.find(entry_hash(k.view()), k.view());
  if (!f) return {};
  const cache_ticks time = to_ticks(clock_.now());
  const entry_freshness state =
      timed_ ? times_.freshness_of(*f.entry, time, store_.has_extras()) : entry_freshness::fresh;
  entry_info info{
      .present = true,
      .fresh = state == entry_freshness::fresh || state == entry_freshness::due,
      .absent = f.entry->kind() == entry_kind::absent,
      .error = f.entry->kind() == entry_kind::error,
      .age = from_ticks(f.entry->age(time)),
      .weight = store_.has_extras() ? f.entry->extras().weight : 1,
  };
  if (timed_) {
    const cache_ticks fresh = times_.fresh_for(*f.entry, store_.has_extras());
    if (fresh != lifetimes::never) info.expires_in = from_ticks(fresh - f.entry->age(time));
  }
  return info;
}

SINGLEFLIGHT_END_NAMESPACE
