// SPDX-License-Identifier: Apache-2.0
#pragma once

// cache_impl: how a call that is no plain hit is answered, how a load is stored, and how entries
// are forgotten.
//
// The generation of a key is its flight. A load stores its value under the store's lock, and only
// while its flight is not forgotten; invalidate and put forget the flight under the same lock,
// clear and invalidate_if all flights. So of a load and an invalidation that overlap, one comes
// first:
//   the store: the invalidation finds the entry, and takes it out;
//   the invalidation: the load sees that its flight is forgotten, and its value goes to those who
//   wait for it. Who comes later does not find that flight.
// The lock order is store, then bucket of the group. Forgetting promotes no successor, since this
// group has none (no run_fresh, no drain): nothing is handed to an executor under the lock.

#include "singleflight/cache/loading_cache.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE

// ---- answers without a load ---------------------------------------------------------------------

template <class Key, class Value, class Hash, class Equal>
auto loading_cache<Key, Value, Hash, Equal>::answer_now(view key, std::uint32_t hash, found& f,
                                                        detail::standing stands)
    -> std::optional<outcome<result>> {
  using detail::standing;
  if (!f || stands == standing::over) return std::nullopt;
  if (stands == standing::stale) {
    if (f.at->extras().retry_at.load(detail::memory_order_relaxed) <= now()) return std::nullopt;
    f.at->touch();
    stats_.add(figure::stale_hits);
    return answer(std::move(f), freshness::stale);
  }
  f.at->touch();
  stats_.add(figure::hits);
  if (f.at->kind() == detail::entry_kind::error) return outcome<result>(f.at->error);
  if (stands == standing::due) refresh_behind(key, hash, *f.at);
  return answer(std::move(f), freshness::fresh);
}

template <class Key, class Value, class Hash, class Equal>
template <class Arg>
auto loading_cache<Key, Value, Hash, Equal>::find(const Arg& key) -> std::optional<result> {
  const argument<Arg> k(key);
  found f = store_.find(static_cast<std::uint32_t>(flights_.hash_of(k.view())), k.view());
  if (f) {
    const detail::standing stands = standing_of(*f.at);
    if ((stands == detail::standing::fresh || stands == detail::standing::due) &&
        f.at->kind() != detail::entry_kind::error) {
      f.at->touch();
      stats_.add(figure::hits);
      return answer(std::move(f), freshness::fresh);
    }
  }
  stats_.add(figure::misses);
  return std::nullopt;
}

/// One of the callers who see that the value is due starts its load; the others, for as long as
/// retry_after, do not. Should that load be lost, the next one starts then.
template <class Key, class Value, class Hash, class Equal>
void loading_cache<Key, Value, Hash, Equal>::refresh_behind(view key, std::uint32_t hash,
                                                            entry& e) {
  using namespace detail;
  entry_extras& extras = e.extras();
  const cache_ticks at = now();
  cache_ticks due = extras.retry_at.load(memory_order_relaxed);
  if (due > at) return;
  if (!extras.retry_at.compare_exchange_strong(due, times_.retry_at(at, 1), memory_order_relaxed,
                                               memory_order_relaxed) &&
      platform::holds(rule::one_hit_refreshes)) {
    return;
  }
  try {
    start_load(key, hash, own_loader{*this}.own(), true).detach();
  } catch (...) {  // the hit is answered; another one tries again
    if (platform::is_thread_exit()) throw;
  }
}

// ---- asking -------------------------------------------------------------------------------------

template <class Key, class Value, class Hash, class Equal>
template <class Source>
auto loading_cache<Key, Value, Hash, Equal>::get_slowly(view key, std::uint32_t hash, found f,
                                                        const Source& source, const limits* bounds)
    -> result {
  const auto stands = f ? standing_of(*f.at) : detail::standing::over;
  if (auto known = answer_now(key, hash, f, stands)) return std::move(*known).value();
  if (stands != detail::standing::stale) {
    f = {};
    stats_.add(figure::misses);
    return load_and_wait(key, hash, source, bounds);
  }
  f = {};
  const limits unlimited;
  const limits& given = bounds != nullptr ? *bounds : unlimited;
  // Given so long; then it goes on alone, as this group's loads do.
  const bool soft = options_.soft_timeout.count() > 0;
  auto by = given.deadline;
  if (soft) by = std::min(by, detail::deadline_after(clock_.now(), options_.soft_timeout));
  outcome<result> loaded_anew(flight_errc::broken);
  if (soft || source.awaits()) {
    flight<result> load = start_load(key, hash, source.own(), false);
    loaded_anew = wait_for(load, {.deadline = by, .stop = given.stop, .within = given.within});
  } else {
    loaded_anew = run_load(as_outcome, key, hash, source, given);
  }
  const auto code = loaded_anew.errc();
  if (code && *code != flight_errc::cancelled && *code != flight_errc::recursive) {
    if (auto old = serve_stale(key, hash)) return *std::move(old);
  }
  stats_.add(figure::misses);
  return std::move(loaded_anew).value();
}

