// SPDX-License-Identifier: Apache-2.0
#pragma once

// cache_answers: how a call on a cache that is no plain hit is answered, and what a cache tells of
// itself.

#include "singleflight/cache/detail/rules.hpp"
#include "singleflight/cache/loading_cache.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE

// ---- answers without a load ---------------------------------------------------------------------

template <class Key, class Value, class Hash, class Equal>
template <class Refresh>
auto loading_cache<Key, Value, Hash, Equal>::answer_now(found& f, detail::standing stands,
                                                        const Refresh& refresh)
    -> std::optional<outcome<result>> {
  using detail::standing;
  if (!f || stands == standing::over) return std::nullopt;
  if (stands == standing::stale) {
    const detail::hold_off wait = f.at->extras().holds_off();
    if (wait.why == detail::hold_off::cause::claimed || wait.until <= now()) return std::nullopt;
    store_.hit(*f.at);
    stats_.add(figure::stale_hits);
    return answer(std::move(f), freshness::stale);
  }
  store_.hit(*f.at);
  stats_.add(figure::hits);
  if (f.at->kind() == detail::entry_kind::error) return outcome<result>(f.at->error);
  if (stands == standing::due && claim_refresh(*f.at)) {
    try {
      refresh();
    } catch (...) {  // the hit is answered; another one tries again
      if (detail::platform::is_thread_exit()) throw;
    }
  }
  return answer(std::move(f), freshness::fresh);
}

template <class Key, class Value, class Hash, class Equal>
template <class Arg>
auto loading_cache<Key, Value, Hash, Equal>::find(const Arg& key) -> std::optional<result> {
  const argument<Arg> k(key);
  found f = store_.find(entry_hash(k.view()), k.view());
  if (f && f.at->kind() != detail::entry_kind::error && is_fresh(*f.at)) {
    store_.hit(*f.at);
    stats_.add(figure::hits);
    return answer(std::move(f), freshness::fresh);
  }
  stats_.add(figure::misses);
  return std::nullopt;
}

/// One of the callers who see that the value is due starts its load; the others, for as long as
/// retry_after, do not. Should that load be lost, the next one starts then. A failure that was
/// noted meanwhile stays.
template <class Key, class Value, class Hash, class Equal>
bool loading_cache<Key, Value, Hash, Equal>::claim_refresh(entry& e) noexcept {
  using namespace detail;
  entry_extras& extras = e.extras();
  const cache_ticks at = now();
  std::int64_t due = extras.held_off.load(memory_order_relaxed);
  if (hold_off::of(due).until > at) return false;
  const hold_off claim{times_.retry_at(at, 1), hold_off::cause::claimed};
  if (!platform::holds(rule::claim_spares_failure)) {
    due = extras.held_off.load(memory_order_relaxed);
  }
  return extras.held_off.compare_exchange_strong(due, claim.word(), memory_order_relaxed,
                                                 memory_order_relaxed);
}
template <class Key, class Value, class Hash, class Equal>
void loading_cache<Key, Value, Hash, Equal>::refresh_behind(view key, std::uint32_t hash) {
  start_load(key, hash, own_loader{*this}.own(), cause::due).detach();
}
/// Keys that have come due together: one call of `load_many`, as get_all makes for those that are
/// missing.
template <class Key, class Value, class Hash, class Equal>
void loading_cache<Key, Value, Hash, Equal>::refresh_behind(const std::vector<Key>& keys) {
  if (keys.size() == 1) {  // nobody else is on it
    const view key = key_view_of(keys.front());
    return refresh_behind(key, entry_hash(key));
  }
  auto each = flights_.start_many(
      keys, [this](std::span<const Key> these, const detail::bulk_flights& flights) {
        return lead_many(these, flights, cause::due);
      });
  for (flight<result>& one : each) std::move(one).detach();
}

// ---- asking -------------------------------------------------------------------------------------

template <class Key, class Value, class Hash, class Equal>
template <class Source>
auto loading_cache<Key, Value, Hash, Equal>::get_slowly(view key, std::uint32_t hash,
                                                        const Source& source, const limits* bounds)
    -> result {
  std::uint64_t stamp = store_.stamp();
  found f = store_.find(hash, key);
  if (f) {
    if (is_plain_hit(*f.at)) return plain_hit(*f.at, std::move(f.hold));
    stamp = 0;
  }
  return get_otherwise(key, hash, std::move(f), stamp, source, bounds);
}
template <class Key, class Value, class Hash, class Equal>
template <class Source>
auto loading_cache<Key, Value, Hash, Equal>::get_otherwise(view key, std::uint32_t hash, found seen,
                                                           std::uint64_t stamp,
                                                           const Source& source,
                                                           const limits* bounds) -> result {
  const detail::end_scope scope;
  found f = std::move(seen);
  const auto stands = f ? standing_of(*f.at) : detail::standing::over;
  if (auto known = answer_now(f, stands, [&] { refresh_behind(key, hash); })) {
    return std::move(*known).value();
  }
  f = {};
  if (stands != detail::standing::stale) {
    stats_.add(figure::misses);
    return load_and_wait(key, hash, stamp, source, bounds);
  }
  limits given = bounds != nullptr ? *bounds : limits{};
  const detail::steady_time own = given.deadline;
  const bool soft = options_.soft_timeout.count() > 0;
  std::shared_ptr<loader_type> kept;  // source.own() may move what the caller gave: once
  const auto started = [&](detail::blocked_wait::form how) {
    flight<result> load = start_load(key, hash, kept, cause::asked);
    return wait_for(load, given, how);
  };
  if (soft) {  // it is given so long; then it goes on alone, as this group's loads do
    given.deadline = std::min(own, detail::deadline_after(clock_.now(), options_.soft_timeout));
    kept = source.own();
  }
  outcome<result> answer =
      soft ? started(detail::blocked_wait::form::bide) : load_within(key, hash, 0, source, given);
  const auto code = answer.errc();
  // Without a code: the load's own error, where no stale value is left to serve for it, or what
  // kept the load from beginning.
  if (!answer.has_value() && code != flight_errc::cancelled && code != flight_errc::recursive) {
    // A limit of this call's own says nothing of the load, which others wait for.
    const bool own_limit =
        code == flight_errc::timed_out && own != detail::steady_time::max() && own <= clock_.now();
    if (auto old = serve_stale(key, hash, !own_limit)) return *std::move(old);
    // The stale value has left meanwhile: the load is waited for, up to the caller's own limits.
    if (soft && code == flight_errc::timed_out && !own_limit && given.deadline <= clock_.now()) {
      given.deadline = own;
      answer = started(detail::blocked_wait::form::take);
    }
  }
  stats_.add(figure::misses);
  return std::move(answer).value();
}

/// The load has not answered in time, or could not be: what is still there, if it is.
template <class Key, class Value, class Hash, class Equal>
auto loading_cache<Key, Value, Hash, Equal>::serve_stale(view key, std::uint32_t hash,
                                                         bool hold_off) -> std::optional<result> {
  found f = store_.find(hash, key);
  if (!f || f.at->kind() != detail::entry_kind::value) return std::nullopt;
  const detail::standing stands = standing_of(*f.at);
  if (stands == detail::standing::over) return std::nullopt;
  if (stands != detail::standing::stale) {
    stats_.add(figure::hits);
    return answer(std::move(f), freshness::fresh);
  }
  if (hold_off) hold_off_late(*f.at);
  stats_.add(figure::stale_hits);
  return answer(std::move(f), freshness::stale);
}

/// The next caller does not wait as long again. What a failure says stays as long as it counts.
template <class Key, class Value, class Hash, class Equal>
void loading_cache<Key, Value, Hash, Equal>::hold_off_late(entry& e) noexcept {
  using namespace detail;
  const cache_ticks at = now();
  const hold_off late{times_.retry_at(at, 1), hold_off::cause::late};
  std::int64_t seen = e.extras().held_off.load(memory_order_relaxed);
  do {
    const hold_off present = hold_off::of(seen);
    if (present.why == hold_off::cause::failed && present.until > at) return;
  } while (!e.extras().held_off.compare_exchange_strong(seen, late.word(), memory_order_relaxed,
                                                        memory_order_relaxed));
}

template <class Key, class Value, class Hash, class Equal>
auto loading_cache<Key, Value, Hash, Equal>::wait_for(flight<result>& load, const limits& bounds,
                                                      detail::blocked_wait::form how)
    -> outcome<result> {
  return detail::own_handle(detail::group_door::outcome_of(load, bounds, how));
}

template <class Key, class Value, class Hash, class Equal>
template <class Arg, class Source>
pending_cached<Value> loading_cache<Key, Value, Hash, Equal>::start_get_by(const Arg& key,
                                                                           const Source& source) {
  const argument<Arg> k(key);
  const auto hash = entry_hash(k.view());
  found f = store_.find(hash, k.view());
  const auto stands = f ? standing_of(*f.at) : detail::standing::over;
  if (auto known = answer_now(f, stands, [&] { refresh_behind(k.view(), hash); })) {
    return pending_cached<Value>(*std::move(known), detail::group_door::core(flights_));
  }
  stats_.add(figure::misses);
  return pending_cached<Value>(start_load(k.view(), hash, source.own(), cause::asked));
}

template <class Key, class Value, class Hash, class Equal>
template <class Source>
auto loading_cache<Key, Value, Hash, Equal>::load_and_wait(view key, std::uint32_t hash,
                                                           std::uint64_t stamp,
                                                           const Source& source,
                                                           const limits* bounds) -> result {
  if (bounds != nullptr) return load_within(key, hash, stamp, source, *bounds).value();
  if (source.awaits()) return load_within(key, hash, stamp, source, {}).value();
  return detail::own_handle(flights_.run(key, [&](flight_context& flight) {
    return lead(key, hash, stamp, flight, cause::asked,
                [&](const Key& own) { return source.load(own, flight); });
  }));
}
template <class Key, class Value, class Hash, class Equal>
template <class Source>
auto loading_cache<Key, Value, Hash, Equal>::load_within(view key, std::uint32_t hash,
                                                         std::uint64_t stamp, const Source& source,
                                                         const limits& bounds) -> outcome<result> {
  if (source.awaits()) {
    flight<result> load = start_load(key, hash, source.own(), cause::asked);
    return wait_for(load, bounds);
  }
  const auto load = [&](flight_context& flight) {
    return lead(key, hash, stamp, flight, cause::asked,
                [&](const Key& own) { return source.load(own, flight); });
  };
  return detail::own_handle(flights_.run(as_outcome, key, load, bounds));
}

template <class Key, class Value, class Hash, class Equal>
template <class Keys>
auto loading_cache<Key, Value, Hash, Equal>::get_all(const Keys& keys, const limits& bounds)
    -> std::vector<outcome<result>> {
  const detail::end_scope scope;
  std::vector<outcome<result>> all;
  static_assert(detail::goes_in_bulk<Key>());
  std::vector<Key> missing;
  std::vector<Key> due;
  std::vector<std::size_t> places;
  for (const auto& key : keys) {
    all.emplace_back(flight_errc::broken);
    try {
      const argument<std::remove_cvref_t<decltype(key)>> k(key);
      const auto hash = entry_hash(k.view());
      found f = store_.find(hash, k.view());
      const auto stands = f ? standing_of(*f.at) : detail::standing::over;
      const auto refresh = [&] {
        if (load_many_) return due.push_back(access::own(k.view()));
        refresh_behind(k.view(), hash);
      };
      if (auto known = answer_now(f, stands, refresh)) {
        all.back() = *std::move(known);
        continue;
      }
      stats_.add(figure::misses);
      places.push_back(all.size() - 1);
      missing.push_back(access::own(k.view()));
    } catch (...) {  // one key's failure is not the others'
      if (detail::platform::is_thread_exit()) throw;
      all.back() = std::current_exception();
      if (places.size() > missing.size()) places.pop_back();
    }
  }
  if (!due.empty()) {
    try {
      refresh_behind(due);
    } catch (...) {  // the hits are answered; others try again
      if (detail::platform::is_thread_exit()) throw;
    }
  }
  if (missing.empty()) return all;
  if (!load_many_ && loader_->awaits()) {
    std::vector<std::optional<flight<result>>> started(missing.size());
    for (std::size_t i = 0; i < missing.size(); ++i) {
      try {
        const view key = key_view_of(missing[i]);
        started[i].emplace(start_load(key, entry_hash(key), own_loader{*this}.own(), cause::asked));
      } catch (...) {
        if (detail::platform::is_thread_exit()) throw;
        all[places[i]] = std::current_exception();
      }
    }
    for (std::size_t i = 0; i < started.size(); ++i) {
      if (started[i]) all[places[i]] = wait_for(*started[i], bounds);
    }
    return all;
  }
  auto each = flights_.run_many(
      missing,
      [this](std::span<const Key> these, const detail::bulk_flights& flights) {
        return lead_many(these, flights, cause::asked);
      },
      bounds);
  for (std::size_t i = 0; i < each.size(); ++i)
    all[places[i]] = detail::own_handle(std::move(each[i]));
  return all;
}

// ---- looking ------------------------------------------------------------------------------------

template <class Key, class Value, class Hash, class Equal>
cache_stats loading_cache<Key, Value, Hash, Equal>::stats() const {
  const auto sum = stats_.totals();
  const auto of = [&sum](figure f) { return sum[static_cast<std::size_t>(f)]; };
  const auto left = [&sum](removal_cause why) {
    return sum[static_cast<std::size_t>(figure::left) + static_cast<std::size_t>(why)];
  };
  cache_stats s;
  static_cast<ended_calls&>(s) = flights_.stats();
  s.hits = of(figure::hits);
  s.stale_hits = of(figure::stale_hits);
  s.misses = of(figure::misses);
  s.loads = of(figure::loads);
  s.load_failures = of(figure::load_failures);
  s.refreshes = of(figure::refreshes);
  s.not_stored = of(figure::not_stored);
  s.evicted = left(removal_cause::evicted);
  s.expired = left(removal_cause::expired);
  s.replaced = left(removal_cause::replaced);
  s.invalidated = left(removal_cause::invalidated);
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
  const cache_ticks at = to_ticks(clock_.now());
  const standing stands =
      timed_ ? times_.of_entry(*f.at, at, store_.has_extras()) : standing::fresh;
  entry_info info{
      .present = true,
      .fresh = stands == standing::fresh || stands == standing::due,
      .absent = f.at->kind() == entry_kind::absent,
      .error = f.at->kind() == entry_kind::error,
      .age = from_ticks(f.at->age(at)),
      .weight = store_.has_extras() ? f.at->extras().weight : 1,
  };
  if (timed_) {
    const cache_ticks fresh = times_.fresh_for(*f.at, store_.has_extras());
    if (fresh != lifetimes::never) info.expires_in = from_ticks(fresh - f.at->age(at));
  }
  return info;
}

SINGLEFLIGHT_END_NAMESPACE
