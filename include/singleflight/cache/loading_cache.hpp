// SPDX-License-Identifier: Apache-2.0
#pragma once

/// loading_cache: stores what its loader returns; a missing key is loaded once for all its callers.
///
/// Use when    answers are needed more often than they change.
/// Not for     sharing calls that overlap without storing their answers (flight/group.hpp); one
///             value without a key (cache/live_value.hpp).
/// Example     examples/15_loading_cache.cpp
///
/// Threads     every member, from any thread; the destructor once no new call can begin.
/// Ordering    after invalidate(k) returns, no get, find or get_all that begins later sees a value,
///             fresh or stale, whose load began before invalidate was called; the same for put,
///             clear and invalidate_if. A load that began before is delivered to the callers that
///             already wait for it, and is not stored. What a load did happens-before every use of
///             its value (P7).
/// Blocking    a hit never waits. A miss leads the key's load on the calling thread, or waits for
///             it, up to its limits; with soft_timeout, or a loader that is awaited, loads run on
///             the executor. start_get never blocks.
/// Cancel      a limit ends this caller's wait only. A load continues when all its callers have
///             left: its answer is stored.
/// Errors      the loader's exception, to every sharer, own type, unless a stale value is served
///             (stale_if_error). flight_error for the library's own. std::invalid_argument for
///             options out of range. A throwing hash, comparison, key copy or allocation harms its
///             own call only. A comparison must not use a cache. Keys and values convert as in a
///             group: where nothing is lost.
/// Lifetime    owns its loader and copies of its keys; get borrows its arguments, except for a
///             loader whose load is started. The destructor asks running loads to stop, and waits
///             for them. Handles may outlive the cache; so may a started load, with the loader that
///             was passed for it and its value: until the thread that has answered it releases it,
///             and the executor has run its task.
/// Cost        a hit: no wait, no allocation, no clock call, no read-modify-write; one that finds
///             its entry far from its home line may move it there, if the cache's lock is free, at
///             most once for three hits of an entry. A miss: one allocation, one short critical
///             section in addition to the load; while the table grows or shrinks, it also moves
///             up to 22 entries (some 50 ns each). An entry: 47 bytes in addition to the key and
///             the value, and 32 more with weights, individual ttls, refresh_after or
///             stale_if_error. Removed entries
///             may wait to be freed together: a 32nd of the capacity (of a small one, an eighth),
///             256 entries at most.

#include <concepts>
#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include "singleflight/cache/cache_options.hpp"
#include "singleflight/cache/cached.hpp"
#include "singleflight/cache/detail/cache_core.hpp"
#include "singleflight/cache/detail/cache_door.hpp"
#include "singleflight/cache/detail/entry_store.hpp"
#include "singleflight/cache/detail/expiry_sweep.hpp"
#include "singleflight/cache/detail/loader.hpp"
#include "singleflight/cache/detail/rules.hpp"
#include "singleflight/cache/pending_cached.hpp"
#include "singleflight/flight/detail/group_door.hpp"
#include "singleflight/flight/group.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE

template <class Key, class Value, class Hash = key_hash<Key>, class Equal = key_equal>
class loading_cache final : public observable {
  static_assert(
      std::is_object_v<Value> && !std::is_const_v<Value> && std::move_constructible<Value>,
      "singleflight: a cache keeps values: Value is an object type, without const, that can be "
      "moved");
  using access = detail::key_access<Key, Hash, Equal>;
  using view = typename access::view;
  template <class Arg>
  using argument = detail::key_argument<Key, access, Arg>;
  using loader_type = detail::cache_loader<Key, Value>;
  using loaded = detail::loaded<Value>;
  using store_type = detail::entry_store<Key, Value, access, Equal>;
  using entry = typename store_type::entry;
  using found = typename store_type::found;

 public:
  using key_type = Key;
  using mapped_type = Value;
  using options = cache_options<Key, Value>;
  using result = cached<Value>;

  /// `loader(key)`, `loader(key, flight_context&)` or `loader(key, std::stop_token)` returns a
  /// Value, a std::optional of one (empty if the key has no value), a with_ttl, or an awaitable
  /// that yields one of these. It is called from any thread, also concurrently.
  template <class Loader>
    requires(!std::same_as<std::remove_cvref_t<Loader>, loading_cache>)
  explicit loading_cache(Loader&& loader, options settings = {}, Hash hash = {}, Equal equal = {})
      : loading_cache(detail::make_loader<Key, Value>(std::forward<Loader>(loader)), bulk_loader{},
                      std::move(settings), std::move(hash), std::move(equal)) {}
  /// Also takes a `load_many(std::span<const Key>)` for get_all, which returns
  /// std::vector<outcome<Value>>, by position, or a vector of outcomes of std::optional<Value> or
  /// with_ttl<Value>.
  template <class Loader, class LoadMany>
    requires(!std::is_convertible_v<LoadMany, options>)
  loading_cache(Loader&& loader, LoadMany&& load_many, options settings = {}, Hash hash = {},
                Equal equal = {})
      : loading_cache(detail::make_loader<Key, Value>(std::forward<Loader>(loader)),
                      bulk_loader_of(std::forward<LoadMany>(load_many)), std::move(settings),
                      std::move(hash), std::move(equal)) {}
  loading_cache(const loading_cache&) = delete;
  loading_cache& operator=(const loading_cache&) = delete;
  /// Requires that no call is in progress.
  ~loading_cache() {
    store_.end_notifications();
    // Its removal listener may use this cache, and so start flights.
    if (detail::platform::holds(detail::rule::sweep_ends_before_flights)) sweep_.stop();
  }

  // ---- getting ----------------------------------------------------------------------------------

  /// Returns the value of `key`: the stored one, or the one that its load returns.
  template <class Arg>
  result get(const Arg& key) {
    return get_by(key, [this](view k, std::uint32_t hash) { return get_own(k, hash); });
  }
  template <class Arg>
  result get(const Arg& key, const limits& bounds) {
    return get_by(key, [&](view k, std::uint32_t hash) {
      return get_slow(k, hash, own_loader{*this}, &bounds);
    });
  }
  /// Like get, but with `loader` instead of the cache's, if this call leads the load. It is
  /// borrowed, but copied or moved if its load is started (it is awaited, or soft_timeout is set):
  /// such a load may outlast the call.
  template <class Arg, class Loader>
    requires(!std::convertible_to<const Loader&, const limits&>)
  result get(const Arg& key, Loader&& loader, const limits& bounds = {}) {
    return get_by(key, [&](view k, std::uint32_t hash) {
      return get_slow(k, hash, given_loader<Loader>{std::forward<Loader>(loader)},
                      unbounded(bounds) ? nullptr : &bounds);
    });
  }
  /// Like get, for a caller that awaits, or that must not lead; the load runs on the executor. A
  /// stored value is in the handle at once.
  template <class Arg>
  [[nodiscard]] pending_cached<Value> start_get(const Arg& key) {
    return start_get_by(key, own_loader{*this});
  }
  template <class Arg, class Loader>
  [[nodiscard]] pending_cached<Value> start_get(const Arg& key, Loader&& loader) {
    return start_get_by(key, given_loader<Loader>{std::forward<Loader>(loader)});
  }
  /// Returns the stored value, or absence, unless its ttl has ended; a stored error is a miss.
  /// Never loads, and starts nothing.
  template <class Arg>
  std::optional<result> find(const Arg& key);
  /// Returns one outcome per key, by position, repeats included. Keys in flight are joined; the
  /// others are loaded by one call of `load_many`, or, without one, one after the other: a caller
  /// that joins one of these waits for the last.
  template <class Keys>
  std::vector<outcome<result>> get_all(const Keys& keys, const limits& bounds = {});

  // ---- changing ---------------------------------------------------------------------------------

  /// Stores `value` as if it had just been loaded; a load of `key` in progress is forgotten.
  /// Throws what the weigher or ttl_of throws, and has changed nothing then.
  template <class Arg, class V = Value>
    requires std::constructible_from<Value, V&&>
  void put(const Arg& key, V&& value) {
    put_loaded(key, loaded{detail::value_from<Value>(std::forward<V>(value))});
  }
  /// Like put, but with a ttl for this value; for a cache whose entries have their own (ttl_of, or
  /// a loader that returns with_ttl).
  template <class Arg>
  void put(const Arg& key, with_ttl<Value> value) {
    put_loaded(key, loaded{std::move(value.value), value.ttl});
  }
  /// Returns whether there was an entry, or a load in progress.
  template <class Arg>
  bool invalidate(const Arg& key);
  /// Removes all entries for which `which(key)` or `which(key, value)` holds (the latter is called
  /// for values only), and forgets every load in progress. Returns how many entries were removed.
  /// `which` is called with no lock held, and should give the same answer each time. It is passed
  /// the key as keys are looked up (key_view_t, or a Key if the hash takes no view); if its
  /// parameter does not accept that, a Key that is made for the call.
  template <class Which>
  std::size_t invalidate_if(Which&& which);
  void clear();
  /// Reloads `key` in the background, on the executor; callers keep getting the current value.
  /// Joins a load in progress. If it fails, the stored value stays.
  template <class Arg>
  void refresh(const Arg& key);

  // ---- looking ----------------------------------------------------------------------------------

  cache_stats stats() const { return core_.totals(store_, flights_.stats()); }
  void observe(metric_visitor& visitor) const override {
    detail::cache_core::observe(visitor, stats());
  }

