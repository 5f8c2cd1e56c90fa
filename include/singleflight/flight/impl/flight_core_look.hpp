// SPDX-License-Identifier: Apache-2.0
#pragma once

// flight_core_look: the members of flight_core that walk over all flights, or report their counts.

#include "singleflight/core/observable.hpp"
#include "singleflight/flight/detail/flight_core.hpp"
#include "singleflight/flight/detail/rules.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

SINGLEFLIGHT_BODY std::size_t flight_core::forget_all() {
  const call_scope scope;
  std::size_t count = 0;
  table.each([&](flight_table::head& at) {
    block_base* promoted = nullptr;
    bool moved = false;
    {
      locked_bucket bucket(flight_table::lock_at(at));
      moved = bucket.has_moved();
      // A successor is linked at the front, so this walk does not visit it.
      flight_node* behind = nullptr;
      for (flight_node* n = bucket.first(); n != nullptr && !n->is_settled_locked(); n = behind) {
        behind = n->next;
        n->revoked.store(true, memory_order_release);
        if (n->is_forgotten_locked()) {
          flight_table::settle_locked(bucket, *n);
          continue;
        }
        ++count;
        if (block_base* const next = forget_locked(bucket, *n)) {
          next->next_promoted = promoted;
          promoted = next;
        }
      }
    }
    while (block_base* const next = promoted) {
      promoted = next->next_promoted;
      activate(*next);
    }
    return !moved;
  });
  return count;
}

SINGLEFLIGHT_BODY group_stats flight_core::totals() const noexcept {
  const auto sum = stats.totals();
  const auto total = [&sum](counter c) { return sum[static_cast<std::size_t>(c)]; };
  group_stats s;
  s.calls = total(counter::led) + total(counter::started) + total(counter::joined) +
            total(counter::refused);
  s.loads = total(counter::led) + total(counter::begun);
  s.joined = total(counter::joined);
  s.handed_over = total(counter::handed_over);
  s.abandoned = total(counter::abandoned);
  group_stats::each_code([&](flight_errc code, const char*, std::uint64_t ended_calls::*member) {
    s.*member = sum[static_cast<std::size_t>(counter::errors) + static_cast<std::size_t>(code)];
  });
  return s;
}

SINGLEFLIGHT_BODY void flight_core::observe(metric_visitor& visitor) const {
  observe_counters(visitor, totals());
}

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE
