// SPDX-License-Identifier: Apache-2.0
#pragma once

// cache_loads: the loads of a cache: begun, answered, stored.
//
// The generation of a key is its flight. A load stores its value under the store's lock, and only
// while its flight is not revoked; invalidate and put forget the flight under the same lock, clear
// and invalidate_if all flights (cache_changes.hpp). So of a load and an invalidation that overlap,
// one comes first:
//   the store: the invalidation finds the entry, and takes it out;
//   the invalidation: the load sees that its flight is revoked, and its value goes to those who
//   wait for it. Who comes later does not find that flight.
// A load that answers with what it has found in the store follows another rule: the head of
// cache_changes.hpp.
//
// The value, or the error, of a flight that was overtaken, since newcomers do not find it for
// another cause (join_window, load_timeout), is stored, unless something fresh is there by then:
// that may be newer. Forget marks these flights as well, as long as they run.

#include "singleflight/cache/detail/rules.hpp"
#include "singleflight/cache/loading_cache.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE

// ---- loads --------------------------------------------------------------------------------------

/// A load that is awaited: stays until it has answered, and with it what the loader borrows.
template <class Key, class Value, class Hash, class Equal>
struct loading_cache<Key, Value, Hash, Equal>::awaited_load final : detail::load_answer<Value> {
  awaited_load(loading_cache& cache, const Key& k, std::uint32_t h,
               std::shared_ptr<loader_type> loader, flight_promise<result>&& p)
      : of(cache), key(k), hash(h), from(std::move(loader)), promise(std::move(p)) {}

  void answer(loaded* value, std::exception_ptr error) override {
    const detail::on_errand errand;  // on whatever thread its coroutine has resumed
    std::optional<result> settled;
    try {
      settled.emplace(of.conclude(key, hash, 0, promise.context(), [&]() -> loaded {
        if (value == nullptr) std::rethrow_exception(error);
        return std::move(*value);
      }));
    } catch (...) {
      if (detail::platform::is_thread_exit()) throw;
      error = std::current_exception();
    }
    if (settled) {  // with it the cache may go
      promise.set_value(*std::move(settled));
    } else {
      promise.set_error(std::move(error));
    }
  }

  loading_cache& of;
  Key key;
  const std::uint32_t hash;
  const std::shared_ptr<loader_type> from;
  flight_promise<result> promise;
};

template <class Key, class Value, class Hash, class Equal>
auto loading_cache<Key, Value, Hash, Equal>::start_load(view key, std::uint32_t hash,
                                                        std::shared_ptr<loader_type> from,
                                                        cause why) -> flight<result> {
  if (!from->awaits()) {
    return flights_.start(key, [this, own = access::own(key), hash, from = std::move(from),
                                why](flight_context& flight) {
      return lead(key_view_of(own), hash, 0, flight, why,
                  [&](const Key& k) { return from->load(k, flight); });
    });
  }
  return flights_.start(key, [this, own = access::own(key), hash, from = std::move(from),
                              why](flight_promise<result> promise) {
    if (auto known = look_again(key_view_of(own), hash, why)) {
      return promise.set_outcome(*std::move(known));
    }
    count_loads(why, 1);
    auto load = std::make_unique<awaited_load>(*this, own, hash, from, std::move(promise));
    awaited_load& l = *load;
    from->begin(l.key, l.promise.context(), std::move(load));
  });
}

/// Between a caller's look and its load others may have loaded: stored a value, or failed, and then
/// this load has to wait as that of a later caller would (retry_after, error_ttl).
template <class Key, class Value, class Hash, class Equal>
auto loading_cache<Key, Value, Hash, Equal>::look_again(view key, std::uint32_t hash, cause why)
    -> std::optional<outcome<result>> {
  using namespace detail;
  if (why == cause::told || !platform::holds(rule::load_looks_again)) return std::nullopt;
  found f = store_.find_counted(hash, key);
  if (!f) return std::nullopt;
  const standing stands = standing_of(*f.at);
  if (stands == standing::over) return std::nullopt;
  const bool late_comers_wait = platform::holds(rule::late_comer_sees_failure);
  if (f.at->kind() == entry_kind::error) {
    if (!late_comers_wait) return std::nullopt;
    return outcome<result>(f.at->error);
  }
  if (stands == standing::stale || (stands == standing::due && why == cause::due)) {
    const hold_off wait = f.at->extras().holds_off();
    if (wait.why != hold_off::cause::failed || wait.until <= now() || !late_comers_wait) {
      return std::nullopt;
    }
  }
  return answer(std::move(f), stands == standing::stale ? freshness::stale : freshness::fresh);
}

template <class Key, class Value, class Hash, class Equal>
template <class Call>
auto loading_cache<Key, Value, Hash, Equal>::lead(view key, std::uint32_t hash, std::uint64_t stamp,
                                                  const flight_context& flight, cause why,
                                                  Call&& call) -> result {
  if (!store_.still_lacks(stamp)) {
    if (auto known = look_again(key, hash, why)) return std::move(*known).value();
  }
  count_loads(why, 1);
  Key own = access::own(key);
  return conclude(own, hash, stamp, flight, [&]() -> loaded { return call(std::as_const(own)); });
}

template <class Key, class Value, class Hash, class Equal>
auto loading_cache<Key, Value, Hash, Equal>::lead_many(std::span<const Key> keys,
                                                       const detail::bulk_flights& flights,
                                                       cause why) -> std::vector<outcome<result>> {
  std::vector<outcome<result>> results;
  std::vector<Key> left;
  std::vector<std::size_t> places;
  std::vector<std::uint32_t> hashes;
  places.reserve(keys.size());
  hashes.reserve(keys.size());
  for (const Key& key : keys) {
    results.emplace_back(flight_errc::broken);
    try {
      const auto hash = entry_hash(key_view_of(key));
      if (auto known = look_again(key_view_of(key), hash, why)) {
        results.back() = *std::move(known);
        continue;
      }
      left.push_back(key);
      places.push_back(results.size() - 1);  // there is room for these
      hashes.push_back(hash);
    } catch (...) {  // one key's failure is not the others'
      if (detail::platform::is_thread_exit()) throw;
      results.back() = std::current_exception();
    }
  }
  if (left.empty()) return results;
  count_loads(why, left.size());

  std::vector<outcome<loaded>> answers;
  std::exception_ptr error;
  try {
    if (load_many_) {
      answers = load_many_(std::span<const Key>(left));
      if (answers.size() != left.size()) throw flight_error(flight_errc::broken);
    }
  } catch (...) {
    if (detail::platform::is_thread_exit()) throw;
    error = std::current_exception();
  }
  for (std::size_t i = 0; i < left.size(); ++i) {
    try {
      const flight_context& flight = flights[places[i]];
      results[places[i]] = conclude(left[i], hashes[i], 0, flight, [&]() -> loaded {
        if (error != nullptr) std::rethrow_exception(error);
        if (load_many_) return std::move(answers[i]).value();
        return loader_->load(left[i], flight);
      });
    } catch (...) {
      if (detail::platform::is_thread_exit()) throw;
      results[places[i]] = std::current_exception();
    }
  }
  return results;
}

template <class Key, class Value, class Hash, class Equal>
template <class LoadMany>
auto loading_cache<Key, Value, Hash, Equal>::bulk_loader_of(LoadMany&& load_many) -> bulk_loader {
  static_assert(
      requires(std::decay_t<LoadMany> fn, std::span<const Key> keys) {
        detail::code_of(fn(keys).front());
      },
      "singleflight: a cache's load_many takes a std::span<const Key> and returns a std::vector of "
      "outcome<Value>, outcome<std::optional<Value>> or outcome<with_ttl<Value>>, by position");
  return [fn = std::forward<LoadMany>(load_many)](std::span<const Key> keys) mutable {
    auto given = fn(keys);
    std::vector<outcome<loaded>> answers;
    answers.reserve(given.size());
    for (auto& one : given) {
      if (one.has_value()) {
        answers.emplace_back(detail::as_loaded<Value>(std::move(*one)));
      } else if (const auto code = detail::code_of(one)) {
        answers.emplace_back(*code);
      } else {
        answers.emplace_back(one.exception());
      }
    }
    return answers;
  };
}

// ---- how a load ends ----------------------------------------------------------------------------

/// Moves from `key` where nothing can throw after it.
template <class Key, class Value, class Hash, class Equal>
auto loading_cache<Key, Value, Hash, Equal>::make_entry(Key& key, std::uint32_t hash,
                                                        loaded&& answer) -> made_entry {
  using namespace detail;
  const auto made = [](entry& e, bool keep, cache_ticks at) {
    return made_entry{{&e, hazard_hold(e, nullptr)}, keep, at};
  };
  const bool extras = store_.has_extras();
  if (!answer.value.has_value()) {
    const cache_ticks at = now();
    entry& e = entry::make(extras, hash, at, entry_kind::absent, std::move(key));
    if (extras) e.extras().weight = std::max<std::size_t>(1, options_.absent_weight);
    return made(e, times_.keeps_absence(), at);
  }
  if (answer.ttl.has_value() && !times_.per_value()) {
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
    if (keep) ttl = times_.own_ttl(*answer.ttl, hash);
  }
  std::size_t weight = 1;
  if (options_.weigher) {
    weight = std::max<std::size_t>(1, options_.weigher(as_it_is, *answer.value));
  }
  const cache_ticks at = now();
  const auto make = [&](auto&& k) -> entry& {
    return entry::make(extras, hash, at, entry_kind::value, std::forward<decltype(k)>(k),
                       *std::move(answer.value));
  };
  constexpr bool nothing_throws_after = std::is_nothrow_move_constructible_v<Value>;
  entry& e = nothing_throws_after ? make(std::move(key)) : make(as_it_is);
  if (extras) {
    e.extras().ttl = ttl;
    e.extras().weight = weight;
  }
  return made(e, keep, at);
}

