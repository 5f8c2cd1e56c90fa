// SPDX-License-Identifier: Apache-2.0
#pragma once

// cache_core: the part of a loading_cache that depends on neither keys nor values: its clock and
// times, its counters, and what is noted in an entry about failed and late loads.

#include <cstddef>
#include <cstdint>

#include "singleflight/cache/cache_options.hpp"
#include "singleflight/cache/detail/lifetimes.hpp"
#include "singleflight/cache/detail/store_core.hpp"
#include "singleflight/core/default_timer.hpp"
#include "singleflight/core/observable.hpp"
#include "singleflight/core/support/striped_counters.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

struct cache_core {
  enum class counter : std::uint8_t {
    hits,
    stale_hits,
    misses,
    loads,
    load_failures,
    refreshes,
    not_stored,
    removed,  // + removal_cause
  };

  /// Throws std::invalid_argument. `per_value` is true if the loader returns ttls.
  template <class Key, class Value>
  cache_core(const cache_options<Key, Value>& options, bool per_value)
      : times(options, per_value),
        timed(times.timed()),
        clock(options.group.timer != nullptr ? *options.group.timer : default_timer()) {}

  cache_ticks now() const noexcept { return to_ticks(clock.coarse_now()); }

  // ---- an entry that was made with extras -------------------------------------------------------

  /// One of the callers that see that the value is due starts its load; the others do not, for as
  /// long as retry_after. If that load is lost, the next one starts then. A failure that was
  /// recorded meanwhile is kept. Returns whether this caller is the one.
  bool claim_refresh(entry_base& e) const noexcept;
  /// Spares the next caller the wait for a load that is late. A recorded failure is kept as long as
  /// it counts.
  void hold_off_late(entry_base& e) const noexcept;
  /// Records that the load of a value failed that is still to be served.
  void hold_off_failed(entry_base& e) const noexcept;
  /// Whether no load may begin since the last one failed.
  bool holds_off_loads(entry_base& e) const noexcept {
    const hold_off wait = e.extras().holds_off();
    return wait.why == hold_off::cause::failed && wait.until > now();
  }

  // ---- all entries ------------------------------------------------------------------------------

  /// Counts removed entries, notifies the listener of them, and gives them to the reclaimer. A call
  /// does this last: the cache may be destroyed with what is reclaimed.
  void finish(store_core& store, removed_entries& removed,
              reclaim_time when = reclaim_time::batched);
  /// Removes what has expired, some lines at a time, so no thread waits for the whole table.
  /// Returns whether anything is left.
  bool sweep(store_core& store);

  // ---- looking ----------------------------------------------------------------------------------

  /// `loads` are those of the cache's group.
  cache_stats totals(const store_core& store, const group_stats& loads) const;
  static void observe(metric_visitor& visitor, const cache_stats& totals);
  entry_info explain(entry_base& e, bool has_extras) const;

  const lifetimes times;
  const bool timed;
  timer& clock;
  mutable striped_counters stats;
};

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE

#if !defined(SINGLEFLIGHT_COMPILED)
#include "singleflight/cache/impl/cache_core.hpp"
#endif
