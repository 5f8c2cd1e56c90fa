// SPDX-License-Identifier: Apache-2.0
#pragma once

// flight_table: changes of a chain under its lock, growth, and forks.

#include <memory>
#include <new>

#include "singleflight/flight/detail/flight_table.hpp"
#include "singleflight/flight/detail/rules.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

SINGLEFLIGHT_BODY flight_table::~flight_table() {
  array* a = current_.load(memory_order_relaxed);
  while (a != &first_) {
    array* const older = a->older;
    delete[] a->heads;
    delete a;
    a = older;
  }
}

SINGLEFLIGHT_NOINLINE SINGLEFLIGHT_BODY bool flight_table::enter_soon(
    flight_node& node, thread_state& self) const noexcept {
  if (self.vain_waits++ % 16 != 0) return false;
  head& at = locate(node.hash);
  for (int pauses = 16; pauses <= platform::tuned(64, 16); pauses *= 2) {
    for (int i = 0; i < platform::tuned(pauses, 1); ++i) platform::pause();
    const word value = at.load(memory_order_relaxed);
    if (value == 0) {
      if (enter_alone(at, node)) {
        self.vain_waits = 0;
        return true;
      }
    } else if ((value & bits) != 0) {
      return false;  // locked, shared, closed, or moved
    }
  }
  return false;
}

SINGLEFLIGHT_BODY void flight_table::link_locked(bucket& b, flight_node& node) noexcept {
  const bool alone = b.first() == nullptr;
  if (node.is_forgotten_locked()) {
    link_forgotten_locked(b, node);
  } else {
    if (is_found(b.first())) crowded_.fetch_add(1, memory_order_relaxed);
    link_before_locked(b, node, b.first());
  }
  if (!alone && platform::holds(rule::second_node_marks_bucket)) b.value |= slow;
}

SINGLEFLIGHT_BODY void flight_table::unlink_locked(bucket& b, flight_node& node,
                                                   bool keep_slow) noexcept {
  flight_node& out = platform::holds(rule::unlink_by_identity) ? node : *b.first();
  take_out_locked(b, out);
  if (!out.is_forgotten_locked() && is_found(b.first())) {
    crowded_.fetch_sub(1, memory_order_relaxed);
  }
  if (b.first() == nullptr && !keep_slow) b.value = 0;
}

SINGLEFLIGHT_BODY void flight_table::retire_locked(bucket& b, flight_node& node) noexcept {
  if (node.is_forgotten_locked()) return;
  node.mode.store(flight_mode::forgotten, memory_order_release);
  if (node.next == nullptr && b.first() == &node) return;
  take_out_locked(b, node);
  if (is_found(b.first())) crowded_.fetch_sub(1, memory_order_relaxed);
  link_forgotten_locked(b, node);
}

SINGLEFLIGHT_BODY void flight_table::settle_locked(bucket& b, flight_node& node) noexcept {
  if (node.next == nullptr) return;  // alone, or the last
  take_out_locked(b, node);
  link_forgotten_locked(b, node);
}

SINGLEFLIGHT_BODY void flight_table::hold_all() const noexcept {
  for (;;) {
    const array* const a =
        current_.load(platform::order(rule::locate_acquires, memory_order_acquire));
    const word first = lock_bit::lock(a->heads[0]);
    if ((first & moved) == 0) {  // the table cannot grow while this lock is held
      for (std::size_t i = 1; i < a->count; ++i) lock_bit::lock(a->heads[i]);
      return;
    }
    lock_bit::unlock(a->heads[0], first);
  }
}

SINGLEFLIGHT_BODY void flight_table::release_all() const noexcept {
  const array* const a = current_.load(memory_order_relaxed);
  for (std::size_t i = 0; i < a->count; ++i) {
    lock_bit::unlock(a->heads[i], a->heads[i].load(memory_order_relaxed) & ~locked);
  }
}

SINGLEFLIGHT_BODY void flight_table::link_before_locked(bucket& b, flight_node& node,
                                                        flight_node* before) noexcept {
  flight_node* const first = b.first();
  node.next = before;
  if (first == nullptr || before == first) {
    if (first != nullptr) {
      node.prev = first->next == nullptr ? first : first->prev;
      first->prev = &node;
    }
    b.value = reinterpret_cast<word>(&node) | (b.value & bits);
    return;
  }
  // Its `prev` is the node after which `node` is linked.
  flight_node& after = before != nullptr ? *before : *first;
  flight_node& ahead = after.next == nullptr && &after == first ? *first : *after.prev;
  node.prev = &ahead;
  after.prev = &node;
  ahead.next = &node;
}

SINGLEFLIGHT_BODY void flight_table::take_out_locked(bucket& b, flight_node& node) noexcept {
  flight_node* const first = b.first();
  flight_node* const next = node.next;
  if (first == &node) {
    if (next != nullptr) next->prev = node.prev;
    b.value = reinterpret_cast<word>(next) | (b.value & bits);
  } else {
    node.prev->next = next;
    (next != nullptr ? next : first)->prev = node.prev;
  }
}

SINGLEFLIGHT_BODY void flight_table::link_forgotten_locked(bucket& b, flight_node& node) noexcept {
  flight_node* before = nullptr;
  if (!platform::holds(rule::forgotten_are_linked_last)) {
    before = b.first();
  } else if (!node.is_settled_locked()) {
    before = b.first();
    while (is_found(before)) before = before->next;
  }
  link_before_locked(b, node, before);
}

SINGLEFLIGHT_COLD SINGLEFLIGHT_BODY void flight_table::grow() noexcept {
  array* const old = current_.load(platform::order(rule::locate_acquires, memory_order_acquire));
  if (old->count >= (std::size_t{1} << 30)) return;
  std::unique_ptr<array> fresh(new (std::nothrow) array);
  if (!fresh) return;
  fresh->count = old->count * 4;
  fresh->shift = old->shift - 2;
  fresh->older = old;
  fresh->heads = new (std::nothrow) head[fresh->count]();
  if (fresh->heads == nullptr) return;
  if ((lock_bit::lock(old->heads[0]) & moved) != 0) {  // another thread has grown the table
    lock_bit::unlock(old->heads[0], moved);
    delete[] fresh->heads;
    return;
  }
  for (std::size_t i = 1; i < old->count; ++i) lock_bit::lock(old->heads[i]);
  std::ptrdiff_t crowd = 0;
  for (std::size_t i = 0; i < old->count; ++i) {
    // Relaxed: this thread holds all locks of both arrays; the release follows with current_.
    const word value = old->heads[i].load(memory_order_relaxed) & ~locked;
    for (std::size_t j = 0; j < 4; ++j) {
      fresh->heads[i * 4 + j].store(value & slow, memory_order_relaxed);
    }
    for (auto* node = reinterpret_cast<flight_node*>(value & ~bits); node != nullptr;) {
      flight_node* const next = node->next;
      head& to = fresh->heads[node->hash >> fresh->shift];
      bucket b{&to, to.load(memory_order_relaxed)};
      if (!node->is_forgotten_locked() && is_found(b.first())) ++crowd;
      // The nodes keep their order (I10).
      link_before_locked(b, *node, platform::holds(rule::growth_keeps_order) ? nullptr : b.first());
      to.store(b.value, memory_order_relaxed);
      node = next;
    }
  }
  crowded_.store(crowd, memory_order_relaxed);
  current_.store(fresh.release(), platform::order(rule::growth_releases, memory_order_release));
  const word left = platform::holds(rule::growth_leaves_a_mark) ? moved : 0;
  for (std::size_t i = 0; i < old->count; ++i) lock_bit::unlock(old->heads[i], left);
}

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE
