// SPDX-License-Identifier: Apache-2.0
#pragma once

// flight_table: changes of a chain under its lock, growth, and forks.

#include <memory>
#include <new>
#include <utility>

#include "singleflight/flight/detail/flight_table.hpp"
#include "singleflight/flight/detail/rules.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

SINGLEFLIGHT_BODY flight_table::~flight_table() {
  array* a = current_.load(memory_order_relaxed);
  if (array* const next = a->next.load(memory_order_relaxed)) a = next;
  while (a != &first_) delete std::exchange(a, a->older);
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
    // While this lock is held, the current array stays the current one, and so does its next one.
    if (current_.load(memory_order_relaxed) == a) {
      for (std::size_t i = 1; i < a->count; ++i) lock_bit::lock(a->heads[i]);
      const array* const next = a->next.load(memory_order_relaxed);
      for (std::size_t i = 0; next != nullptr && i < next->count; ++i) {
        lock_bit::lock(next->heads[i]);
      }
      return;
    }
    lock_bit::unlock(a->heads[0], first);
  }
}

SINGLEFLIGHT_BODY void flight_table::release_all() const noexcept {
  const array* const a = current_.load(memory_order_relaxed);
  const auto release = [](const array& one, std::size_t from) {
    for (std::size_t i = from; i < one.count; ++i) {
      lock_bit::unlock(one.heads[i], one.heads[i].load(memory_order_relaxed) & ~locked);
    }
  };
  if (const array* const next = a->next.load(memory_order_relaxed)) release(*next, 0);
  release(*a, 1);
  lock_bit::unlock(a->heads[0], a->heads[0].load(memory_order_relaxed) & ~locked);
}

SINGLEFLIGHT_COLD SINGLEFLIGHT_BODY void flight_table::repair_held() noexcept {
  crowded_.store(0, memory_order_relaxed);
  array* const a = current_.load(memory_order_relaxed);
  std::size_t count = 0;
  for (std::size_t i = 0; i < a->count; ++i) {
    if ((a->heads[i].load(memory_order_relaxed) & moved) != 0) ++count;
  }
  a->moved_count.store(count, memory_order_relaxed);
  a->claimed.store(0, memory_order_relaxed);
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

SINGLEFLIGHT_COLD SINGLEFLIGHT_BODY auto flight_table::begin_growth(array& old) noexcept -> array* {
  if (old.count >= (std::size_t{1} << 30)) return nullptr;
  std::unique_ptr<array> fresh(new (std::nothrow) array);
  if (!fresh) return nullptr;
  fresh->count = old.count * factor;
  fresh->shift = old.shift - factor_bits;
  fresh->older = &old;
  fresh->memory = zeroed_array<head>(fresh->count);
  fresh->heads = fresh->memory.data();
  if (fresh->heads == nullptr) return nullptr;
  const word first = lock_bit::lock(old.heads[0]);
  array* next = old.next.load(memory_order_relaxed);
  if (next == nullptr) {
    next = fresh.release();
    old.next.store(next, platform::order(rule::growth_releases, memory_order_release));
  }
  lock_bit::unlock(old.heads[0], first);
  return next;
}

/// Moves a bucket whose lock is taken here; a bucket that has moved stays as it is.
SINGLEFLIGHT_BODY void flight_table::move_bucket(array& old, std::size_t i, array& fresh) noexcept {
  const word value = lock_bit::lock(old.heads[i]);
  if ((value & moved) != 0) return lock_bit::unlock(old.heads[i], value);
  // Relaxed: no other thread uses these heads before `moved`, which the unlock releases.
  for (std::size_t j = 0; j < factor; ++j) {
    fresh.heads[i * factor + j].store(value & slow, memory_order_relaxed);
  }
  std::ptrdiff_t crowd = 0;
  bool alone = true;  // of the nodes that can be found
  for (auto* node = reinterpret_cast<flight_node*>(value & ~bits); node != nullptr;) {
    flight_node* const next = node->next;
    head& to = fresh.heads[node->hash >> fresh.shift];
    bucket b{&to, to.load(memory_order_relaxed)};
    if (!node->is_forgotten_locked()) {
      if (is_found(b.first())) ++crowd;
      if (!std::exchange(alone, false)) --crowd;
    }
    // The nodes keep their order (I10).
    link_before_locked(b, *node, platform::holds(rule::growth_keeps_order) ? nullptr : b.first());
    to.store(b.value, memory_order_relaxed);
    node = next;
  }
  if (crowd != 0) crowded_.fetch_add(crowd, memory_order_relaxed);
  lock_bit::unlock(old.heads[i], platform::holds(rule::growth_leaves_a_mark) ? moved : 0);
  // All moves happen-before the next array is published, by whichever thread moves the last one.
  old.moved_count.fetch_add(1, platform::order(rule::growth_releases, memory_order_release));
}

SINGLEFLIGHT_COLD SINGLEFLIGHT_BODY void flight_table::grow() noexcept {
  array& old = *current_.load(platform::order(rule::locate_acquires, memory_order_acquire));
  array* fresh = old.next.load(platform::order(rule::locate_acquires, memory_order_acquire));
  if (fresh == nullptr) fresh = begin_growth(old);
  if (fresh == nullptr || old.claimed.load(memory_order_relaxed) >= old.count) return;
  const std::size_t from = old.claimed.fetch_add(step, memory_order_relaxed);
  for (std::size_t i = from; i < from + step && i < old.count; ++i) move_bucket(old, i, *fresh);
  if (old.moved_count.load(platform::order(rule::locate_acquires, memory_order_acquire)) <
      old.count) {
    return;
  }
  const word first = lock_bit::lock(old.heads[0]);
  if (current_.load(memory_order_relaxed) == &old) {
    current_.store(fresh, platform::order(rule::growth_releases, memory_order_release));
  }
  lock_bit::unlock(old.heads[0], first);
}

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE
