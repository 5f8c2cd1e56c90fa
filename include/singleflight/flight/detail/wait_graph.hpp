// SPDX-License-Identifier: Apache-2.0
#pragma once

// wait_graph: who waits for which flight while leading which; finds the wait that would never end.
//
// A record says: while the flights in `entries` are led, the flight `target` is waited for, and
// with it the one that `target` stands behind. It is made by a thread (or by a load that named
// itself with .within) when it is about to wait, so its entries are frozen as long as it stands
// here. Before a record enters, the graph is walked from its target: flight -> records that lead it
// -> their targets. Meeting one of the new record's own entries means that the wait closes a cycle.
// Ids are never reused, and an edge counts only through a frozen entry, so there are no false
// positives. The last wait of a cycle is the one that sees it, because records enter under one
// lock.
//
// Only waits of those who lead something come here; all others take no lock.

#include <array>
#include <cstdint>
#include <vector>

#include "singleflight/core/detail/bit_lock.hpp"
#include "singleflight/core/detail/thread_state.hpp"
#include "singleflight/flight/detail/flight_block.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

class SINGLEFLIGHT_SHARED_STATE wait_graph final : fork_member {
 public:
  class record;

  wait_graph() noexcept : fork_member(rank::last) { enter_forks(); }
  ~wait_graph() override { leave_forks(); }

  static wait_graph& instance() noexcept {
    static platform::never_destroyed<wait_graph> one;
    return one.get();
  }

  struct entry {
    std::uint64_t id = 0;
    record* owner = nullptr;
    entry* next = nullptr;
    entry* prev = nullptr;
  };

  /// Lives on the waiter's stack, or in its frame, as long as it waits.
  class record {
   public:
    record() noexcept = default;
    record(const record&) = delete;
    record& operator=(const record&) = delete;
    ~record() {
      if (target_ != nullptr) instance().leave(*this);
    }

    /// False when waiting for `target` would close a cycle; the record is then not entered.
    /// Throws std::bad_alloc when more loads are nested than fit inline and memory is short.
    bool enter(const block_base& target, const led_frame* led, const led_frame* within) {
      add(led);
      add(within);
      if (count_ == 0 || !platform::holds(rule::waits_are_recorded)) return true;
      return instance().enter(*this, target);
    }

   private:
    friend class wait_graph;
    static constexpr std::size_t inline_entries = 4;

    void add(const led_frame* frame) {
      for (; frame != nullptr; frame = frame->outer) {
        if (frame->within != nullptr) add(frame->within);
        if (holds(frame->flight_id)) continue;
        if (count_ < inline_entries) {
          first_[count_].id = frame->flight_id;
        } else {
          more_.emplace_back().id = frame->flight_id;
        }
        ++count_;
      }
    }
    bool holds(std::uint64_t id) const noexcept {
      for (std::size_t i = 0; i < count_; ++i) {
        if (at(i).id == id) return true;
      }
      return false;
    }
    entry& at(std::size_t i) noexcept {
      return i < inline_entries ? first_[i] : more_[i - inline_entries];
    }
    const entry& at(std::size_t i) const noexcept {
      return i < inline_entries ? first_[i] : more_[i - inline_entries];
    }

    const block_base* target_ = nullptr;
    std::size_t count_ = 0;
    std::array<entry, inline_entries> first_;
    std::vector<entry> more_;
    std::uint64_t walk_ = 0;      // the last walk that came by
    record* to_visit_ = nullptr;  // of that walk
  };

 private:
  // ---- fork: the waits that are recorded are those of threads that are not there any more, or of
  // coroutines that wait for what they lead -------------------------------------------------------
  void hold() noexcept override { lock_.lock(); }
  void release() noexcept override { lock_.unlock(); }
  void mend() noexcept override {
    for (entry*& first : slots_) {
      for (const entry* e = first; e != nullptr; e = e->next) e->owner->target_ = nullptr;
      first = nullptr;
    }
  }

  bool enter(record& self, const block_base& target) noexcept {
    lock_.lock();
    const bool cycle = reaches(self, target);
    if (!cycle) {
      self.target_ = &target;
      for (std::size_t i = 0; i < self.count_; ++i) {
        entry& e = self.at(i);
        entry*& head = slot(e.id);
        e.owner = &self;
        e.prev = nullptr;
        e.next = head;
        if (head != nullptr) head->prev = &e;
        head = &e;
      }
    }
    lock_.unlock();
    return !cycle;
  }

  void leave(record& self) noexcept {
    lock_.lock();
    for (std::size_t i = 0; i < self.count_; ++i) {
      entry& e = self.at(i);
      (e.prev != nullptr ? e.prev->next : slot(e.id)) = e.next;
      if (e.next != nullptr) e.next->prev = e.prev;
    }
    lock_.unlock();
  }

  bool reaches(const record& self, const block_base& from) noexcept {
    ++walk_;
    record* open = nullptr;
    if (meets(self, from, open)) return true;
    while (open != nullptr) {
      const record* const r = open;
      open = open->to_visit_;
      if (meets(self, *r->target_, open)) return true;
    }
    return false;
  }

  /// Whether `target`, or what it stands behind, is led by `self`; adds those who lead it to
  /// `open`.
  bool meets(const record& self, const block_base& target, record*& open) noexcept {
    for (const std::uint64_t id : {target.id, target.behind.load(memory_order_acquire)}) {
      if (id == 0) continue;
      if (self.holds(id)) return true;
      for (entry* e = slot(id); e != nullptr; e = e->next) {
        if (e->id == id && e->owner->walk_ != walk_) {
          e->owner->walk_ = walk_;
          e->owner->to_visit_ = open;
          open = e->owner;
        }
      }
    }
    return false;
  }

  entry*& slot(std::uint64_t id) noexcept {
    return slots_[(id * 0x9e3779b97f4a7c15U) >> (64 - slot_bits)];
  }

  static constexpr unsigned slot_bits = 10;
  word_lock lock_;  // guards all below and the links of every record
  std::uint64_t walk_ = 0;
  std::array<entry*, std::size_t{1} << slot_bits> slots_{};
};

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE
