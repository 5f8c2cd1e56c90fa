// SPDX-License-Identifier: Apache-2.0
#pragma once

// group_look: the members of a group that walk over its flights: to forget them, or to report them.

#include "singleflight/flight/detail/rules.hpp"
#include "singleflight/flight/group.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE

template <class Key, class Value, class Hash, class Equal>
template <class Change>
bool group<Key, Value, Hash, Equal>::forget_with(std::size_t hash, view key, const Change& change) {
  static_assert(noexcept(change()));
  const detail::call_scope scope;
  detail::block_base* successor = nullptr;
  bool found = false;
  {
    locked_bucket bucket(core_.table.lock(hash));
    for (detail::flight_node* n = bucket.first(); n != nullptr && !n->is_settled_locked();
         n = n->next) {
      n->matches = n->hash == hash && is_of(*static_cast<node*>(n), key);
    }
    // Nothing throws from here on.
    detail::flight_node* present = nullptr;  // at most one is not forgotten (I3)
    detail::flight_node* next = nullptr;
    for (detail::flight_node* n = bucket.first(); n != nullptr && !n->is_settled_locked();
         n = next) {
      next = n->next;
      if (!n->matches) continue;
      n->revoked.store(true, detail::memory_order_release);
      if (!n->is_forgotten_locked()) {
        present = n;
      } else {
        detail::flight_table::settle_locked(bucket, *n);
      }
    }
    if (present != nullptr) {
      successor = core_.forget_locked(bucket, *present);
      found = true;
    }
    if (!detail::platform::holds(detail::rule::changed_as_forgotten)) bucket.unlock();
    change();
  }
  if (successor != nullptr) detail::flight_core::activate(*successor);
  return found;
}

template <class Key, class Value, class Hash, class Equal>
std::size_t group<Key, Value, Hash, Equal>::forget_all() {
  const detail::call_scope scope;
  std::size_t count = 0;
  core_.table.each([&](detail::flight_table::head& at) {
    detail::block_base* promoted = nullptr;
    {
      locked_bucket bucket(detail::flight_table::lock_at(at));
      // A successor is linked at the front, so this walk does not visit it.
      detail::flight_node* behind = nullptr;
      for (detail::flight_node* n = bucket.first(); n != nullptr && !n->is_settled_locked();
           n = behind) {
        behind = n->next;
        n->revoked.store(true, detail::memory_order_release);
        if (n->is_forgotten_locked()) {
          detail::flight_table::settle_locked(bucket, *n);
          continue;
        }
        ++count;
        if (detail::block_base* const next = core_.forget_locked(bucket, *n)) {
          next->next_promoted = promoted;
          promoted = next;
        }
      }
    }
    while (detail::block_base* const next = promoted) {
      promoted = next->next_promoted;
      detail::flight_core::activate(*next);
    }
  });
  return count;
}

template <class Key, class Value, class Hash, class Equal>
auto group<Key, Value, Hash, Equal>::in_flight() const -> std::vector<flight_info<Key>> {
  std::vector<flight_info<Key>> all;
  const auto now = core_.clock().now();
  core_.table.each(
      [&](detail::flight_table::head& at) {
        locked_bucket bucket(detail::flight_table::lock_at(at));
        for (detail::flight_node* n = bucket.first(); n != nullptr && !n->is_forgotten_locked();
             n = n->next) {
          const detail::block_base* shared = n->block.load(detail::memory_order_relaxed);
          const auto began = n->began.load(detail::memory_order_relaxed);
          all.push_back({access::own(access::load(static_cast<node*>(n)->key)), n->id,
                         shared != nullptr ? shared->interest() : 1,
                         began != detail::flight_node::not_begun ? detail::time_between(began, now)
                                                                 : std::chrono::nanoseconds{}});
        }
      },
      [&all] { all.clear(); });
  return all;
}

template <class Key, class Value, class Hash, class Equal>
group_stats group<Key, Value, Hash, Equal>::stats() const noexcept {
  using detail::counter;
  const auto sum = core_.stats.totals();
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

template <class Key, class Value, class Hash, class Equal>
void group<Key, Value, Hash, Equal>::observe(metric_visitor& visitor) const {
  detail::observe_counters(visitor, stats());
}

SINGLEFLIGHT_END_NAMESPACE
