// SPDX-License-Identifier: Apache-2.0
#pragma once

// wait_graph: recording a wait, and the walk that finds a cycle.

#include <array>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "singleflight/core/support/rules.hpp"
#include "singleflight/core/support/wait_graph.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

/// The frames that collect() has visited: a hash set of their addresses.
class frame_set {
 public:
  /// Returns false if it is in the set already.
  bool insert(const led_frame* frame) {
    if (2 * ++count_ > size()) grow();
    return put(frame);
  }

 private:
  static constexpr std::size_t inline_slots = 16;

  std::size_t size() const noexcept { return more_.empty() ? inline_slots : more_.size(); }
  bool put(const led_frame* frame) noexcept {
    const led_frame** const slots = more_.empty() ? first_.data() : more_.data();
    const std::size_t mask = size() - 1;
    const std::uint64_t address = reinterpret_cast<std::uintptr_t>(frame);
    std::size_t i = static_cast<std::size_t>(address * 0x9e3779b97f4a7c15U >> 20) & mask;
    for (; slots[i] != nullptr; i = (i + 1) & mask) {
      if (slots[i] == frame) return false;
    }
    slots[i] = frame;
    return true;
  }
  void grow() {
    std::vector<const led_frame*> old(4 * size());
    old.swap(more_);
    const bool was_inline = old.empty();
    for (const led_frame* f : old) {
      if (f != nullptr) put(f);
    }
    if (!was_inline) return;
    for (const led_frame* f : first_) {
      if (f != nullptr) put(f);
    }
  }

  std::size_t count_ = 0;
  std::array<const led_frame*, inline_slots> first_{};
  std::vector<const led_frame*> more_;
};

SINGLEFLIGHT_BODY wait_graph::wait_graph() noexcept : fork_member(rank::waits) { enter_forks(); }

SINGLEFLIGHT_COLD SINGLEFLIGHT_BODY bool wait_graph::record::enter_inside(
    const target& what, const led_frame* led, const led_frame* within, strength how,
    wait_ender end_wait, void* waiter) {
  collect(led, within);
  if (count_ == 0 || !platform::holds(rule::waits_are_recorded)) return true;
  target_ = what;
  strength_ = how;
  end_wait_ = end_wait;
  waiter_ = waiter;
  entered_ = instance().enter(*this);
  return entered_;
}

SINGLEFLIGHT_BODY void wait_graph::record::collect(const led_frame* led, const led_frame* within) {
  frame_set seen;
  std::vector<const led_frame*> open;
  for (const led_frame* f : {led, within}) {
    for (;;) {
      while (f != nullptr && seen.insert(f)) {
        if (f->flight_id != 0) add(f->flight_id);
        if (f->within != nullptr && f->within != f->outer) open.push_back(f->within);
        f = f->outer;
      }
      if (open.empty()) break;
      f = open.back();
      open.pop_back();
    }
  }
}

SINGLEFLIGHT_BODY void wait_graph::record::add(std::uint64_t id) {
  (count_ < inline_entries ? first_[count_] : more_.emplace_back()).id = id;
  ++count_;
}

SINGLEFLIGHT_BODY wait_graph::entry& wait_graph::record::entry_at(std::size_t i) noexcept {
  return i < inline_entries ? first_[i] : more_[i - inline_entries];
}

SINGLEFLIGHT_BODY void wait_graph::repair() noexcept {
  for (entry*& slot : slots_) {
    for (entry* head = std::exchange(slot, nullptr); head != nullptr; head = head->next_head) {
      for (entry* e = head; e != nullptr; e = e->next) e->owner->entered_ = false;
    }
  }
}

SINGLEFLIGHT_COLD SINGLEFLIGHT_BODY bool wait_graph::enter(record& self) noexcept {
  lock_.lock();
  for (std::size_t i = 0; i < self.count_; ++i) link(self.entry_at(i), self);
  bool cycle = self.strength_ == strength::weak && reaches_itself(self, nullptr);
  for (const strength weaker : {strength::weak, strength::strong}) {
    if (weaker >= self.strength_) break;
    cycle = reaches_itself(self, &weaker);
    if (!cycle) break;
  }
  const bool fails = cycle && self.strength_ != strength::firm;
  if (fails) unlink(self);
  lock_.unlock();
  return !fails;
}

SINGLEFLIGHT_COLD SINGLEFLIGHT_BODY void wait_graph::leave(record& self) noexcept {
  lock_.lock();
  unlink(self);
  lock_.unlock();
}

SINGLEFLIGHT_COLD SINGLEFLIGHT_BODY bool wait_graph::reaches_itself(record& self,
                                                                    const strength* cut) noexcept {
  ++walk_;
  record* current = &self;
  visit(self, nullptr);
  for (;;) {
    if (current->edge_ != nullptr) {
      record& r = *std::exchange(current->edge_, current->edge_->next)->owner;
      if (&r == &self) {
        if (cut == nullptr) return true;
        current->head_->closes = true;
      } else if (r.walk_ == walk_) {
        current->head_->closes = current->head_->closes || r.closes_;
      } else if (!r.interrupted_.load(memory_order_relaxed) && !r.target_.is_over()) {
        visit(r, current);
        current = &r;
      }
    } else if (current->head_ != nullptr) {  // all entries with the id have been followed
      current->closes_ = current->closes_ || current->head_->closes;
      current->head_ = nullptr;
    } else if (current->ids_ < 2) {
      follow_next_id(*current);
    } else if (current == &self) {
      return current->closes_;
    } else {
      if (current->closes_ && current->strength_ <= *cut && current->end_wait_ != nullptr &&
          platform::holds(rule::weaker_wait_is_ended)) {
        current->closes_ = false;
        current->interrupted_.store(true, memory_order_release);
        current->end_wait_(current->waiter_);
      }
      current->up_->head_->closes = current->up_->head_->closes || current->closes_;
      current = current->up_;
    }
  }
}

SINGLEFLIGHT_BODY void wait_graph::visit(record& r, record* from) noexcept {
  r.walk_ = walk_;
  r.up_ = from;
  r.head_ = nullptr;
  r.edge_ = nullptr;
  r.ids_ = 0;
  r.closes_ = false;
}

SINGLEFLIGHT_BODY void wait_graph::follow_next_id(record& r) noexcept {
  const target& t = r.target_;
  const std::uint64_t id = r.ids_++ == 0         ? t.id
                           : t.behind != nullptr ? t.behind->load(memory_order_acquire)
                                                 : 0;
  entry* const head = id != 0 ? find(id) : nullptr;
  if (head == nullptr) return;
  if (head->walk == walk_) {
    r.closes_ = r.closes_ || head->closes;
  } else {
    head->walk = walk_;
    head->closes = false;
    r.head_ = r.edge_ = head;
  }
}

SINGLEFLIGHT_BODY wait_graph::entry*& wait_graph::slot(std::uint64_t id) noexcept {
  return slots_[static_cast<std::size_t>((id * 0x9e3779b97f4a7c15U) >> (64 - slot_bits))];
}

SINGLEFLIGHT_BODY wait_graph::entry* wait_graph::find(std::uint64_t id) noexcept {
  entry* head = slot(id);
  while (head != nullptr && head->id != id) head = head->next_head;
  return head;
}

SINGLEFLIGHT_BODY void wait_graph::link(entry& e, record& owner) noexcept {
  e.owner = &owner;
  e.walk = 0;
  if (entry* const head = find(e.id)) {
    e.prev = head;
    e.next = head->next;
    if (e.next != nullptr) e.next->prev = &e;
    head->next = &e;
  } else {
    e.next = e.prev = e.prev_head = nullptr;
    e.next_head = std::exchange(slot(e.id), &e);
    if (e.next_head != nullptr) e.next_head->prev_head = &e;
  }
}

SINGLEFLIGHT_BODY void wait_graph::unlink(record& r) noexcept {
  for (std::size_t i = 0; i < r.count_; ++i) unlink(r.entry_at(i));
}

SINGLEFLIGHT_BODY void wait_graph::unlink(entry& e) noexcept {
  if (e.prev != nullptr) {
    e.prev->next = e.next;
    if (e.next != nullptr) e.next->prev = e.prev;
    return;
  }
  entry* replacement = e.next_head;
  if (e.next != nullptr) {
    replacement = e.next;
    replacement->prev = nullptr;
    replacement->walk = 0;
    replacement->next_head = e.next_head;
    if (e.next_head != nullptr) e.next_head->prev_head = replacement;
  }
  (e.prev_head != nullptr ? e.prev_head->next_head : slot(e.id)) = replacement;
  if (replacement != nullptr) replacement->prev_head = e.prev_head;
}

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE
