// SPDX-License-Identifier: Apache-2.0
#pragma once

// loading_cache: its construction, and its loads: their sources, and how they begin.
//
// The generation of a key is its flight. A load stores its value under the store's lock, and only
// while its flight is not revoked; invalidate and put forget the flight under the same lock, clear
// and invalidate_if forget all flights (loading_cache_changes.hpp). So of a load and an
// invalidation that overlap, one comes first:
//   the store: the invalidation finds the entry, and removes it;
//   the invalidation: the load sees that its flight is revoked, and its value is returned only to
//   the callers that wait for it. Later callers do not find that flight.
// A load that answers with an entry that it has found in the store follows another rule: the head
// of loading_cache_changes.hpp.
//
// New callers may also no longer find a flight because of join_window or load_timeout. The answer
// of such a flight is stored, unless something fresh is there, which may be newer. As long as it
// runs, forget marks it as well.

#include "singleflight/cache/detail/rules.hpp"
#include "singleflight/cache/loading_cache.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE

// ---- where a load comes from --------------------------------------------------------------------

/// The cache's own loader.
template <class Key, class Value, class Hash, class Equal>
struct loading_cache<Key, Value, Hash, Equal>::own_loader {
  loading_cache& cache;
  bool awaits() const noexcept { return cache.loader_->awaits(); }
  loaded load(const Key& key, const flight_context& context) const {
    return cache.loader_->load(key, context);
  }
  std::shared_ptr<loader_type> own() const {  // it outlives every load: no count
    return {std::shared_ptr<void>(), cache.loader_.get()};
  }
};
/// A loader that was passed with a call, which borrows it unless the load is started.
template <class Key, class Value, class Hash, class Equal>
template <class Fn>
struct loading_cache<Key, Value, Hash, Equal>::given_loader {
  Fn&& fn;
  using made = detail::cache_loader_of<Key, Value, std::remove_cvref_t<Fn>>;
  static constexpr bool awaits() noexcept { return made::awaited; }
  loaded load(const Key& key, const flight_context& context) const {
    if constexpr (made::awaited) {
      std::terminate();
    } else {
      return detail::as_loaded<Value>(detail::call_with_key(fn, key, context));
    }
  }
  std::shared_ptr<loader_type> own() const { return std::make_shared<made>(std::forward<Fn>(fn)); }
};

// ---- construction -------------------------------------------------------------------------------

template <class Key, class Value, class Hash, class Equal>
loading_cache<Key, Value, Hash, Equal>::loading_cache(std::unique_ptr<loader_type>&& loader,
                                                      bulk_loader&& load_many, options&& settings,
                                                      Hash&& hash, Equal&& equal)
    : options_(std::move(settings)),
      loader_(std::move(loader)),
      load_many_(std::move(load_many)),
      core_(options_, loader_->gives_ttl()),
      store_(options_, core_.times, equal),
      sweep_(core_.clock, core_.times.sweep_interval(), &loading_cache::sweep, this),
      flights_(group_options_of(options_), std::move(hash), std::move(equal)) {}

template <class Key, class Value, class Hash, class Equal>
group_options loading_cache<Key, Value, Hash, Equal>::group_options_of(const options& settings) {
  group_options group = settings.group;
  group.on_abandon = abandon::finish;
  return group;
}

// ---- how a load begins --------------------------------------------------------------------------

/// A load that is awaited: it lives until it has answered, with all that the loader borrows.
template <class Key, class Value, class Hash, class Equal>
struct loading_cache<Key, Value, Hash, Equal>::awaited_load final : detail::load_answer<Value> {
  awaited_load(loading_cache& cache, const Key& k, std::uint32_t h, std::shared_ptr<loader_type> l,
               flight_promise<result>&& p)
      : owner(cache), key(k), hash(h), loader(std::move(l)), promise(std::move(p)) {}

