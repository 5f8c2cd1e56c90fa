// SPDX-License-Identifier: Apache-2.0
#pragma once

// kept_loads: the owned loads that could lead a flight later, in the order in which they came.
//
// The first one leads; any of them leaves with its caller, which knows its serial. Many callers
// whose deadlines expire at the same time leave in any order; a linear search for each would take
// quadratic time under the flight's lock. So the loads are in a treap (Seidel and Aragon,
// "Randomized Search Trees", Algorithmica 16, 1996): a search tree by serial, and a heap by a hash
// of it, which is as good as random. Each operation takes logarithmic time.
//
// Guarded by the lock of the flight's block.

#include <cstdint>
#include <utility>

#include "singleflight/core/support/random.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

struct kept_node {
  // NOLINTNEXTLINE(modernize-use-equals-default): a derived class uses its tail padding
  kept_node() noexcept {}

  kept_node* left;
  kept_node* right;
  std::uint32_t serial;
};

class kept_loads {
 public:
  bool empty() const noexcept { return root_ == nullptr; }
  /// Adds it behind all others, under the next serial (never 0).
  void push(kept_node& load) noexcept {
    if (++last_serial_ == 0) ++last_serial_;
    load.serial = last_serial_;
    kept_node** link = &root_;
    while (*link != nullptr && is_above(**link, load)) link = &(*link)->right;
    load.left = *link;
    load.right = nullptr;
    *link = &load;
  }
  /// Returns the serial of the load that was pushed last.
  std::uint32_t last_serial() const noexcept { return last_serial_; }
  /// Removes and returns the first. Requires that there is one.
  kept_node& pop() noexcept {
    kept_node** link = &root_;
    while ((*link)->left != nullptr) link = &(*link)->left;
    kept_node& first = **link;
    *link = first.right;
    return first;
  }
  /// Removes and returns the load with that serial; returns null if it has been removed already.
  kept_node* take(std::uint32_t serial) noexcept {
    kept_node** link = &root_;
    while (*link != nullptr && (*link)->serial != serial) {
      link = came_before(serial, (*link)->serial) ? &(*link)->left : &(*link)->right;
    }
    kept_node* const found = *link;
    if (found != nullptr) merge(*link, found->left, found->right);
    return found;
  }
  /// Removes each load in order, then calls visit(load) for it.
  template <class Visit>
  void clear(const Visit& visit) noexcept {
    for (kept_node* node = std::exchange(root_, nullptr); node != nullptr;) {
      if (kept_node* const first = node->left) {  // rotate right until none is before it
        node->left = first->right;
        first->right = node;
        node = first;
      } else {
        kept_node& removed = *node;
        node = node->right;
        visit(removed);
      }
    }
  }

 private:
  static bool is_above(const kept_node& a, const kept_node& b) noexcept {
    return mix64(a.serial) > mix64(b.serial);
  }
  /// Serials wrap around; far fewer are stored at a time.
  static bool came_before(std::uint32_t a, std::uint32_t b) noexcept {
    return static_cast<std::int32_t>(a - b) < 0;
  }
  /// Merges two trees, of which all of `a` is before all of `b`.
  static void merge(kept_node*& into, kept_node* a, kept_node* b) noexcept {
    kept_node** link = &into;
    while (a != nullptr && b != nullptr) {
      if (is_above(*a, *b)) {
        *link = a;
        link = &a->right;
        a = a->right;
      } else {
        *link = b;
        link = &b->left;
        b = b->left;
      }
    }
    *link = a != nullptr ? a : b;
  }

  kept_node* root_ = nullptr;
  std::uint32_t last_serial_ = 0;
};

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE
