// SPDX-License-Identifier: Apache-2.0
#pragma once

// group_look: the members of a group that walk over flights and read their keys: to forget the
// flight of a key, or to report them.

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
    detail::locked_bucket bucket(core_.table.lock(hash));
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
auto group<Key, Value, Hash, Equal>::in_flight() const -> std::vector<flight_info<Key>> {
  std::vector<flight_info<Key>> all;
  const auto now = core_.clock().now();
  core_.table.each([&](detail::flight_table::head& at) {
    const detail::locked_bucket bucket(detail::flight_table::lock_at(at));
    for (detail::flight_node* n = bucket.first(); n != nullptr && !n->is_forgotten_locked();
         n = n->next) {
      const detail::block_base* shared = n->block.load(detail::memory_order_relaxed);
      const auto began = n->began.load(detail::memory_order_relaxed);
      all.push_back({access::own(access::load(static_cast<node*>(n)->key)), n->id,
                     shared != nullptr ? shared->interest() : 1,
                     began != detail::flight_node::not_begun ? detail::time_between(began, now)
                                                             : std::chrono::nanoseconds{}});
    }
    return !bucket.has_moved();
  });
  return all;
}

SINGLEFLIGHT_END_NAMESPACE
