// SPDX-License-Identifier: Apache-2.0
#pragma once

// wait_graph: who waits for what while leading what; finds the wait that would never end.
//
// What can be waited for has an id: a flight, a batcher's place, one use of a group of tasks, a
// call of start_retry. A thread leads an id while it runs what the id's end depends on: the load, a
// task, an attempt. A record says: while the ids in its entries are led, `target` is waited for,
// and with it what that stands behind. It is made by a thread (or by a load that named itself with
// .within) when it is about to wait, so its entries are frozen as long as it stands here. Before a
// record enters, the graph is walked from its target: id -> records that lead it -> their targets.
// Meeting the new record means that the wait closes a cycle.
//
// Ids are never reused, an edge counts only through a frozen entry, and only while its target is
// not over: so there are no false positives. The last wait of a cycle sees it, because records
// enter under one lock. The weakest wait of the cycle then fails: the new one, unless it waits for
// tasks, which run on whatever it does; it strikes weaker ones instead.
//
// Only waits of those who lead something come here; all others take no lock. The lock is held for
// time linear in the record's entries, and in the records and ids that the walk comes by.

#include <array>
#include <cstdint>
#include <utility>
#include <vector>

#include "singleflight/core/support/bit_lock.hpp"
#include "singleflight/core/support/thread_state.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

/// Frames that have been seen; found by their address.
class frame_set {
 public:
  /// False when it is there already.
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
    const std::uint64_t at = reinterpret_cast<std::uintptr_t>(frame);
    std::size_t i = static_cast<std::size_t>(at * 0x9e3779b97f4a7c15U >> 20) & mask;
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

class SINGLEFLIGHT_SHARED_STATE wait_graph final : fork_member {
 public:
  class record;

  wait_graph() noexcept : fork_member(rank::waits) { enter_forks(); }

  static wait_graph& instance() noexcept {
    static platform::never_destroyed<wait_graph> one;
    return one.get();
  }

  /// What is waited for. What it points to lives as long as a record with it.
  struct target {
    std::uint64_t id = 0;
    const atomic<std::uint64_t>* behind = nullptr;  ///< the id of what it stands behind, or 0
    const atomic<std::uint32_t>* word = nullptr;    ///< null: the id is new for each use
    std::uint32_t mask = 0;
    std::uint32_t over = 0;  ///< what the word says under the mask once it is over

    bool is_over() const noexcept {
      return word != nullptr && (word->load(memory_order_acquire) & mask) == over &&
             platform::holds(rule::over_is_no_edge);
    }
  };

  /// Of two waits in a cycle the weaker one fails; of two that are alike, the later one.
  enum class strength : std::uint8_t {
    weak,    ///< for a result
    strong,  ///< for tasks: error_group::wait
    firm,    ///< for tasks that use what goes with the waiter: it cannot return before they end
  };

  /// One who leads an id. Those with one id are a list; its head stands in the table.
  struct entry {
    std::uint64_t id;
    record* owner;
    entry* next;  // of the same id
    entry* prev;  // null for the head
    // Of a head:
    entry* next_head;
    entry* prev_head;
    std::uint64_t walk;  // the last walk that came by
    bool closes;         // it has found a way from here to the new record
  };

  /// How a wait that has been struck is made to look at its record; under the graph's lock.
  using striker = void (*)(void* waiter) noexcept;

  /// Lives on the waiter's stack, or in its frame, as long as it waits.
  class record {
   public:
    record() noexcept {}  // NOLINT(modernize-use-equals-default): the entries are left as they are
    record(const record&) = delete;
    record& operator=(const record&) = delete;
    ~record() { leave(); }

    /// False when the wait has to fail: it would close a cycle; the record is then not entered. A
    /// wait that has no striker is never struck. Throws std::bad_alloc when more loads are nested
    /// than fit inline and memory is short.
    bool enter(const target& what, const led_frame* led, const led_frame* within,
               strength how = strength::weak, striker strike = nullptr, void* waiter = nullptr) {
      if (led == nullptr && within == nullptr) return true;
      return enter_inside(what, led, within, how, strike, waiter);
    }
    void leave() noexcept {
      if (std::exchange(entered_, false)) instance().leave(*this);
    }
    /// Whether another wait has ended this one, which is to fail as recursive.
    bool struck() const noexcept { return entered_ && struck_.load(memory_order_acquire); }

   private:
    friend class wait_graph;
    static constexpr std::size_t inline_entries = 4;

    SINGLEFLIGHT_COLD bool enter_inside(const target& what, const led_frame* led,
                                        const led_frame* within, strength how, striker strike,
                                        void* waiter) {
      collect(led, within);
      if (count_ == 0 || !platform::holds(rule::waits_are_recorded)) return true;
      target_ = what;
      strength_ = how;
      strike_ = strike;
      waiter_ = waiter;
      entered_ = instance().enter(*this);
      return entered_;
    }
    /// All frames that the wait is inside of, each once: a frame has two ways outwards, which may
    /// meet again.
    void collect(const led_frame* led, const led_frame* within) {
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
    void add(std::uint64_t id) {
      (count_ < inline_entries ? first_[count_] : more_.emplace_back()).id = id;
      ++count_;
    }
    entry& at(std::size_t i) noexcept {
      return i < inline_entries ? first_[i] : more_[i - inline_entries];
    }

    target target_;
    std::size_t count_ = 0;
    std::array<entry, inline_entries> first_;
    std::vector<entry> more_;
    strength strength_ = strength::weak;
    bool entered_ = false;  // the waiter's own
    atomic<bool> struck_{false};
    striker strike_ = nullptr;
    void* waiter_ = nullptr;

    // Of the last walk that came by:
    std::uint64_t walk_ = 0;
    record* up_ = nullptr;   // from where it came
    entry* head_ = nullptr;  // of the id that is looked at
    entry* edge_ = nullptr;  // who leads that id, from here on still to be looked at
    std::uint8_t ids_ = 0;   // how many ids have been looked at, of two
    bool closes_ = false;    // there is a way to the new record
  };

 private:
  // ---- fork: the waits that are recorded are those of threads that are not there any more, or of
  // coroutines that wait for what they lead: none of them is an edge in a child -------------------
  SINGLEFLIGHT_COLD void hold() noexcept override { lock_.lock(); }
  SINGLEFLIGHT_COLD void release() noexcept override { lock_.unlock(); }
  SINGLEFLIGHT_COLD void mend() noexcept override {
    for (entry*& slot : slots_) {
      for (entry* head = std::exchange(slot, nullptr); head != nullptr; head = head->next_head) {
        for (entry* e = head; e != nullptr; e = e->next) e->owner->entered_ = false;
      }
    }
  }

  SINGLEFLIGHT_COLD bool enter(record& self) noexcept {
    lock_.lock();
    for (std::size_t i = 0; i < self.count_; ++i) link(self.at(i), self);
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

  SINGLEFLIGHT_COLD void leave(record& self) noexcept {
    lock_.lock();
    unlink(self);
    lock_.unlock();
  }

  /// Depth first along the waits; each id and each record is looked at once. With `cut` all waits
  /// up to that strength that are the last such on a way back to `self` are struck; true: there
  /// are other ways.
  SINGLEFLIGHT_COLD bool reaches_itself(record& self, const strength* cut) noexcept {
    ++walk_;
    record* at = &self;
    come_to(self, nullptr);
    for (;;) {
      if (at->edge_ != nullptr) {
        record& r = *std::exchange(at->edge_, at->edge_->next)->owner;
        if (&r == &self) {
          if (cut == nullptr) return true;
          at->head_->closes = true;
        } else if (r.walk_ == walk_) {
          at->head_->closes = at->head_->closes || r.closes_;
        } else if (!r.struck_.load(memory_order_relaxed) && !r.target_.is_over()) {
          come_to(r, at);
          at = &r;
        }
      } else if (at->head_ != nullptr) {  // all who lead the id have been looked at
        at->closes_ = at->closes_ || at->head_->closes;
        at->head_ = nullptr;
      } else if (at->ids_ < 2) {
        look_at_next_id(*at);
      } else if (at == &self) {
        return at->closes_;
      } else {
        if (at->closes_ && at->strength_ <= *cut && at->strike_ != nullptr &&
            platform::holds(rule::weaker_wait_is_struck)) {
          at->closes_ = false;
          at->struck_.store(true, memory_order_release);
          at->strike_(at->waiter_);
        }
        at->up_->head_->closes = at->up_->head_->closes || at->closes_;
        at = at->up_;
      }
    }
  }
  void come_to(record& r, record* from) noexcept {
    r.walk_ = walk_;
    r.up_ = from;
    r.head_ = nullptr;
    r.edge_ = nullptr;
    r.ids_ = 0;
    r.closes_ = false;
  }
  void look_at_next_id(record& r) noexcept {
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

  // ---- the table of those who lead --------------------------------------------------------------

  entry*& slot(std::uint64_t id) noexcept {
    return slots_[static_cast<std::size_t>((id * 0x9e3779b97f4a7c15U) >> (64 - slot_bits))];
  }
  entry* find(std::uint64_t id) noexcept {
    entry* head = slot(id);
    while (head != nullptr && head->id != id) head = head->next_head;
    return head;
  }
  void link(entry& e, record& owner) noexcept {
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
  void unlink(record& r) noexcept {
    for (std::size_t i = 0; i < r.count_; ++i) unlink(r.at(i));
  }
  void unlink(entry& e) noexcept {
    if (e.prev != nullptr) {
      e.prev->next = e.next;
      if (e.next != nullptr) e.next->prev = e.prev;
      return;
    }
    entry* heir = e.next_head;
    if (e.next != nullptr) {
      heir = e.next;
      heir->prev = nullptr;
      heir->walk = 0;
      heir->next_head = e.next_head;
      if (e.next_head != nullptr) e.next_head->prev_head = heir;
    }
    (e.prev_head != nullptr ? e.prev_head->next_head : slot(e.id)) = heir;
    if (heir != nullptr) heir->prev_head = e.prev_head;
  }

  static constexpr unsigned slot_bits = 12;
  word_lock lock_;  // guards all below and the links of every record
  std::uint64_t walk_ = 0;
  std::array<entry*, std::size_t{1} << slot_bits> slots_{};
};
inline const platform::made_at_load<&wait_graph::instance> wait_graph_at_load;

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE
