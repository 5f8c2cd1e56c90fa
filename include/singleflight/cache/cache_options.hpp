// SPDX-License-Identifier: Apache-2.0
#pragma once

/// cache_options, cache_stats, entry_info, removal_cause: options and statistics of a cache.

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "singleflight/core/support/random.hpp"
#include "singleflight/core/support/signature.hpp"
#include "singleflight/flight/group_options.hpp"
#include "singleflight/flight/key.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE

/// Why an entry was removed from the cache.
enum class removal_cause : std::uint8_t {
  invalidated,  ///< by invalidate, invalidate_if or clear
  replaced,     ///< by a newer answer
  expired,      ///< removed by the sweep, or when it was already past its ttl
  evicted,      ///< to stay within the capacity
};

/// A value and how long it is fresh; a loader returns it when the ttl differs from value to value.
/// If it is zero or less, the value is returned to its callers and not stored.
template <class Value>
struct with_ttl {
  Value value;
  std::chrono::nanoseconds ttl;
};

/// Durations are measured in steps of 66 microseconds, by a clock that may lag by about a
/// millisecond. A negative one is refused.
template <class Key, class Value>
struct cache_options {
  /// The maximum number of entries, or, with a weigher, the maximum sum of their weights. If zero,
  /// nothing is stored, and loads are only shared.
  std::size_t capacity = 10'000;
  /// Room for so many entries (no more than the capacity) is made at the beginning and kept, so the
  /// table need not grow before that: 12 to 24 bytes for each. If zero, it grows with its entries,
  /// in steps. Without memory for it the constructor throws std::bad_alloc.
  std::size_t reserve = 0;
  /// Computes the weight of an entry, in the unit of `capacity`; if empty, each entry weighs 1.
  /// Called once per value, before it is stored, with no lock held. A weight of 0 counts as 1. A
  /// value heavier than the capacity is returned to its callers and not stored; if the weigher
  /// throws, the load fails with that exception. It may return another integer type; a negative
  /// result makes the load throw std::invalid_argument.
  detail::whole_function<std::size_t(const Key& key, const Value& value)> weigher{};

  /// The weight of an absence or an error, if there is a weigher: at least the memory of a key.
  std::size_t absent_weight = 1;

  /// How long a value is fresh, from the end of its load; if zero, forever.
  std::chrono::nanoseconds ttl{0};
  /// Computes a value's ttl; if empty, every value has `ttl`. Called once per value, with no lock
  /// held. If it returns zero or less, the value is not stored; if it throws, the load fails with
  /// that exception. It may return a coarser unit; a duration that nanoseconds cannot hold makes
  /// the load throw std::invalid_argument. The ttl of a loader's with_ttl takes precedence.
  detail::whole_function<std::chrono::nanoseconds(const Key& key, const Value& value)> ttl_of{};
  /// Each entry's ttl is shortened by a random fraction of it, at most this one, so that entries
  /// stored together do not expire together. In [0, 1].
  double jitter = 0.1;

  /// A hit on a value older than this starts a load in the background; if zero, no hit does. Values
  /// that one get_all finds due are loaded together if the cache has a `load_many`. It has no
  /// effect unless it is shorter than the ttl.
  std::chrono::nanoseconds refresh_after{0};
  /// For this long after its ttl a value is kept, to be served (as stale) if its load fails; if
  /// zero, it is not kept. A load that is merely slow is waited for, up to the caller's limits and
  /// soft_timeout. get serves it also if the load cannot begin, breaks off or is late; start_get
  /// and get_all return the library's own errors unchanged.
  std::chrono::nanoseconds stale_if_error{0};
  /// For this long after a load that failed, a stale value is served without another load and a
  /// value that is due is not refreshed, also by a call that was about to load. The time doubles
  /// with each consecutive failure, up to max_retry_after.
  std::chrono::nanoseconds retry_after = std::chrono::seconds(1);
  std::chrono::nanoseconds max_retry_after = std::chrono::seconds(60);
  /// A get that finds a stale value waits this long for its load, then returns the stale value, and
  /// the load continues on the executor; if zero, the get waits for the load's end. Requires
  /// stale_if_error. start_get and get_all wait as long as their limits allow.
  std::chrono::nanoseconds soft_timeout{0};

  /// How long an absence (a loader's empty std::optional) is stored; if zero, it is not stored.
  std::chrono::nanoseconds negative_ttl{0};
  /// How long a load's exception is also thrown to later calls, if no stale value is served; if
  /// zero, the next call loads again.
  std::chrono::nanoseconds error_ttl{0};

  /// Called once for each removed entry, on the thread that removed it, possibly within a load of
  /// this cache, with no lock held; `value` is null for an absence or an error. The key is passed
  /// as a view (for a string, a string_view), valid during the call. It must not throw. It may use
  /// the cache, and must catch what that throws: if the cache's destructor begins during the call,
  /// a get that needs a load throws flight_error(closed). After that no further call is made.
  detail::whole_function<void(key_view_t<Key> key, const Value* value, removal_cause cause)>
      on_removal{};

  /// Where the entries that are left are freed when the cache is destroyed: the destructor hands
  /// them over as one task, in a time that hardly depends on their number. If empty, or if the
  /// executor throws, the destructor frees them; a task that is dropped frees them where that
  /// happens. Values may then outlive the cache, and a pool that is named here must, too.
  std::optional<any_executor> free_on{};
  /// The options of the group that loads: its executor, timer, observer, bounds. Its on_abandon is
  /// always finish.
  group_options group{};
  /// 64 random bits, drawn once per cache, for the jitter; if empty, they come from a generator of
  /// the calling thread.
  detail::random_source random{};
};

/// Totals since the cache was made; exact when no call is in progress. The inherited counters count
/// calls by how their wait for a load ended; a call that was answered by a stale value is included.
/// (A load that failed, and for which a stale value was served, has succeeded for its callers: it
/// counts in load_failures only.)
struct cache_stats : ended_calls {
  std::uint64_t hits = 0;        ///< answered by a fresh entry, an absence or error included
  std::uint64_t stale_hits = 0;  ///< answered by a stale value, before any load had ended
  std::uint64_t misses = 0;      ///< all other calls
  std::uint64_t loads = 0;  ///< keys whose loader was called, refreshes and bulk calls included
  std::uint64_t load_failures = 0;  ///< of the loads
  std::uint64_t refreshes = 0;      ///< loads that were started by a hit, or by refresh
  std::uint64_t not_stored = 0;     ///< answers whose key was invalidated during the load
  std::uint64_t evicted = 0;        ///< this counter and the next three: removed entries, by cause
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

/// What a cache stores of one key.
struct entry_info {
  bool present = false;  ///< if false, the other members have no meaning
  bool fresh = false;
  bool absent = false;  ///< the entry is an absence
  bool error = false;   ///< the entry is an exception
  std::chrono::nanoseconds age{0};
  /// The time until it is no longer fresh; negative if that has passed. Empty if it does not
  /// expire.
  std::optional<std::chrono::nanoseconds> expires_in{};
  std::size_t weight = 0;
};

SINGLEFLIGHT_END_NAMESPACE