  /// The cache's capacity, its weight, and what it stores of a key.
  class policy_view {
   public:
    std::size_t capacity() const noexcept { return cache_.store_.capacity(); }
    /// Returns the sum of the weights now.
    std::size_t weight() const { return cache_.stats().weight; }
    template <class Arg>
    entry_info explain(const Arg& key) const {
      return cache_.explain(key);
    }

   private:
    friend loading_cache;
    explicit policy_view(const loading_cache& cache) noexcept : cache_(cache) {}
    const loading_cache& cache_;
  };
  policy_view policy() const noexcept { return policy_view(*this); }

 private:
  using bulk_loader = std::function<std::vector<outcome<loaded>>(std::span<const Key>)>;
  using entry_freshness = detail::entry_freshness;
  using removed_entries = detail::removed_entries;
  using counter = detail::cache_core::counter;

  loading_cache(std::unique_ptr<loader_type>&& loader, bulk_loader&& load_many, options&& settings,
                Hash&& hash, Equal&& equal);

  static group_options group_options_of(const options& settings);
  template <class LoadMany>
  static bulk_loader bulk_loader_of(LoadMany&& load_many);

  // ---- hits -------------------------------------------------------------------------------------

  detail::cache_ticks now() const noexcept { return core_.now(); }
  entry_freshness freshness_of(entry& e) const noexcept {
    if (!core_.timed) return entry_freshness::fresh;
    return core_.times.freshness_of(e, now(), store_.has_extras());
  }
  /// The low 32 bits of the group's hash of the key, which is what an entry stores.
  std::uint32_t entry_hash(view key) const {
    return static_cast<std::uint32_t>(detail::group_door::hash_of(flights_, key));
  }
  bool is_fresh(entry& e) const noexcept {
    const entry_freshness state = freshness_of(e);
    return state == entry_freshness::fresh || state == entry_freshness::due;
  }
  result answer(found&& f, freshness as) const noexcept;

  /// Whether a hit needs no further work: the entry is a value, neither past its ttl nor due.
  bool is_plain_hit(entry& e) const { return !core_.timed || core_.times.is_young(e, now()); }
  result plain_hit(entry& e, detail::hazard_hold&& hold) {
    store_.hit(e);
    result hit = detail::cache_door::make_cached<Value>(std::move(hold), std::addressof(e.value),
                                                        core_.clock, freshness::fresh);
    core_.stats.add(counter::hits);
    return hit;
  }
  /// A hit is compiled into one piece without calls; all other work is at its ends, so that
  /// successive hits of one thread overlap in the processor as they wait for its memory.
  template <class Arg, class Slow>
  SINGLEFLIGHT_FLAT result get_by(const Arg& key, const Slow& slow) {
    const argument<Arg> k(key);
    const auto hash = entry_hash(k.view());
    const auto seen = store_.glance(hash, k.view());
    if (seen.entry != nullptr) [[likely]] {
      if (is_plain_hit(*seen.entry)) [[likely]] {
        return plain_hit(*seen.entry, detail::hazard_hold(*seen.entry, seen.slot));
      }
      const detail::hazard_hold too_old(*seen.entry, seen.slot);
    }
    return slow(k.view(), hash);
  }
  SINGLEFLIGHT_NOINLINE result get_own(view key, std::uint32_t hash) {
    return get_slow(key, hash, own_loader{*this}, nullptr);
  }
  /// Called for a key that a glance did not find. One hit in fifty still comes here: its entry is
  /// further from its home line, or behind another one with the same tag.
  template <class Source>
  SINGLEFLIGHT_NOINLINE result get_slow(view key, std::uint32_t hash, const Source& source,
                                        const limits* bounds);
  template <class Source>
  SINGLEFLIGHT_NOINLINE result get_after_lookup(view key, std::uint32_t hash, found seen,
                                                std::uint64_t stamp, const Source& source,
                                                const limits* bounds);
  template <class Source>
  SINGLEFLIGHT_COLD result get_over_stale(view key, std::uint32_t hash, const Source& source,
                                          const limits* bounds);
  template <class Arg, class Source>
  pending_cached<Value> start_get_by(const Arg& key, const Source& source);
  /// Returns the answer that needs no load, if there is one, and counts it. Calls refresh() for a
  /// value that is due, if this hit is the one that has to begin its load.
  template <class Refresh>
  std::optional<outcome<result>> answer_now(found& f, entry_freshness state,
                                            const Refresh& refresh);
  void refresh_behind(view key, std::uint32_t hash);
  void refresh_behind(const std::vector<Key>& keys);

  // ---- loads ------------------------------------------------------------------------------------

