// SPDX-License-Identifier: Apache-2.0
#pragma once

// live_node: one version of a live_value; and the place where the present one is found.
//
// N1  A writer stores a new node over the old one under the writers' lock, then gives the old one
//     to the reclaimer, after the lock. So a node that is found there has not been given to it.
// N2  A reader announces what it has found, then looks whether it is still there (hazard.hpp, H2).
//     Both loads acquire, and pair with the writer's release: the node is whole, and a reader that
//     comes after the store does not see an older one.

#include <cstdint>
#include <utility>

#include "singleflight/cache/detail/deferred_end.hpp"
#include "singleflight/cache/detail/rules.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

struct live_node_base : reclaimable {
  std::uint64_t version = 0;  ///< set before it can be found, and then as it is
  steady_time since{};        ///< the same
  // As long as this change is to be told, under the lock of those who listen:
  live_node_base* before = nullptr;  ///< with a reference, as on this one
  live_node_base* later = nullptr;   ///< the next change
};

template <class T>
struct live_node final : live_node_base {
  explicit live_node(T&& from) : value(std::move(from)) { destroy = &end; }
  static void end(reclaimable* object) noexcept {
    if (!ends_plainly<T> && detail::ends_elsewhere(*object)) return;
    delete static_cast<live_node*>(object);
  }

  const T value;
};

/// The place. Empty at first.
template <class T>
class live_place {
 public:
  using node = live_node<T>;

  live_place() noexcept = default;
  live_place(const live_place&) = delete;
  live_place& operator=(const live_place&) = delete;
  /// Nobody calls any more; holds may be out.
  ~live_place() { leave(current_.load(memory_order_relaxed)); }

  /// What is there, by a slot of this thread's where one is free, else by a count; empty when there
  /// is nothing. `lock` is the writers'.
  hazard_hold hold(platform::mutex& lock) const noexcept {
    if (hazard_record* const record = this_hazard_record()) [[likely]] {
      hazard_slot* const slot = record->free_handle();
      hazard_hold found = protect(slot != nullptr ? *slot : record->passing());
      if (slot == nullptr) [[unlikely]] {
        found.count();
      }
      return found;
    }
    const platform::unique_lock held(lock);
    node* const found = current_.load(memory_order_relaxed);
    if (found == nullptr) return {};
    found->add_reference();
    return {*found, nullptr};
  }

  node* present_locked() const noexcept { return current_.load(memory_order_relaxed); }
  /// The old one is to leave() after the lock.
  void store_locked(node& fresh) noexcept { current_.store(&fresh, memory_order_release); }

  static void leave(node* old) noexcept {
    if (old == nullptr) return;
    old->place.store(reclaimable::left, memory_order_relaxed);
    hazard_domain::instance().reclaim(old);
  }

 private:
  hazard_hold protect(hazard_slot& slot) const noexcept {
    node* found = current_.load(memory_order_acquire);
    for (;;) {  // N2
      if (found == nullptr) return {};
      detail::protect(slot, found);
      node* const still = current_.load(memory_order_acquire);
      if (still == found || !platform::holds(rule::found_is_confirmed)) return {*found, &slot};
      found = still;
    }
  }

  atomic<node*> current_{nullptr};
};

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE
