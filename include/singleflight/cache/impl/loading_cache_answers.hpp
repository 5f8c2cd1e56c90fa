// SPDX-License-Identifier: Apache-2.0
#pragma once

// loading_cache: how a call that is not a plain hit is answered.

#include "singleflight/cache/detail/rules.hpp"
#include "singleflight/cache/loading_cache.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE

// ---- answers without a load ---------------------------------------------------------------------

template <class Key, class Value, class Hash, class Equal>
auto loading_cache<Key, Value, Hash, Equal>::answer(found&& f, freshness as) const noexcept
    -> result {
  entry& e = *f.entry;
  const bool value = e.kind() == detail::entry_kind::value;
  return detail::cache_door::make_cached<Value>(std::move(f.hold),
                                                value ? std::addressof(e.value) : nullptr,
                                                core_.clock, value ? as : freshness::absent);
}

template <class Key, class Value, class Hash, class Equal>
template <class Refresh>
auto loading_cache<Key, Value, Hash, Equal>::answer_now(found& f, entry_freshness state,
                                                        const Refresh& refresh)
    -> std::optional<outcome<result>> {
  if (!f || state == entry_freshness::expired) return std::nullopt;
  if (state == entry_freshness::stale) {
    const detail::hold_off wait = f.entry->extras().holds_off();
    if (wait.why == detail::hold_off::cause::claimed || wait.until <= now()) return std::nullopt;
    store_.hit(*f.entry);
    core_.stats.add(counter::stale_hits);
    return answer(std::move(f), freshness::stale);
  }
  store_.hit(*f.entry);
  core_.stats.add(counter::hits);
  if (f.entry->kind() == detail::entry_kind::error) return outcome<result>(f.entry->error);
  if (state == entry_freshness::due && core_.claim_refresh(*f.entry)) {
    try {
      refresh();
    } catch (...) {  // the hit is answered; another one tries again
      if (detail::platform::is_thread_exit()) throw;
    }
  }
  return answer(std::move(f), freshness::fresh);
}

template <class Key, class Value, class Hash, class Equal>
void loading_cache<Key, Value, Hash, Equal>::refresh_behind(view key, std::uint32_t hash) {
  start_load(key, hash, own_loader{*this}.own(), cause::due).detach();
}

// ---- gets and their loads -----------------------------------------------------------------------

template <class Key, class Value, class Hash, class Equal>
template <class Source>
auto loading_cache<Key, Value, Hash, Equal>::get_slow(view key, std::uint32_t hash,
                                                      const Source& source, const limits* bounds)
    -> result {
  std::uint64_t stamp = store_.stamp();
  found f = store_.find(hash, key);
  if (f) {
    if (is_plain_hit(*f.entry)) return plain_hit(*f.entry, std::move(f.hold));
    stamp = 0;
  }
  return get_after_lookup(key, hash, std::move(f), stamp, source, bounds);
}
template <class Key, class Value, class Hash, class Equal>
template <class Source>
auto loading_cache<Key, Value, Hash, Equal>::get_after_lookup(view key, std::uint32_t hash,
                                                              found seen, std::uint64_t stamp,
                                                              const Source& source,
                                                              const limits* bounds) -> result {
  const detail::end_scope scope;
  found f = std::move(seen);
  const auto state = f ? freshness_of(*f.entry) : entry_freshness::expired;
  if (auto known = answer_now(f, state, [&] { refresh_behind(key, hash); })) {
    return std::move(*known).value();
  }
  f = {};
  if (state == entry_freshness::stale) return get_over_stale(key, hash, source, bounds);
  core_.stats.add(counter::misses);
  return load_and_wait(key, hash, stamp, source, bounds);
}

/// Loads a key whose stale value is returned if the load fails or is late.
template <class Key, class Value, class Hash, class Equal>
template <class Source>
auto loading_cache<Key, Value, Hash, Equal>::get_over_stale(view key, std::uint32_t hash,
                                                            const Source& source,
                                                            const limits* bounds) -> result {
  limits wait = bounds != nullptr ? *bounds : limits{};
  const detail::steady_time own = wait.deadline;
  const bool soft = options_.soft_timeout.count() > 0;
  std::shared_ptr<loader_type> kept;  // source.own() may move the caller's loader: once
  const auto started = [&](detail::blocked_wait::form form) {
    flight<result> load = start_load(key, hash, kept, cause::missing);
    return wait_for(load, wait, form);
  };
  if (soft) {  // the call waits so long; then the load continues alone, as this group's loads do
    wait.deadline = std::min(own, detail::deadline_after(core_.clock.now(), options_.soft_timeout));
    kept = source.own();
  }
  outcome<result> answer =
      soft ? started(detail::blocked_wait::form::bide) : load_within(key, hash, 0, source, wait);
  const auto code = answer.errc();
  // If there is no code, it is the load's own error, when no stale value is left to serve instead,
  // or the reason why the load could not begin.
  if (!answer.has_value() && code != flight_errc::cancelled && code != flight_errc::recursive) {
    // This call's own limit does not mean that the load is late: other callers wait for it.
    const bool own_limit = code == flight_errc::timed_out && own != detail::steady_time::max() &&
                           own <= core_.clock.now();
    if (auto old = serve_stale(key, hash, !own_limit)) return *std::move(old);
    // The stale value was removed meanwhile: wait for the load, up to the caller's own limits.
    if (soft && code == flight_errc::timed_out && !own_limit &&
        wait.deadline <= core_.clock.now()) {
      wait.deadline = own;
      answer = started(detail::blocked_wait::form::take);
    }
  }
  core_.stats.add(counter::misses);
  return std::move(answer).value();
}

/// Called if the load is late, or could not begin: returns the stored value, if there still is one.
template <class Key, class Value, class Hash, class Equal>
auto loading_cache<Key, Value, Hash, Equal>::serve_stale(view key, std::uint32_t hash,
                                                         bool hold_off) -> std::optional<result> {
  found f = store_.find(hash, key);
  if (!f || f.entry->kind() != detail::entry_kind::value) return std::nullopt;
  const entry_freshness state = freshness_of(*f.entry);
  if (state == entry_freshness::expired) return std::nullopt;
  if (state != entry_freshness::stale) {
    core_.stats.add(counter::hits);
    return answer(std::move(f), freshness::fresh);
  }
  if (hold_off) core_.hold_off_late(*f.entry);
  core_.stats.add(counter::stale_hits);
  return answer(std::move(f), freshness::stale);
}

template <class Key, class Value, class Hash, class Equal>
auto loading_cache<Key, Value, Hash, Equal>::wait_for(flight<result>& load, const limits& bounds,
                                                      detail::blocked_wait::form form)
    -> outcome<result> {
  return detail::own_handle(detail::group_door::outcome_of(load, bounds, form));
}

template <class Key, class Value, class Hash, class Equal>
template <class Arg, class Source>
pending_cached<Value> loading_cache<Key, Value, Hash, Equal>::start_get_by(const Arg& key,
                                                                           const Source& source) {
  const argument<Arg> k(key);
  const auto hash = entry_hash(k.view());
  found f = store_.find(hash, k.view());
  const auto state = f ? freshness_of(*f.entry) : entry_freshness::expired;
  if (auto known = answer_now(f, state, [&] { refresh_behind(k.view(), hash); })) {
    return detail::cache_door::make_pending(*std::move(known), detail::group_door::core(flights_));
  }
  core_.stats.add(counter::misses);
  return detail::cache_door::make_pending(start_load(k.view(), hash, source.own(), cause::missing));
}

template <class Key, class Value, class Hash, class Equal>
bool loading_cache<Key, Value, Hash, Equal>::unbounded(const limits& bounds) noexcept {
  return bounds.deadline == detail::steady_time::max() && !bounds.stop.stop_possible() &&
         bounds.within.frame == nullptr;
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
    const auto load = [&](const Key& own) { return source.load(own, flight); };
    return lead(key, hash, stamp, flight, cause::missing, load);
  }));
}
template <class Key, class Value, class Hash, class Equal>
template <class Source>
auto loading_cache<Key, Value, Hash, Equal>::load_within(view key, std::uint32_t hash,
                                                         std::uint64_t stamp, const Source& source,
                                                         const limits& bounds) -> outcome<result> {
  if (source.awaits()) {
    flight<result> load = start_load(key, hash, source.own(), cause::missing);
    return wait_for(load, bounds);
  }
  const auto load = [&](flight_context& flight) {
    const auto own_load = [&](const Key& own) { return source.load(own, flight); };
    return lead(key, hash, stamp, flight, cause::missing, own_load);
  };
  return detail::own_handle(flights_.run(as_outcome, key, load, bounds));
}

SINGLEFLIGHT_END_NAMESPACE
