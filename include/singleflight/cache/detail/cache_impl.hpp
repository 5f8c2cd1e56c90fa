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
  start_load(key, hash, own_loader{*this}.own(), true).detach();
}

// ---- asking -------------------------------------------------------------------------------------

template <class Key, class Value, class Hash, class Equal>
template <class Source>
auto loading_cache<Key, Value, Hash, Equal>::get_slowly(view key, std::uint32_t hash, found f,
                                                        const Source& source, const limits* bounds)
    -> result {
  const auto stands = f ? standing_of(*f.at) : detail::standing::over;
  if (auto known = answer_now(key, hash, f, stands)) return std::move(*known).value();
  if (stands != detail::standing::stale || options_.soft_timeout.count() == 0) {
    f = {};
    stats_.add(figure::misses);
    return load_and_wait(key, hash, source, bounds);
  }
  // The load is given so long; then it goes on alone, as this group's loads do.
  flight<result> f_load = start_load(key, hash, source.own(), false);
  auto by = detail::deadline_after(clock_.now(), options_.soft_timeout);
  if (bounds != nullptr && bounds->deadline < by) by = bounds->deadline;
  auto in_time =
      f_load.until(by, bounds != nullptr ? bounds->stop : std::stop_token{}).get_outcome();
  if (in_time.errc() == flight_errc::timed_out) {
    // Who comes next does not wait as long again.
    f.at->extras().retry_at.store(times_.retry_at(now(), 1), detail::memory_order_relaxed);
    stats_.add(figure::stale_hits);
    return answer(std::move(f), freshness::stale);
  }
  stats_.add(figure::misses);
  return take(std::move(in_time).value());
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
    flight<result> f = start_load(key, hash, source.own(), false);
    if (bounds == nullptr) return take(f.get());
    return take(handle_wait<flight<result>, detail::no_executor, false, detail::flight_within>(
                    f, bounds->deadline, bounds->stop, bounds->within, {})
                    .get());
  }
  const auto load = [&](flight_context& flight) {
    return lead(key, hash, flight, false, [&](const Key& own) { return source.load(own, flight); });
  };
  return take(bounds == nullptr ? flights_.run(key, load) : flights_.run(key, load, *bounds));
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
    std::vector<flight<result>> started;
    started.reserve(missing.size());
    for (const Key& key : missing) {
      started.push_back(start_load(key, static_cast<std::uint32_t>(flights_.hash_of(key)),
                                   own_loader{*this}.own(), false));
    }
    for (std::size_t i = 0; i < started.size(); ++i) {
      auto one = started[i].until(bounds.deadline, bounds.stop).get_outcome();
      if (one.has_value()) {
        all[places[i]] = take(std::move(*one));
      } else if (const auto code = one.errc()) {
        all[places[i]] = *code;
      } else {
        all[places[i]] = one.exception();
      }
    }
    return all;
  }
  auto each = flights_.run_many(
      missing,
      [this](std::span<const Key> these, const detail::bulk_flights& flights) {
        return lead_many(these, flights);
      },
      bounds);
  for (std::size_t i = 0; i < each.size(); ++i) {
    if (each[i].has_value()) {
      all[places[i]] = take(std::move(*each[i]));
    } else if (const auto code = each[i].errc()) {
      all[places[i]] = *code;
    } else {
      all[places[i]] = each[i].exception();
    }
  }
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
          [this] { return promise.context().forgotten(); }));
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
      [&flight] { return flight.forgotten(); });
}

template <class Key, class Value, class Hash, class Equal>
auto loading_cache<Key, Value, Hash, Equal>::lead_many(std::span<const Key> keys,
                                                       const detail::bulk_flights& flights)
    -> std::vector<outcome<result>> {
  std::vector<outcome<result>> results;
  std::vector<Key> left;
  std::vector<std::size_t> places;
  for (const Key& key : keys) {
    results.emplace_back(flight_errc::broken);
    if (auto known = look_again(key_view_of(key),
                                static_cast<std::uint32_t>(flights_.hash_of(key_view_of(key))))) {
      results.back() = *std::move(known);
      continue;
    }
    left.push_back(key);
    places.push_back(results.size() - 1);
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
    const auto hash = static_cast<std::uint32_t>(flights_.hash_of(key_view_of(left[i])));
    try {
      results[places[i]] = conclude(
          left[i], hash,
          [&]() -> loaded {
            if (error != nullptr) std::rethrow_exception(error);
            if (load_many_) return std::move(answers[i]).value();
            return loader_->load(left[i], flights[places[i]]);
          },
          [&] { return flights[places[i]].forgotten(); });
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
    return made(entry::make(extras, hash, now(), entry_kind::absent, std::move(key)),
                times_.keeps_absence());
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
  const auto take_key = [&]() -> Key {
    if constexpr (std::is_nothrow_move_constructible_v<Value>) {
      return std::move(key);
    } else {
      return as_it_is;
    }
  };
  entry& e =
      entry::make(extras, hash, now(), entry_kind::value, take_key(), *std::move(answer.value));
  if (extras) {
    e.extras().ttl = ttl;
    e.extras().weight = weight;
  }
  return made(e, keep);
}

template <class Key, class Value, class Hash, class Equal>
void loading_cache<Key, Value, Hash, Equal>::store_locked(entry& e, bool keep,
                                                          typename store_type::departed& gone) {
  if (keep) {
    store_.store_locked(e, now(), gone);
  } else if (entry* const old = store_.find_locked(e.hash, key_view_of(e.key))) {
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
    if (detail::platform::holds(detail::rule::forgotten_is_not_stored) && forgotten()) {
      stats_.add(figure::not_stored);
    } else {
      store_locked(*made->of.at, made->keep, gone);
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
    typename store_type::departed gone;
    {
      platform::unique_lock hold(store_.lock());
      if (!forgotten() || !platform::holds(rule::forgotten_error_is_not_stored)) {
        store_locked(e, true, gone);
      }
    }
    finish(gone);
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
    if (detail::platform::holds(detail::rule::put_forgets_flight)) {
      flights_.forget_hashed(hash, k.view());
    }
    store_locked(*made.of.at, made.keep, gone);
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