template <class Key, class Value, class Hash, class Equal>
void loading_cache<Key, Value, Hash, Equal>::store_locked(
    const made_entry& made, entry* old, typename store_type::departed& gone) noexcept {
  if (made.keep) {
    store_.store_locked(*made.of.at, old, made.at, gone);
  } else if (old != nullptr) {
    store_.remove_replaced_locked(*old, made.at, gone);
  }
}

template <class Key, class Value, class Hash, class Equal>
template <class Call>
auto loading_cache<Key, Value, Hash, Equal>::conclude(Key& key, std::uint32_t hash,
                                                      std::uint64_t stamp,
                                                      const flight_context& flight, Call&& call)
    -> result {
  std::optional<made_entry> made;
  std::exception_ptr error;
  try {
    made.emplace(make_entry(key, hash, call()));
  } catch (...) {
    if (detail::platform::is_thread_exit()) throw;
    error = std::current_exception();
  }
  if (!made) return fail(key, hash, flight, error);
  typename store_type::departed gone;
  {
    detail::platform::unique_lock hold(store_.lock());
    entry* const old =
        store_.still_lacks(stamp) ? nullptr : store_.find_locked(hash, made->of.at->key());
    if (detail::platform::holds(detail::rule::forgotten_is_not_stored) && flight.revoked()) {
      stats_.add(figure::not_stored);
    } else if (!may_be_newer(old, flight)) {
      store_locked(*made, old, gone);
    }
  }
  finish_store(gone);
  return answer(std::move(made->of), freshness::fresh);
}

template <class Key, class Value, class Hash, class Equal>
auto loading_cache<Key, Value, Hash, Equal>::fail(Key& key, std::uint32_t hash,
                                                  const flight_context& flight,
                                                  const std::exception_ptr& error) -> result {
  using namespace detail;
  stats_.add(figure::load_failures);
  try {
    found f = store_.find_counted(hash, key_view_of(key));
    const standing stands =
        f && f.at->kind() == entry_kind::value ? standing_of(*f.at) : standing::over;
    if (stands != standing::over) {
      if (store_.has_extras() && !flight.revoked() && !may_be_newer(f.at, flight)) {
        entry_extras& extras = f.at->extras();
        const std::uint32_t failures = extras.failures.fetch_add(1, memory_order_relaxed) + 1;
        const hold_off wait{times_.retry_at(now(), failures), hold_off::cause::failed};
        extras.held_off.store(wait.word(), memory_order_relaxed);
      }
      return answer(std::move(f), stands == standing::stale ? freshness::stale : freshness::fresh);
    }
    if (times_.keeps_errors()) {
      const cache_ticks at = now();
      entry& e = entry::make(store_.has_extras(), hash, at, entry_kind::error, std::move(key),
                             std::exception_ptr(keep_alive(error)));
      const made_entry made{{&e, hazard_hold(e, nullptr)}, true, at};
      if (store_.has_extras()) {
        e.extras().weight = std::max<std::size_t>(1, options_.absent_weight);
      }
      typename store_type::departed gone;
      {
        platform::unique_lock hold(store_.lock());
        entry* const old = store_.find_locked(hash, e.key());
        if ((!flight.revoked() || !platform::holds(rule::forgotten_error_is_not_stored)) &&
            !may_be_newer(old, flight)) {
          store_locked(made, old, gone);
        }
      }
      finish_store(gone);
    }
  } catch (...) {  // what is told is how the load failed
    if (platform::is_thread_exit()) throw;
  }
  std::rethrow_exception(error);
}

template <class Key, class Value, class Hash, class Equal>
void loading_cache<Key, Value, Hash, Equal>::finish(typename store_type::departed& gone,
                                                    detail::giving_back when) {
  const auto count = [this](removal_cause why, std::size_t n) {
    stats_.add(static_cast<std::size_t>(figure::left) + static_cast<std::size_t>(why), n);
  };
  store_.finish(gone, count, when);
}
template <class Key, class Value, class Hash, class Equal>
void loading_cache<Key, Value, Hash, Equal>::finish_store(typename store_type::departed& gone) {
  if (timed_) sweep_.need();
  finish(gone);  // the last: a value that leaves may own this cache
}

SINGLEFLIGHT_END_NAMESPACE
