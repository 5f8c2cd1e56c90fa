// SPDX-License-Identifier: Apache-2.0
#pragma once

/// loading_cache: keeps what was loaded; a key that is not there is loaded once, for all who ask.
///
/// Use when    answers are asked for more often than they change.
/// Not for     calls that overlap, and whose answers are not to be kept (flight/group.hpp); one
///             value without a key (cache/live_value.hpp).
/// Example     examples/15_loading_cache.cpp
///
/// Threads     every member, from any thread; the destructor once no new call can begin.
/// Ordering    after invalidate(k) returns, no get, find or get_all that begins later sees a value,
///             fresh or stale, whose load began before invalidate was called; the same for put,
///             clear and invalidate_if. A load of that time answers those who wait for it already,
///             and is not stored. What a load did happens-before every use of its value (P7).
/// Blocking    a hit never waits. A miss leads the key's load on the calling thread, or waits for
///             it, up to its limits; with soft_timeout, or a loader that is awaited, loads run on
///             the executor. start_get never blocks.
/// Cancel      a limit ends this caller's wait only. A load goes on when everybody has left: its
///             answer is stored.
/// Errors      the loader's exception, to every sharer, own type, unless a stale value is served
///             (stale_if_error). flight_error for the library's own. std::invalid_argument for
///             options out of range. A throwing hash, comparison, key copy or allocation harms its
///             own call only. A comparison must not ask a cache. Keys and values convert as in a
///             group: where nothing is lost.
/// Lifetime    owns its loader and copies of its keys; get borrows its arguments, but for a loader
///             that is started. The destructor tells running loads to stop, and waits for them.
///             Handles outlive the cache; so may a load that was started, with the loader that was
///             given for it and its value: until the thread that has answered it lets go, and the
///             executor has come to its task.
/// Cost        a hit: no wait, no allocation, no clock call, no read-modify-write; one that finds
///             its entry far from where it looked first may move it, if the cache's lock is free,
///             for each three hits of an entry once at most. A miss: one allocation, one short
///             critical section beside the load; where the table grows, one in which all entries
///             move (some 50 ns each). An entry: 48 bytes beside key and value, and 32 more with
///             weights, times of its own, refresh_after or stale_if_error.
///             What has left the cache may wait to be freed together: a 32nd of the capacity (of a
///             small one, an eighth), 256 entries at most.

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
  /// Value, a std::optional of one (empty: there is none), a with_ttl, or something that yields one
  /// of these when it is awaited. It is called from any thread, also at the same time.
  template <class Loader>
    requires(!std::same_as<std::remove_cvref_t<Loader>, loading_cache>)
  explicit loading_cache(Loader&& loader, options how = {}, Hash hash = {}, Equal equal = {})
      : loading_cache(detail::make_loader<Key, Value>(std::forward<Loader>(loader)), bulk_loader{},
                      std::move(how), std::move(hash), std::move(equal)) {}
  /// With `load_many(std::span<const Key>)` for get_all: std::vector<outcome<Value>>, by position;
  /// also of std::optional<Value> or with_ttl<Value>.
  template <class Loader, class LoadMany>
    requires(!std::is_convertible_v<LoadMany, options>)
  loading_cache(Loader&& loader, LoadMany&& load_many, options how = {}, Hash hash = {},
                Equal equal = {})
      : loading_cache(detail::make_loader<Key, Value>(std::forward<Loader>(loader)),
                      bulk_loader_of(std::forward<LoadMany>(load_many)), std::move(how),
                      std::move(hash), std::move(equal)) {}
  loading_cache(const loading_cache&) = delete;
  loading_cache& operator=(const loading_cache&) = delete;
  /// Requires that no call is under way.
  ~loading_cache() {
    store_.end_telling();
    // Its listener may ask this cache, and so start flights.
    if (detail::platform::holds(detail::rule::sweep_ends_before_flights)) sweep_.stop();
  }

  // ---- asking -----------------------------------------------------------------------------------

  /// The value for `key`: what is there, or what its load returns.
  template <class Arg>
  result get(const Arg& key) {
    return get_by(key, [this](view k, std::uint32_t hash) { return get_own(k, hash); });
  }
  template <class Arg>
  result get(const Arg& key, const limits& bounds) {
    return get_by(key, [&](view k, std::uint32_t hash) {
      return get_slowly(k, hash, own_loader{*this}, &bounds);
    });
  }
  /// The same with `loader` in place of the cache's, if this call is the one that loads. It is
  /// borrowed, but copied or moved where its load is started (it is awaited, or soft_timeout is
  /// set): such a load may outlast the call.
  template <class Arg, class Loader>
    requires(!std::convertible_to<const Loader&, const limits&>)
  result get(const Arg& key, Loader&& loader, const limits& bounds = {}) {
    return get_by(key, [&](view k, std::uint32_t hash) {
      return get_slowly(k, hash, given_loader<Loader>{std::forward<Loader>(loader)},
                        unbounded(bounds) ? nullptr : &bounds);
    });
  }
  /// The same for a caller that awaits, or does not want to lead; the load runs on the executor.
  /// What is there already is in the handle at once.
  template <class Arg>
  [[nodiscard]] pending_cached<Value> start_get(const Arg& key) {
    return start_get_by(key, own_loader{*this});
  }
  template <class Arg, class Loader>
  [[nodiscard]] pending_cached<Value> start_get(const Arg& key, Loader&& loader) {
    return start_get_by(key, given_loader<Loader>{std::forward<Loader>(loader)});
  }
  /// What is there and fresh, an absence included. Never loads, starts nothing.
  template <class Arg>
  std::optional<result> find(const Arg& key);
  /// One outcome per key, by position, repeats included. Keys in flight are joined; the rest is
  /// loaded by one call of `load_many`, or, without one, one after the other: whoever joins one of
  /// them waits for the last.
  template <class Keys>
  std::vector<outcome<result>> get_all(const Keys& keys, const limits& bounds = {});

  // ---- changing ---------------------------------------------------------------------------------

  /// Stores `value`, as if it were just loaded; a load of `key` that is under way is forgotten.
  /// Throws what the weigher or ttl_of throws; nothing has changed then.
  template <class Arg, class V = Value>
    requires std::constructible_from<Value, V&&>
  void put(const Arg& key, V&& value) {
    put_loaded(key, loaded{detail::value_from<Value>(std::forward<V>(value))});
  }
  /// The same with a time of its own; for a cache that has those (ttl_of, or a loader that returns
  /// with_ttl).
  template <class Arg>
  void put(const Arg& key, with_ttl<Value> value) {
    put_loaded(key, loaded{std::move(value.value), value.ttl});
  }
  /// Whether there was an entry, or a load under way.
  template <class Arg>
  bool invalidate(const Arg& key);
  /// All for which `which(key)` or `which(key, value)` holds (of values, then), and every load
  /// under way. How many entries that were. `which` is called with no lock held, and should not
  /// change its mind. It gets the key as keys are looked up (key_view_t, or a Key where the hash
  /// takes no view); where its parameter does not take that, as a Key that is made for the call.
  template <class Which>
  std::size_t invalidate_if(Which&& which);
  void clear();
  /// Loads `key` again, behind the back of who asks meanwhile, on the executor; joins a load that
  /// is under way. A failure leaves the value that is there.
  template <class Arg>
  void refresh(const Arg& key);

  // ---- looking ----------------------------------------------------------------------------------

  cache_stats stats() const;
  void observe(metric_visitor& visitor) const override;

  /// What the cache goes by, and what it knows of a key.
  class policy_view {
   public:
    std::size_t capacity() const noexcept { return of_.store_.capacity(); }
    /// The sum of the weights now.
    std::size_t weight() const { return of_.stats().weight; }
    template <class Arg>
    entry_info explain(const Arg& key) const {
      return of_.explain(key);
    }

   private:
    friend loading_cache;
    explicit policy_view(const loading_cache& of) noexcept : of_(of) {}
    const loading_cache& of_;
  };
  policy_view policy() const noexcept { return policy_view(*this); }

 private:
  using bulk_loader = std::function<std::vector<outcome<loaded>>(std::span<const Key>)>;
  enum class figure : std::uint8_t {
    hits,
    stale_hits,
    misses,
    loads,
    load_failures,
    refreshes,
    not_stored,
    left,  // + removal_cause
  };

  loading_cache(std::unique_ptr<loader_type> loader, bulk_loader load_many, options how, Hash hash,
                Equal equal)
      : options_(std::move(how)),
        times_(options_, loader->gives_ttl()),
        timed_(times_.timed()),
        clock_(options_.group.timer != nullptr ? *options_.group.timer : default_timer()),
        loader_(std::move(loader)),
        load_many_(std::move(load_many)),
        store_(options_, times_, equal),
        sweep_(clock_, times_.sweep_interval(), &loading_cache::sweep, this),
        flights_(group_options_of(options_), std::move(hash), std::move(equal)) {}

  static group_options group_options_of(const options& how) {
    group_options of = how.group;
    of.on_abandon = abandon::finish;
    return of;
  }
  template <class LoadMany>
  static bulk_loader bulk_loader_of(LoadMany&& load_many);

  // ---- where a load comes from ------------------------------------------------------------------

  /// The cache's own loader.
  struct own_loader {
    loading_cache& of;
    bool awaits() const noexcept { return of.loader_->awaits(); }
    loaded load(const Key& key, const flight_context& context) const {
      return of.loader_->load(key, context);
    }
    std::shared_ptr<loader_type> own() const {  // it outlives every load: no count
      return {std::shared_ptr<void>(), of.loader_.get()};
    }
  };
  /// One that was given with a call, which borrows it unless the load is started.
  template <class Fn>
  struct given_loader {
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
    std::shared_ptr<loader_type> own() const {
      return std::make_shared<made>(std::forward<Fn>(fn));
    }
  };

  // ---- hits -------------------------------------------------------------------------------------

  detail::cache_ticks now() const noexcept { return detail::to_ticks(clock_.coarse_now()); }
  detail::standing standing_of(entry& e) const noexcept {
    if (!timed_) return detail::standing::fresh;
    return times_.of_entry(e, now(), store_.has_extras());
  }
  /// The group's own hash of a key, as much of it as an entry keeps.
  std::uint32_t entry_hash(view key) const {
    return static_cast<std::uint32_t>(detail::group_door::hash_of(flights_, key));
  }
  bool is_fresh(entry& e) const noexcept {
    const detail::standing stands = standing_of(e);
    return stands == detail::standing::fresh || stands == detail::standing::due;
  }
  result answer(found&& f, freshness how) const noexcept {
    entry& e = *f.at;
    const bool value = e.kind() == detail::entry_kind::value;
    return {std::move(f.hold), value ? std::addressof(e.value) : nullptr, clock_,
            value ? how : freshness::absent};
  }

  /// Whether there is no more to do for a hit: a value, neither old nor due.
  bool is_plain_hit(entry& e) const { return !timed_ || times_.is_young(e, now()); }
  result plain_hit(entry& e, detail::hazard_hold&& hold) {
    store_.hit(e);
    result hit(std::move(hold), std::addressof(e.value), clock_, freshness::fresh);
    stats_.add(figure::hits);
    return hit;
  }
  /// A hit, in one piece: no call, and whatever else there is to do at its ends, so that hits of
  /// one thread overlap in the machine as they wait for its memory.
  template <class Arg, class Slowly>
  SINGLEFLIGHT_FLAT result get_by(const Arg& key, const Slowly& slowly) {
    const argument<Arg> k(key);
    const auto hash = entry_hash(k.view());
    const auto seen = store_.glance(hash, k.view());
    if (seen.at != nullptr) [[likely]] {
      if (is_plain_hit(*seen.at)) [[likely]] {
        return plain_hit(*seen.at, detail::hazard_hold(*seen.at, seen.slot));
      }
      const detail::hazard_hold too_old(*seen.at, seen.slot);
    }
    return slowly(k.view(), hash);
  }
  SINGLEFLIGHT_NOINLINE result get_own(view key, std::uint32_t hash) {
    return get_slowly(key, hash, own_loader{*this}, nullptr);
  }
  /// What was no hit at a glance. One hit in fifty is one all the same: its entry stands further
  /// from its line, or behind another that looks like it.
  template <class Source>
  SINGLEFLIGHT_NOINLINE result get_slowly(view key, std::uint32_t hash, const Source& source,
                                          const limits* bounds);
  template <class Source>
  SINGLEFLIGHT_NOINLINE result get_otherwise(view key, std::uint32_t hash, found seen,
                                             std::uint64_t stamp, const Source& source,
                                             const limits* bounds);
  template <class Arg, class Source>
  pending_cached<Value> start_get_by(const Arg& key, const Source& source);
  /// What can be answered without a load: empty when there is nothing. Counts. Calls refresh() for
  /// a value that is due, if this hit is the one that has its load begun.
  template <class Refresh>
  std::optional<outcome<result>> answer_now(found& f, detail::standing stands,
                                            const Refresh& refresh);
  bool claim_refresh(entry& e) noexcept;
  void refresh_behind(view key, std::uint32_t hash);
  void refresh_behind(const std::vector<Key>& keys);

  // ---- loads ------------------------------------------------------------------------------------

  static view key_view_of(const Key& key) noexcept { return access::load_own(key); }
  static bool unbounded(const limits& bounds) noexcept {
    return bounds.deadline == detail::steady_time::max() && !bounds.stop.stop_possible() &&
           bounds.within.frame == nullptr;
  }
  template <class Source>
  result load_and_wait(view key, std::uint32_t hash, std::uint64_t stamp, const Source& source,
                       const limits* bounds);
  template <class Source>
  outcome<result> load_within(view key, std::uint32_t hash, std::uint64_t stamp,
                              const Source& source, const limits& bounds);
  outcome<result> wait_for(flight<result>& load, const limits& bounds,
                           detail::blocked_wait::form how = detail::blocked_wait::form::take);
  std::optional<result> serve_stale(view key, std::uint32_t hash, bool hold_off);
  void hold_off_late(entry& e) noexcept;

  /// Why a load begins.
  enum class cause : std::uint8_t {
    asked,  ///< a caller found nothing, or nothing that is fresh
    due,    ///< a hit found a value that is due
    told,   ///< refresh: whatever there is
  };
  flight<result> start_load(view key, std::uint32_t hash, std::shared_ptr<loader_type> from,
                            cause why);
  struct awaited_load;

  /// What other flights have brought since this one's caller looked, where the load need not be.
  std::optional<outcome<result>> look_again(view key, std::uint32_t hash, cause why);
  void count_loads(cause why, std::size_t count) noexcept {
    if (why != cause::asked) stats_.add(figure::refreshes, count);
    stats_.add(figure::loads, count);
  }
  /// A flight's load. `stamp`: the store's before the caller looked, and found nothing; 0: he did
  /// not look, or found something.
  template <class Call>
  result lead(view key, std::uint32_t hash, std::uint64_t stamp, const flight_context& flight,
              cause why, Call&& call);
  std::vector<outcome<result>> lead_many(std::span<const Key> keys,
                                         const detail::bulk_flights& flights, cause why);
  /// What a load returns, or throws: stores it unless the flight was revoked by then, or serves
  /// what is there instead. May move from `key`.
  template <class Call>
  result conclude(Key& key, std::uint32_t hash, std::uint64_t stamp, const flight_context& flight,
                  Call&& call);
  result fail(Key& key, std::uint32_t hash, const flight_context& flight,
              const std::exception_ptr& error);

  struct made_entry {
    found of;
    bool keep;               ///< it is to be stored
    detail::cache_ticks at;  ///< when it was made
  };
  made_entry make_entry(Key& key, std::uint32_t hash, loaded&& answer);
  template <class Arg>
  void put_loaded(const Arg& key, loaded&& value);
  /// Whether what is there (null: nothing) may be newer than what the load of `flight` says, that
  /// having been overtaken.
  bool may_be_newer(entry* there, const flight_context& flight) const noexcept {
    return there != nullptr && flight.forgotten() && is_fresh(*there);
  }
  /// Under the store's lock; asks no clock.
  void store_locked(const made_entry& made, entry* old,
                    typename store_type::departed& gone) noexcept;
  /// After the lock: tells of what has left, and gives it back; and, where something may have been
  /// stored, sees to it that it is swept one day. The last that a call does: the cache may go with
  /// what is given back.
  void finish(typename store_type::departed& gone,
              detail::giving_back when = detail::giving_back::many);
  void finish_store(typename store_type::departed& gone);

  static bool sweep(void* of);
  template <class Arg>
  entry_info explain(const Arg& key) const;

  const options options_;
  const detail::lifetimes times_;
  const bool timed_;
  timer& clock_;
  const std::unique_ptr<loader_type> loader_;
  const bulk_loader load_many_;
  mutable detail::striped_counters stats_;
  store_type store_;
  detail::expiry_sweep sweep_;
  group<Key, result, Hash, Equal> flights_;  // the last: its loads end first
};

SINGLEFLIGHT_END_NAMESPACE

#include "singleflight/cache/impl/loading_cache_answers.hpp"
#include "singleflight/cache/impl/loading_cache_changes.hpp"
#include "singleflight/cache/impl/loading_cache_loads.hpp"
