// SPDX-License-Identifier: Apache-2.0
#pragma once

// loading_cache: how a load ends: its answer becomes an entry, is stored, and is returned.

#include "singleflight/cache/detail/rules.hpp"
#include "singleflight/cache/loading_cache.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE

// ---- how a load ends ----------------------------------------------------------------------------

/// Moves from `key` if nothing can throw after it.
template <class Key, class Value, class Hash, class Equal>
auto loading_cache<Key, Value, Hash, Equal>::make_entry(Key& key, std::uint32_t hash,
                                                        loaded&& answer) -> made_entry {
  using namespace detail;
  const auto made = [](entry& e, bool keep, cache_ticks time) {
    return made_entry{{&e, hazard_hold(e, nullptr)}, keep, time};
  };
  const bool extras = store_.has_extras();
  if (!answer.value.has_value()) {
    const cache_ticks time = now();
    entry& e = entry::make(extras, hash, time, entry_kind::absent, std::move(key));
    if (extras) e.extras().weight = std::max<std::size_t>(1, options_.absent_weight);
    return made(e, core_.times.keeps_absence(), time);
  }
  if (answer.ttl.has_value() && !core_.times.per_value()) {
    throw std::invalid_argument(
        "loading_cache: with_ttl, in a cache whose entries have no time of their own: give it "
        "ttl_of, or a loader that returns with_ttl");
  }
  const Key& as_it_is = key;
  bool keep = true;
  cache_ticks ttl = 0;
  if (!answer.ttl.has_value() && options_.ttl_of) {
    answer.ttl = options_.ttl_of(as_it_is, *answer.value);
  }
  if (answer.ttl.has_value()) {
    keep = answer.ttl->count() > 0;
    if (keep) ttl = core_.times.own_ttl(*answer.ttl, hash);
  }
  std::size_t weight = 1;
  if (options_.weigher) {
    weight = std::max<std::size_t>(1, options_.weigher(as_it_is, *answer.value));
  }
  const cache_ticks time = now();
  const auto make = [&](auto&& k) -> entry& {
    return entry::make(extras, hash, time, entry_kind::value, std::forward<decltype(k)>(k),
                       *std::move(answer.value));
  };
  constexpr bool nothing_throws_after = std::is_nothrow_move_constructible_v<Value>;
  entry& e = nothing_throws_after ? make(std::move(key)) : make(as_it_is);
  if (extras) {
    e.extras().ttl = ttl;
    e.extras().weight = weight;
  }
  return made(e, keep, time);
}

template <class Key, class Value, class Hash, class Equal>
bool loading_cache<Key, Value, Hash, Equal>::may_be_newer(
    entry* stored, const flight_context& flight) const noexcept {
  return stored != nullptr && flight.forgotten() && is_fresh(*stored);
}
template <class Key, class Value, class Hash, class Equal>
void loading_cache<Key, Value, Hash, Equal>::store_locked(const made_entry& made, entry* old,
                                                          removed_entries& removed) noexcept {
  if (made.keep) {
    store_.store_locked(*made.entry, old, made.made_at, removed);
  } else if (old != nullptr) {
    store_.remove_replaced_locked(*old, made.made_at, removed);
  }
}

template <class Key, class Value, class Hash, class Equal>
template <class Load>
auto loading_cache<Key, Value, Hash, Equal>::conclude(Key& key, std::uint32_t hash,
                                                      std::uint64_t stamp,
                                                      const flight_context& flight,
                                                      const Load& load) -> result {
  std::optional<made_entry> made;
  std::exception_ptr error;
  try {
    made.emplace(make_entry(key, hash, load(std::as_const(key))));
  } catch (...) {
    if (detail::platform::is_thread_exit()) throw;
    error = std::current_exception();
  }
  if (!made) return fail(key, hash, flight, error);
  return store(*std::move(made), hash, stamp, flight);
}

template <class Key, class Value, class Hash, class Equal>
auto loading_cache<Key, Value, Hash, Equal>::store(made_entry&& made, std::uint32_t hash,
                                                   std::uint64_t stamp,
                                                   const flight_context& flight) -> result {
  removed_entries removed;
  {
    detail::platform::unique_lock hold(store_.lock());
    entry* const old =
        store_.still_lacks(stamp) ? nullptr : store_.find_locked(hash, made.entry->key());
    if (detail::platform::holds(detail::rule::forgotten_is_not_stored) && flight.revoked()) {
      core_.stats.add(counter::not_stored);
    } else if (!may_be_newer(old, flight)) {
      store_locked(made, old, removed);
    }
  }
  finish_store(removed);
  return answer(std::move(made), freshness::fresh);
}

template <class Key, class Value, class Hash, class Equal>
auto loading_cache<Key, Value, Hash, Equal>::fail(Key& key, std::uint32_t hash,
                                                  const flight_context& flight,
                                                  const std::exception_ptr& error) -> result {
  using namespace detail;
  core_.stats.add(counter::load_failures);
  try {
    found f = store_.find_counted(hash, key_view_of(key));
    const entry_freshness state = f && f.entry->kind() == entry_kind::value
                                      ? freshness_of(*f.entry)
                                      : entry_freshness::expired;
    if (state != entry_freshness::expired) {
      if (store_.has_extras() && !flight.revoked() && !may_be_newer(f.entry, flight)) {
        core_.hold_off_failed(*f.entry);
      }
      return answer(std::move(f),
                    state == entry_freshness::stale ? freshness::stale : freshness::fresh);
    }
    if (core_.times.keeps_errors()) store_error(key, hash, flight, error);
  } catch (...) {  // the callers get the load's own error
    if (platform::is_thread_exit()) throw;
  }
  std::rethrow_exception(error);
}
template <class Key, class Value, class Hash, class Equal>
void loading_cache<Key, Value, Hash, Equal>::store_error(Key& key, std::uint32_t hash,
                                                         const flight_context& flight,
                                                         const std::exception_ptr& error) {
  using namespace detail;
  const cache_ticks time = now();
  entry& e = entry::make(store_.has_extras(), hash, time, entry_kind::error, std::move(key),
                         std::exception_ptr(keep_alive(error)));
  const made_entry made{{&e, hazard_hold(e, nullptr)}, true, time};
  if (store_.has_extras()) {
    e.extras().weight = std::max<std::size_t>(1, options_.absent_weight);
  }
  removed_entries removed;
  {
    platform::unique_lock hold(store_.lock());
    entry* const old = store_.find_locked(hash, e.key());
    if ((!flight.revoked() || !platform::holds(rule::forgotten_error_is_not_stored)) &&
        !may_be_newer(old, flight)) {
      store_locked(made, old, removed);
    }
  }
  finish_store(removed);
}

template <class Key, class Value, class Hash, class Equal>
void loading_cache<Key, Value, Hash, Equal>::finish_store(removed_entries& removed) {
  if (core_.timed) sweep_.request();
  finish(removed);  // last: a removed value may own this cache
}

SINGLEFLIGHT_END_NAMESPACE
