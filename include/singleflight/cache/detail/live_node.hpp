// SPDX-License-Identifier: Apache-2.0
#pragma once

// live_node: one version of a live_value; live_place: where the current version is found.
//
// N1  A writer stores a new node over the old one under the writers' lock, and gives the old one to
//     the reclaimer after the lock. So a node that is found there has not been given to it.
// N2  A reader protects the node it has found, then checks that it is still there (hazard.hpp, H2).
//     Both loads acquire, and pair with the writer's release: the node is complete, and a reader
//     that comes after the store does not see an older one.

#include <cstdint>
#include <utility>

#include "singleflight/cache/detail/deferred_end.hpp"
#include "singleflight/cache/detail/rules.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

struct live_node_base : reclaimable {
  std::uint64_t version = 0;  ///< set before it can be found, constant then
  steady_time since{};        ///< the same
  // While this change is queued, under the listeners' lock:
  live_node_base* before = nullptr;  ///< holds a reference, as the queue does on this one
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

/// The place of the current version. Empty at first.
template <class T>
class live_place {
 public:
  using node = live_node<T>;

  live_place() noexcept = default;
  live_place(const live_place&) = delete;
  live_place& operator=(const live_place&) = delete;
  /// Requires that no call is in progress; holds may outlive it.
  ~live_place() { leave(current_.load(memory_order_relaxed)); }

  /// Returns a hold of the current version, by a slot of this thread's if one is free, else by a
  /// count; the hold is empty if there is no version. `lock` is the writers'.
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
  /// The old node has to be passed to leave() after the lock.
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