  void answer(loaded* value, std::exception_ptr error) override {
    const detail::on_errand errand;  // on whatever thread its coroutine has resumed
    std::optional<result> settled;
    try {
      const auto answered = [&](const Key&) -> loaded {
        if (value == nullptr) std::rethrow_exception(error);
        return std::move(*value);
      };
      settled.emplace(owner.conclude(key, hash, 0, promise.context(), answered));
    } catch (...) {
      if (detail::platform::is_thread_exit()) throw;
      error = std::current_exception();
    }
    if (settled) {  // this may destroy the cache
      promise.set_value(*std::move(settled));
    } else {
      promise.set_error(std::move(error));
    }
  }

  loading_cache& owner;
  Key key;
  const std::uint32_t hash;
  const std::shared_ptr<loader_type> loader;
  flight_promise<result> promise;
};

template <class Key, class Value, class Hash, class Equal>
auto loading_cache<Key, Value, Hash, Equal>::start_load(view key, std::uint32_t hash,
                                                        std::shared_ptr<loader_type> loader,
                                                        cause why) -> flight<result> {
  if (!loader->awaits()) {
    return flights_.start(key, [this, own = access::own(key), hash, loader = std::move(loader),
                                why](flight_context& flight) {
      const auto load = [&](const Key& k) { return loader->load(k, flight); };
      return lead(key_view_of(own), hash, 0, flight, why, load);
    });
  }
  return flights_.start(key, [this, own = access::own(key), hash, loader = std::move(loader),
                              why](flight_promise<result> promise) {
    if (auto known = look_again(key_view_of(own), hash, why)) {
      return promise.set_outcome(*std::move(known));
    }
    count_loads(why, 1);
    auto load = std::make_unique<awaited_load>(*this, own, hash, loader, std::move(promise));
    awaited_load& l = *load;
    loader->begin(l.key, l.promise.context(), std::move(load));
  });
}

/// Between a caller's look and its load others may have loaded: they stored a value, or failed, and
/// then this load has to wait as the load of a later caller would (retry_after, error_ttl).
template <class Key, class Value, class Hash, class Equal>
auto loading_cache<Key, Value, Hash, Equal>::look_again(view key, std::uint32_t hash, cause why)
    -> std::optional<outcome<result>> {
  using namespace detail;
  if (why == cause::forced || !platform::holds(rule::load_looks_again)) return std::nullopt;
  found f = store_.find_counted(hash, key);
  if (!f) return std::nullopt;
  const entry_freshness state = freshness_of(*f.entry);
  if (state == entry_freshness::expired) return std::nullopt;
  const bool failure_counts = platform::holds(rule::late_comer_sees_failure);
  if (f.entry->kind() == entry_kind::error) {
    if (!failure_counts) return std::nullopt;
    return outcome<result>(f.entry->error);
  }
  if (state == entry_freshness::stale || (state == entry_freshness::due && why == cause::due)) {
    if (!failure_counts || !core_.holds_off_loads(*f.entry)) return std::nullopt;
  }
  return answer(std::move(f),
                state == entry_freshness::stale ? freshness::stale : freshness::fresh);
}

template <class Key, class Value, class Hash, class Equal>
void loading_cache<Key, Value, Hash, Equal>::count_loads(cause why, std::size_t count) noexcept {
  if (why != cause::missing) core_.stats.add(counter::refreshes, count);
  core_.stats.add(counter::loads, count);
}

template <class Key, class Value, class Hash, class Equal>
template <class Load>
auto loading_cache<Key, Value, Hash, Equal>::lead(view key, std::uint32_t hash, std::uint64_t stamp,
                                                  const flight_context& flight, cause why,
                                                  const Load& load) -> result {
  if (!store_.still_lacks(stamp)) {
    if (auto known = look_again(key, hash, why)) return std::move(*known).value();
  }
  count_loads(why, 1);
  Key own = access::own(key);
  return conclude(own, hash, stamp, flight, load);
}

SINGLEFLIGHT_END_NAMESPACE