  /// The cache's own loader, and one that was passed with a call: sources of a load.
  struct own_loader;
  template <class Fn>
  struct given_loader;

  static view key_view_of(const Key& key) noexcept { return access::load_own(key); }
  static bool unbounded(const limits& bounds) noexcept;
  template <class Source>
  result load_and_wait(view key, std::uint32_t hash, std::uint64_t stamp, const Source& source,
                       const limits* bounds);
  template <class Source>
  outcome<result> load_within(view key, std::uint32_t hash, std::uint64_t stamp,
                              const Source& source, const limits& bounds);
  outcome<result> wait_for(flight<result>& load, const limits& bounds,
                           detail::blocked_wait::form form = detail::blocked_wait::form::take);
  std::optional<result> serve_stale(view key, std::uint32_t hash, bool hold_off);

  /// Why a load begins.
  enum class cause : std::uint8_t {
    missing,  ///< a caller found nothing, or nothing fresh
    due,      ///< a hit found a value that is due
    forced,   ///< refresh(): whatever is stored
  };
  flight<result> start_load(view key, std::uint32_t hash, std::shared_ptr<loader_type> loader,
                            cause why);
  struct awaited_load;

  /// Returns what other flights have stored since the caller of this flight looked, if that makes
  /// the load unnecessary.
  std::optional<outcome<result>> look_again(view key, std::uint32_t hash, cause why);
  void count_loads(cause why, std::size_t count) noexcept;
  /// Runs the load of `flight`. `stamp` is the store's stamp, read before the caller looked up the
  /// key and found nothing; it is 0 if the caller did not look, or found something.
  template <class Load>
  result lead(view key, std::uint32_t hash, std::uint64_t stamp, const flight_context& flight,
              cause why, const Load& load);

  /// Loads the flights of a bulk call together.
  std::vector<outcome<result>> lead_many(std::span<const Key> keys,
                                         const detail::bulk_flights& flights, cause why);
  class bulk_get;   // one call of get_all
  class bulk_load;  // one call of lead_many

  /// Ends a load with what it returns or throws: stores that unless the flight has been revoked, or
  /// serves the stored value instead. May move from `key`.
  template <class Load>
  result conclude(Key& key, std::uint32_t hash, std::uint64_t stamp, const flight_context& flight,
                  const Load& load);
  SINGLEFLIGHT_COLD result fail(Key& key, std::uint32_t hash, const flight_context& flight,
                                const std::exception_ptr& error);
  void store_error(Key& key, std::uint32_t hash, const flight_context& flight,
                   const std::exception_ptr& error);

  struct made_entry : found {
    bool keep;  ///< it is to be stored
    detail::cache_ticks made_at;
  };
  made_entry make_entry(Key& key, std::uint32_t hash, loaded&& answer);
  /// Stores what the load of `flight` returned unless the flight has been revoked, and returns it.
  SINGLEFLIGHT_NOINLINE result store(made_entry&& made, std::uint32_t hash, std::uint64_t stamp,
                                     const flight_context& flight);
  /// Returns whether the entry that is stored (null if there is none) may be newer than what the
  /// load of `flight` returned, since that flight has been overtaken.
  bool may_be_newer(entry* stored, const flight_context& flight) const noexcept;
  /// Called under the store's lock; reads no clock.
  void store_locked(const made_entry& made, entry* old, removed_entries& removed) noexcept;
  /// cache_core::finish(), the last thing that a call does.
  void finish(removed_entries& removed) { core_.finish(store_, removed); }
  /// Like finish(), after something may have been stored: also makes sure that a sweep follows.
  void finish_store(removed_entries& removed);

  // ---- changes ----------------------------------------------------------------------------------

  template <class Arg>
  void put_loaded(const Arg& key, loaded&& value);
  template <class Which>
  class filter;
  static bool sweep(void* cache) {
    auto& self = *static_cast<loading_cache*>(cache);
    return self.core_.sweep(self.store_);
  }

  template <class Arg>
  entry_info explain(const Arg& key) const;

  const options options_;
  const std::unique_ptr<loader_type> loader_;
  const bulk_loader load_many_;
  detail::cache_core core_;
  store_type store_;
  detail::expiry_sweep sweep_;
  group<Key, result, Hash, Equal> flights_;  // the last member: its loads end first
};

SINGLEFLIGHT_END_NAMESPACE

#include "singleflight/cache/impl/loading_cache_answers.hpp"
#include "singleflight/cache/impl/loading_cache_bulk.hpp"
#include "singleflight/cache/impl/loading_cache_changes.hpp"
#include "singleflight/cache/impl/loading_cache_ends.hpp"
#include "singleflight/cache/impl/loading_cache_loads.hpp"
#include "singleflight/cache/impl/loading_cache_look.hpp"
