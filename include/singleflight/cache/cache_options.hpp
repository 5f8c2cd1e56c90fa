// SPDX-License-Identifier: Apache-2.0
#pragma once

/// cache_options, cache_stats, entry_info, removal_cause: what a cache is told, and what it tells.

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "singleflight/core/support/random.hpp"
#include "singleflight/core/support/signature.hpp"
#include "singleflight/flight/group_options.hpp"
#include "singleflight/flight/key.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE

/// Why an entry has left the cache.
enum class removal_cause : std::uint8_t {
  invalidated,  ///< invalidate, invalidate_if, clear
  replaced,     ///< by a newer answer
  expired,      ///< its time was over
  evicted,      ///< to keep to the capacity
};

/// A value, and how long it is good for; what a loader may return where entries differ in that.
/// Zero or less: handed to its callers, and not stored.
template <class Value>
struct with_ttl {
  Value value;
  std::chrono::nanoseconds ttl;
};

/// Durations are measured in steps of 66 microseconds, by a clock that may lag by about a
/// millisecond. A negative one is refused.
template <class Key, class Value>
struct cache_options {
  /// Entries at a time; with a weigher: the sum of their weights. Zero: nothing is stored, loads
  /// are shared and that is all.
  std::size_t capacity = 10'000;
  /// What an entry weighs, in the unit of `capacity`; empty: each weighs 1. Called once a value,
  /// before it is stored, no lock held. 0 counts as 1. What is heavier than the capacity is handed
  /// to its callers and not stored; if it throws, so does the load. It may return another integer:
  /// a negative one is a std::invalid_argument that it throws.
  detail::whole_function<std::size_t(const Key& key, const Value& value)> weigher{};

  /// What an absence or an error weighs, where there is a weigher: at least the memory of a key.
  std::size_t absent_weight = 1;

  /// How long a value is fresh, from the end of its load; zero: for ever.
  std::chrono::nanoseconds ttl{0};
  /// The same by value; empty: `ttl` for all. Called once a value, no lock held. Zero or less: the
  /// value is not stored. If it throws, so does the load. It may return a coarser unit: what
  /// nanoseconds cannot hold is a std::invalid_argument that it throws. A loader that returns
  /// with_ttl decides itself.
  detail::whole_function<std::chrono::nanoseconds(const Key& key, const Value& value)> ttl_of{};
  /// Each entry's time is shorter by a random part of it, up to this one: what was stored together
  /// does not expire together. In [0, 1].
  double jitter = 0.1;

  /// A hit on a value older than this starts a load behind its back; zero: never. Those that one
  /// get_all finds due are loaded together where the cache has a `load_many`. Where it is not
  /// shorter than the ttl it has no effect.
  std::chrono::nanoseconds refresh_after{0};
  /// For this long after its ttl a value is kept, to be served (as stale) where its load fails;
  /// zero: not at all. A load that is merely slow is waited for, up to the caller's limits and
  /// soft_timeout. To get, also where the load cannot begin, breaks off or is not in time;
  /// start_get and get_all get the library's own errors as they are.
  std::chrono::nanoseconds stale_if_error{0};
  /// After a load that failed, a stale value is served without another load, and an old one is not
  /// refreshed, for this long, also by a call that was on its way to a load meanwhile; twice as
  /// long with each failure in a row, up to max_retry_after.
  std::chrono::nanoseconds retry_after = std::chrono::seconds(1);
  std::chrono::nanoseconds max_retry_after = std::chrono::seconds(60);
  /// A get that finds a stale value waits this long for its load, then takes the stale value, and
  /// the load goes on, on the executor; zero: it waits for its end. Needs stale_if_error. start_get
  /// and get_all wait as long as their limits say.
  std::chrono::nanoseconds soft_timeout{0};

  /// How long an absence (a loader's empty std::optional) is known; zero: it is not stored.
  std::chrono::nanoseconds negative_ttl{0};
  /// How long a load's exception is thrown to others as well, where no stale value is served; zero:
  /// the next call loads again.
  std::chrono::nanoseconds error_ttl{0};

  /// Hears of each entry that has left, once, on the thread that took it out, perhaps within a load
  /// of this cache, no lock held; `value` is null for an absence or an error. The key comes as a
  /// view (of a string: a string_view), good for the call. It must not throw. It may use the cache,
  /// and catches what that throws: a get that has to load throws flight_errc::closed once the
  /// cache's destructor has begun. From then on it is not called.
  detail::whole_function<void(key_view_t<Key> key, const Value* value, removal_cause cause)>
      on_removal{};

  /// The group that loads: its executor, timer, observer, bounds. Its on_abandon is always finish.
  group_options group{};
  /// 64 random bits, once a cache, for the jitter; empty: a generator of the calling thread.
  detail::random_source random{};
};

/// Totals since the cache was made; exact when no call is under way. The inherited ones count calls
/// whose wait for a load ended so. A stale value may have been their answer. (A load that failed and
/// found a stale value to serve has ended well for its callers: it counts in load_failures alone.)
struct cache_stats : ended_calls {
  std::uint64_t hits = 0;  ///< answered by an entry that was fresh, an absence or error included
  std::uint64_t stale_hits = 0;  ///< by one that was not, before any load had ended
  std::uint64_t misses = 0;      ///< the other calls
  std::uint64_t loads = 0;  ///< keys whose loader was called, refreshes and bulk calls included
  std::uint64_t load_failures = 0;  ///< of these
  std::uint64_t refreshes = 0;      ///< of these, those started behind a hit, or by refresh
  std::uint64_t not_stored = 0;     ///< answers whose key was invalidated as they were loaded
  std::uint64_t evicted = 0;        ///< from here on: entries that have left, by cause
  std::uint64_t expired = 0;
  std::uint64_t replaced = 0;
  std::uint64_t invalidated = 0;
  std::size_t entries = 0;  ///< now
  std::size_t weight = 0;   ///< now

  /// Calls visit(name, value) for each counter.
  template <class Visit>
  void each(const Visit& visit) const {
    visit("hits", hits);
    visit("stale_hits", stale_hits);
    visit("misses", misses);
    visit("loads", loads);
    visit("load_failures", load_failures);
    visit("refreshes", refreshes);
    visit("not_stored", not_stored);
    visit("evicted", evicted);
    visit("expired", expired);
    visit("replaced", replaced);
    visit("invalidated", invalidated);
    ended_calls::each(visit);
  }
};

/// What a cache knows of one key.
struct entry_info {
  bool present = false;  ///< all else is of no meaning without
  bool fresh = false;
  bool absent = false;  ///< an absence is what is known
  bool error = false;   ///< an exception is what is known
  std::chrono::nanoseconds age{0};
  /// Until it is fresh no more; negative: since then. Empty: it does not expire.
  std::optional<std::chrono::nanoseconds> expires_in{};
  std::size_t weight = 0;
};

SINGLEFLIGHT_END_NAMESPACE