/// The load has not answered in time, or could not be: what is still there, if it is.
template <class Key, class Value, class Hash, class Equal>
auto loading_cache<Key, Value, Hash, Equal>::serve_stale(view key, std::uint32_t hash)
    -> std::optional<result> {
  found f = store_.find(hash, key);
  if (!f || f.at->kind() != detail::entry_kind::value) return std::nullopt;
  const detail::standing stands = standing_of(*f.at);
  if (stands == detail::standing::over) return std::nullopt;
  if (stands != detail::standing::stale) {
    stats_.add(figure::hits);
    return answer(std::move(f), freshness::fresh);
  }
  // Who comes next does not wait as long again.
  f.at->extras().retry_at.store(times_.retry_at(now(), 1), detail::memory_order_relaxed);
  stats_.add(figure::stale_hits);
  return answer(std::move(f), freshness::stale);
}

template <class Key, class Value, class Hash, class Equal>
auto loading_cache<Key, Value, Hash, Equal>::wait_for(flight<result>& load, const limits& bounds)
    -> outcome<result> {
  return plain(handle_wait<flight<result>, detail::no_executor, false, detail::flight_within>(
                   load, bounds.deadline, bounds.stop, bounds.within, {})
                   .get_outcome());
}

template <class Key, class Value, class Hash, class Equal>
template <class Arg, class Source>
pending_cached<Value> loading_cache<Key, Value, Hash, Equal>::start_get_by(const Arg& key,
                                                                           const Source& source) {
  const argument<Arg> k(key);
  const auto hash = static_cast<std::uint32_t>(flights_.hash_of(k.view()));
  found f = store_.find(hash, k.view());
  const auto stands = f ? standing_of(*f.at) : detail::standing::over;
  if (auto known = answer_now(k.view(), hash, f, stands)) {
    return pending_cached<Value>(*std::move(known), flights_.core_);
  }
  stats_.add(figure::misses);
  return pending_cached<Value>(start_load(k.view(), hash, source.own(), false));
}

template <class Key, class Value, class Hash, class Equal>
template <class Source>
auto loading_cache<Key, Value, Hash, Equal>::load_and_wait(view key, std::uint32_t hash,
                                                           const Source& source,
                                                           const limits* bounds) -> result {
  if (source.awaits()) {
    flight<result> load = start_load(key, hash, source.own(), false);
    return wait_for(load, bounds != nullptr ? *bounds : limits{}).value();
  }
  if (bounds != nullptr) return run_load(as_outcome, key, hash, source, *bounds).value();
  return take(flights_.run(key, [&](flight_context& flight) {
    return lead(key, hash, flight, false, [&](const Key& own) { return source.load(own, flight); });
  }));
}
template <class Key, class Value, class Hash, class Equal>
template <class Source>
auto loading_cache<Key, Value, Hash, Equal>::run_load(as_outcome_t, view key, std::uint32_t hash,
                                                      const Source& source, const limits& bounds)
    -> outcome<result> {
  return plain(flights_.run(
      as_outcome, key,
      [&](flight_context& flight) {
        return lead(key, hash, flight, false,
                    [&](const Key& own) { return source.load(own, flight); });
      },
      bounds));
}

template <class Key, class Value, class Hash, class Equal>
template <class Keys>
auto loading_cache<Key, Value, Hash, Equal>::get_all(const Keys& keys, const limits& bounds)
    -> std::vector<outcome<result>> {
  std::vector<outcome<result>> all;
  std::vector<Key> missing;
  std::vector<std::size_t> places;
  for (const auto& key : keys) {
    all.emplace_back(flight_errc::broken);
    try {
      const argument<std::remove_cvref_t<decltype(key)>> k(key);
      const auto hash = static_cast<std::uint32_t>(flights_.hash_of(k.view()));
      found f = store_.find(hash, k.view());
      const auto stands = f ? standing_of(*f.at) : detail::standing::over;
      if (auto known = answer_now(k.view(), hash, f, stands)) {
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
  if (missing.empty()) return all;
  if (!load_many_ && loader_->awaits()) {
    std::vector<std::optional<flight<result>>> started(missing.size());
    for (std::size_t i = 0; i < missing.size(); ++i) {
      try {
        const view key = key_view_of(missing[i]);
        started[i].emplace(start_load(key, static_cast<std::uint32_t>(flights_.hash_of(key)),
                                      own_loader{*this}.own(), false));
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
        return lead_many(these, flights);
      },
      bounds);
  for (std::size_t i = 0; i < each.size(); ++i) all[places[i]] = plain(std::move(each[i]));
  return all;
}

// ---- loads --------------------------------------------------------------------------------------

/// A load that is awaited: stays until it has answered, and with it what the loader borrows.
template <class Key, class Value, class Hash, class Equal>
struct loading_cache<Key, Value, Hash, Equal>::awaited_load final : detail::load_answer<Value> {
  awaited_load(loading_cache& cache, const Key& k, std::uint32_t h,
               std::shared_ptr<loader_type> loader, flight_promise<result>&& p)
      : of(cache), key(k), hash(h), from(std::move(loader)), promise(std::move(p)) {}

  void answer(loaded* value, std::exception_ptr error) override {
    std::optional<result> settled;
    try {
      settled.emplace(of.conclude(
          key, hash,
          [&]() -> loaded {
            if (value == nullptr) std::rethrow_exception(error);
            return std::move(*value);
          },
          [this] { return promise.context().revoked(); }));
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
                                                        bool anew) -> flight<result> {
  if (!from->awaits()) {
    return flights_.start(key, [this, own = access::own(key), hash, from = std::move(from),
                                anew](flight_context& flight) {
      return lead(key_view_of(own), hash, flight, anew,
                  [&](const Key& k) { return from->load(k, flight); });
    });
  }
  return flights_.start(key, [this, own = access::own(key), hash, from = std::move(from),
                              anew](flight_promise<result> promise) {
    if (anew) {
      stats_.add(figure::refreshes);
    } else if (auto known = look_again(key_view_of(own), hash)) {
      return promise.set_value(*std::move(known));
    }
    stats_.add(figure::loads);
    auto load = std::make_unique<awaited_load>(*this, own, hash, from, std::move(promise));
    awaited_load& l = *load;
    from->begin(l.key, l.promise.context(), std::move(load));
  });
}

template <class Key, class Value, class Hash, class Equal>
auto loading_cache<Key, Value, Hash, Equal>::look_again(view key, std::uint32_t hash)
    -> std::optional<result> {
  found f = store_.find_counted(hash, key);
  if (!f || f.at->kind() == detail::entry_kind::error) return std::nullopt;
  const detail::standing stands = standing_of(*f.at);
  if (stands != detail::standing::fresh && stands != detail::standing::due) return std::nullopt;
  return answer(std::move(f), freshness::fresh);
}

template <class Key, class Value, class Hash, class Equal>
template <class Call>
auto loading_cache<Key, Value, Hash, Equal>::lead(view key, std::uint32_t hash,
                                                  const flight_context& flight, bool anew,
                                                  Call&& call) -> result {
  if (anew) {
    stats_.add(figure::refreshes);
  } else if (detail::platform::holds(detail::rule::load_looks_again)) {
    if (auto known = look_again(key, hash)) return *std::move(known);
  }
  stats_.add(figure::loads);
  Key own = access::own(key);
  return conclude(
      own, hash, [&]() -> loaded { return call(std::as_const(own)); },
      [&flight] { return flight.revoked(); });
}

template <class Key, class Value, class Hash, class Equal>
auto loading_cache<Key, Value, Hash, Equal>::lead_many(std::span<const Key> keys,
                                                       const detail::bulk_flights& flights)
    -> std::vector<outcome<result>> {
  std::vector<outcome<result>> results;
  std::vector<Key> left;
  std::vector<std::size_t> places;
  std::vector<std::uint32_t> hashes;
  places.reserve(keys.size());
  hashes.reserve(keys.size());
  for (const Key& key : keys) {
    results.emplace_back(flight_errc::broken);
    try {
      const auto hash = static_cast<std::uint32_t>(flights_.hash_of(key_view_of(key)));
      if (auto known = look_again(key_view_of(key), hash)) {
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
  stats_.add(figure::loads, left.size());

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
      results[places[i]] = conclude(
          left[i], hashes[i],
          [&]() -> loaded {
            if (error != nullptr) std::rethrow_exception(error);
            if (load_many_) return std::move(answers[i]).value();
            return loader_->load(left[i], flights[places[i]]);
          },
          [&] { return flights[places[i]].revoked(); });
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
  return [fn = std::forward<LoadMany>(load_many)](std::span<const Key> keys) mutable {
    auto given = fn(keys);
    std::vector<outcome<loaded>> answers;
    answers.reserve(given.size());
    for (auto& one : given) {
      if (one.has_value()) {
        answers.emplace_back(detail::as_loaded<Value>(std::move(*one)));
      } else if (const auto code = one.errc()) {
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
  const auto made = [](entry& e, bool keep) {
    return made_entry{{&e, hazard_hold(e, nullptr)}, keep};
  };
  const bool extras = store_.has_extras();
  if (!answer.value.has_value()) {
    entry& e = entry::make(extras, hash, now(), entry_kind::absent, std::move(key));
    if (extras) e.extras().weight = std::max<std::size_t>(1, options_.absent_weight);
    return made(e, times_.keeps_absence());
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
  const auto make = [&](auto&& k) -> entry& {
    return entry::make(extras, hash, now(), entry_kind::value, std::forward<decltype(k)>(k),
                       *std::move(answer.value));
  };
  constexpr bool nothing_throws_after = std::is_nothrow_move_constructible_v<Value>;
  entry& e = nothing_throws_after ? make(std::move(key)) : make(as_it_is);
  if (extras) {
    e.extras().ttl = ttl;
    e.extras().weight = weight;
  }
  return made(e, keep);
}

template <class Key, class Value, class Hash, class Equal>
void loading_cache<Key, Value, Hash, Equal>::store_locked(entry& e, entry* old, bool keep,
                                                          typename store_type::departed& gone) {
  if (keep) {
    store_.store_locked(e, old, now(), gone);
  } else if (old != nullptr) {
    store_.remove_locked(*old, removal_cause::replaced, gone);
  }
}

template <class Key, class Value, class Hash, class Equal>
template <class Call, class Forgotten>
auto loading_cache<Key, Value, Hash, Equal>::conclude(Key& key, std::uint32_t hash, Call&& call,
                                                      Forgotten&& forgotten) -> result {
  std::optional<made_entry> made;
  std::exception_ptr error;
  try {
    made.emplace(make_entry(key, hash, call()));
  } catch (...) {
    if (detail::platform::is_thread_exit()) throw;
    error = std::current_exception();
  }
  if (!made) return fail(key, hash, error, forgotten);
  typename store_type::departed gone;
  {
    detail::platform::unique_lock hold(store_.lock());
    entry& e = *made->of.at;
    entry* const old = store_.find_locked(hash, key_view_of(e.key));
    if (detail::platform::holds(detail::rule::forgotten_is_not_stored) && forgotten()) {
      stats_.add(figure::not_stored);
    } else {
      store_locked(e, old, made->keep, gone);
    }
  }
  finish(gone);
  return answer(std::move(made->of), freshness::fresh);
}

template <class Key, class Value, class Hash, class Equal>
template <class Forgotten>
auto loading_cache<Key, Value, Hash, Equal>::fail(Key& key, std::uint32_t hash,
                                                  const std::exception_ptr& error,
                                                  Forgotten&& forgotten) -> result {
  using namespace detail;
  stats_.add(figure::load_failures);
  try {
    found f = store_.find_counted(hash, key_view_of(key));
    const standing stands =
        f && f.at->kind() == entry_kind::value ? standing_of(*f.at) : standing::over;
    if (stands != standing::over) {
      if (store_.has_extras() && !forgotten()) {
        entry_extras& extras = f.at->extras();
        const std::uint32_t failures = extras.failures.fetch_add(1, memory_order_relaxed) + 1;
        extras.retry_at.store(times_.retry_at(now(), failures), memory_order_relaxed);
      }
      return answer(std::move(f), stands == standing::stale ? freshness::stale : freshness::fresh);
    }
    if (times_.keeps_errors()) {
      entry& e = entry::make(store_.has_extras(), hash, now(), entry_kind::error, std::move(key),
                             std::exception_ptr(keep_alive(error)));
      const hazard_hold mine(e, nullptr);
      if (store_.has_extras()) {
        e.extras().weight = std::max<std::size_t>(1, options_.absent_weight);
      }
      typename store_type::departed gone;
      {
        platform::unique_lock hold(store_.lock());
        entry* const old = store_.find_locked(hash, key_view_of(e.key));
        if (!forgotten() || !platform::holds(rule::forgotten_error_is_not_stored)) {
          store_locked(e, old, true, gone);
        }
      }
      finish(gone);
    }
  } catch (...) {  // what is told is how the load failed
    if (platform::is_thread_exit()) throw;
  }
  std::rethrow_exception(error);
}

template <class Key, class Value, class Hash, class Equal>
void loading_cache<Key, Value, Hash, Equal>::finish(typename store_type::departed& gone) {
  store_.finish(gone, [this](removal_cause cause, std::size_t count) {
    stats_.add(static_cast<std::size_t>(figure::left) + static_cast<std::size_t>(cause), count);
  });
  if (timed_) sweep_.need();
}

// ---- changing -----------------------------------------------------------------------------------

template <class Key, class Value, class Hash, class Equal>
template <class Arg>
void loading_cache<Key, Value, Hash, Equal>::put_loaded(const Arg& key, loaded&& value) {
  const detail::call_scope scope;
  const argument<Arg> k(key);
  const std::size_t hash = flights_.hash_of(k.view());
  Key own = access::own(k.view());
  const made_entry made = make_entry(own, static_cast<std::uint32_t>(hash), std::move(value));
  typename store_type::departed gone;
  {
    detail::platform::unique_lock hold(store_.lock());
    entry* const old = store_.find_locked(static_cast<std::uint32_t>(hash), k.view());
    if (detail::platform::holds(detail::rule::put_forgets_flight)) {
      flights_.forget_hashed(hash, k.view());
    }
    store_locked(*made.of.at, old, made.keep, gone);
  }
  finish(gone);
}

template <class Key, class Value, class Hash, class Equal>
template <class Arg>
bool loading_cache<Key, Value, Hash, Equal>::invalidate(const Arg& key) {
  const detail::call_scope scope;
  const argument<Arg> k(key);
  const std::size_t hash = flights_.hash_of(k.view());
  typename store_type::departed gone;
  bool any = false;
  {
    detail::platform::unique_lock hold(store_.lock());
    entry* const e = store_.find_locked(static_cast<std::uint32_t>(hash), k.view());
    if (detail::platform::holds(detail::rule::invalidation_forgets_flight)) {
      any = flights_.forget_hashed(hash, k.view());
    }
    if (e != nullptr) {
      store_.remove_locked(*e, removal_cause::invalidated, gone);
      any = true;
    }
  }
  finish(gone);
  return any;
}

template <class Key, class Value, class Hash, class Equal>
void loading_cache<Key, Value, Hash, Equal>::clear() {
  const detail::call_scope scope;
  typename store_type::departed gone;
  {
    detail::platform::unique_lock hold(store_.lock());
    if (detail::platform::holds(detail::rule::clear_forgets_flights)) flights_.forget_all();
    store_.clear_locked(gone);
  }
  finish(gone);
  store_.flush();
}

/// Forgets all loads first: what is stored from then on began later. Then it goes through the
/// table, some lines at a time; where the table has grown meanwhile, once more.
template <class Key, class Value, class Hash, class Equal>
template <class Which>
std::size_t loading_cache<Key, Value, Hash, Equal>::invalidate_if(Which&& which) {
  constexpr bool by_key = std::is_invocable_v<Which&, const Key&>;
  static_assert(by_key || std::is_invocable_v<Which&, const Key&, const Value&>,
                "singleflight: invalidate_if asks which(key) or which(key, value)");
  constexpr std::size_t lines = 16;
  const detail::call_scope scope;
  std::vector<found> some;
  std::size_t count = 0;
  {
    detail::platform::unique_lock hold(store_.lock());
    if (detail::platform::holds(detail::rule::filter_forgets_flights)) flights_.forget_all();
  }
  std::size_t at = 0;
  std::size_t size = 0;
  do {
    some.reserve(lines * detail::entry_line::places);
    {
      detail::platform::unique_lock hold(store_.lock());
      if (store_.lines_locked() != size) {
        size = store_.lines_locked();
        at = 0;
      }
      at = store_.visit_locked(at, lines, [&](entry& e) {
        e.add_reference();
        some.push_back({&e, detail::hazard_hold(e, nullptr)});
      });
    }
    std::erase_if(some, [&](found& f) {
      if constexpr (by_key) {
        return !which(f.at->key);
      } else {
        return f.at->kind() != detail::entry_kind::value || !which(f.at->key, f.at->value);
      }
    });
    if (!some.empty()) {
      typename store_type::departed gone;
      {
        detail::platform::unique_lock hold(store_.lock());
        for (const found& f : some) {
          if (f.at->place.load(detail::memory_order_relaxed) == detail::reclaimable::left) continue;
          store_.remove_locked(*f.at, removal_cause::invalidated, gone);
          ++count;
        }
      }
      finish(gone);
    }
    some.clear();
  } while (at != 0);
  if (count > 0) store_.flush();
  return count;
}

template <class Key, class Value, class Hash, class Equal>
template <class Arg>
void loading_cache<Key, Value, Hash, Equal>::refresh(const Arg& key) {
  const argument<Arg> k(key);
  start_load(k.view(), static_cast<std::uint32_t>(flights_.hash_of(k.view())),
             own_loader{*this}.own(), true)
      .detach();
}

/// Some lines at a time: nobody waits for the whole table.
template <class Key, class Value, class Hash, class Equal>
bool loading_cache<Key, Value, Hash, Equal>::sweep(void* of) {
  auto& self = *static_cast<loading_cache*>(of);
  constexpr std::size_t lines = 64;
  bool at_end = false;
  bool more = false;
  while (!at_end) {
    typename store_type::departed gone;
    {
      detail::platform::unique_lock hold(self.store_.lock());
      at_end = self.store_.sweep_locked(lines, self.now(), gone);
      more = self.store_.size_locked() > 0;
    }
    self.store_.finish(gone, [&self](removal_cause cause, std::size_t count) {
      self.stats_.add(static_cast<std::size_t>(figure::left) + static_cast<std::size_t>(cause),
                      count);
    });
  }
  self.store_.flush();
  return more;
}

// ---- looking ------------------------------------------------------------------------------------

template <class Key, class Value, class Hash, class Equal>
cache_stats loading_cache<Key, Value, Hash, Equal>::stats() const {
  const auto sum = stats_.totals();
  const auto of = [&sum](figure f) { return sum[static_cast<std::size_t>(f)]; };
  const auto left = [&sum](removal_cause cause) {
    return sum[static_cast<std::size_t>(figure::left) + static_cast<std::size_t>(cause)];
  };
  cache_stats s{
      .hits = of(figure::hits),
      .stale_hits = of(figure::stale_hits),
      .misses = of(figure::misses),
      .loads = of(figure::loads),
      .load_failures = of(figure::load_failures),
      .refreshes = of(figure::refreshes),
      .not_stored = of(figure::not_stored),
      .evicted = left(removal_cause::evicted),
      .expired = left(removal_cause::expired),
      .replaced = left(removal_cause::replaced),
      .invalidated = left(removal_cause::invalidated),
  };
  detail::platform::unique_lock hold(store_.lock());
  s.entries = store_.size_locked();
  s.weight = store_.weight_locked();
  return s;
}

template <class Key, class Value, class Hash, class Equal>
void loading_cache<Key, Value, Hash, Equal>::observe(metric_visitor& visitor) const {
  const cache_stats s = stats();
  visitor.counter("hits", s.hits);
  visitor.counter("stale_hits", s.stale_hits);
  visitor.counter("misses", s.misses);
  visitor.counter("loads", s.loads);
  visitor.counter("load_failures", s.load_failures);
  visitor.counter("refreshes", s.refreshes);
  visitor.counter("not_stored", s.not_stored);
  visitor.counter("evicted", s.evicted);
  visitor.counter("expired", s.expired);
  visitor.counter("replaced", s.replaced);
  visitor.counter("invalidated", s.invalidated);
  visitor.gauge("entries", s.entries);
  visitor.gauge("weight", s.weight);
}

template <class Key, class Value, class Hash, class Equal>
template <class Arg>
entry_info loading_cache<Key, Value, Hash, Equal>::explain(const Arg& key) const {
  using namespace detail;
  const argument<Arg> k(key);
  const found f = store_.find(static_cast<std::uint32_t>(flights_.hash_of(k.view())), k.view());
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
