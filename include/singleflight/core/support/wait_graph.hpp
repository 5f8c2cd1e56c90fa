// SPDX-License-Identifier: Apache-2.0
#pragma once

// wait_graph: which waits depend on which; detects a wait that would never end.
//
// Whatever can be waited for has an id: a flight, a batcher's place, one use of a group of tasks, a
// call of start_retry. A thread leads an id while it runs what the id's end depends on: the load, a
// task, an attempt. A record states that, while the ids in its entries are led, its `target` is
// waited for, and with it the id that the target is queued behind. A thread (or a load that has
// named itself with .within) creates it when it is about to wait, so its entries do not change
// while it is in the graph. Before a record is entered, the graph is walked from its target: id ->
// records that lead it -> their targets. If the walk reaches the new record, the wait closes a
// cycle.
//
// Ids are never reused; an edge counts only through an entry that cannot change, and only while its
// target has not ended: so there are no false positives. The last wait of a cycle sees the cycle,
// because records are entered under one lock. The weakest wait of the cycle then fails: the new
// one, unless it waits for tasks, which continue to run whatever it does; it ends weaker waits
// instead.
//
// Only threads and loads that lead something record their waits; all others take no lock. The lock
// is held for a time linear in the record's entries, and in the records and ids that the walk
// visits.

#include <array>
#include <cstdint>
#include <utility>
#include <vector>

#include "singleflight/core/support/bit_lock.hpp"
#include "singleflight/core/support/thread_state.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

class SINGLEFLIGHT_SHARED_STATE wait_graph final : fork_member {
 public:
  class record;

  wait_graph() noexcept;

  static wait_graph& instance() noexcept {
    static platform::never_destroyed<wait_graph> one;
    return one.get();
  }

  /// What is waited for. What it points to outlives every record with it.
  struct target {
    std::uint64_t id = 0;
    const atomic<std::uint64_t>* behind = nullptr;  ///< the id that it is queued behind, or 0
    const atomic<std::uint32_t>* word = nullptr;    ///< null if the id is new for each use
    std::uint32_t mask = 0;
    std::uint32_t over = 0;  ///< the word's value under the mask once the target has ended

    bool is_over() const noexcept {
      return word != nullptr && (word->load(memory_order_acquire) & mask) == over &&
             platform::holds(rule::over_is_no_edge);
    }
  };

  /// Of two waits in a cycle the weaker one fails; of two equally strong ones, the later.
  enum class strength : std::uint8_t {
    weak,    ///< for a result
    strong,  ///< for tasks: error_group::wait
    firm,    ///< for tasks that use the waiter's own objects: it cannot return before they end
  };

  /// States that `owner` leads an id. Entries with the same id form a list whose head is in the
  /// table.
  struct entry {
    std::uint64_t id;
    record* owner;
    entry* next;  // with the same id
    entry* prev;  // null for the head
    // For a head only:
    entry* next_head;
    entry* prev_head;
    std::uint64_t walk;  // the last walk that visited the id
    bool closes;         // that walk has found a path from here to the new record
  };

  /// Wakes a waiter whose wait another wait has ended, so that it checks its record. Called under
  /// the graph's lock.
  using wait_ender = void (*)(void* waiter) noexcept;

  /// A wait. Lives on the waiter's stack or in its coroutine frame for as long as it waits.
  class record {
   public:
    record() noexcept {}  // NOLINT(modernize-use-equals-default): leaves entries uninitialised
    record(const record&) = delete;
    record& operator=(const record&) = delete;
    ~record() { leave(); }

    /// Returns false, without entering the record, if the wait has to fail because it would close a
    /// cycle. Another wait can end this one only if it has an `end_wait`. Throws std::bad_alloc if
    /// more loads are nested than fit inline and no memory is left.
    bool enter(const target& what, const led_frame* led, const led_frame* within,
               strength how = strength::weak, wait_ender end_wait = nullptr,
               void* waiter = nullptr) {
      if (led == nullptr && within == nullptr) return true;
      return enter_inside(what, led, within, how, end_wait, waiter);
    }
    void leave() noexcept {
      if (std::exchange(entered_, false)) instance().leave(*this);
    }
    /// Returns whether another wait has ended this one, which then fails as recursive.
    bool interrupted() const noexcept {
      return entered_ && interrupted_.load(memory_order_acquire);
    }

   private:
    friend class wait_graph;
    static constexpr std::size_t inline_entries = 4;

    bool enter_inside(const target& what, const led_frame* led, const led_frame* within,
                      strength how, wait_ender end_wait, void* waiter);
    /// Adds all frames around the wait, each once: a frame has two links outwards, whose paths may
    /// meet again.
    void collect(const led_frame* led, const led_frame* within);
    void add(std::uint64_t id);
    entry& entry_at(std::size_t i) noexcept;

    target target_;
    std::size_t count_ = 0;
    std::array<entry, inline_entries> first_;
    std::vector<entry> more_;
    strength strength_ = strength::weak;
    bool entered_ = false;  // the waiter's own
    atomic<bool> interrupted_{false};
    wait_ender end_wait_ = nullptr;
    void* waiter_ = nullptr;

    // State of the last walk that visited the record:
    std::uint64_t walk_ = 0;
    record* up_ = nullptr;   // the record from which the walk came
    entry* head_ = nullptr;  // of the id that is being followed
    entry* edge_ = nullptr;  // the next entry with that id to follow
    std::uint8_t ids_ = 0;   // how many of the target's two ids have been followed
    bool closes_ = false;    // a path leads to the new record
  };

 private:
  // ---- fork: the recorded waits belong to threads that the child does not have, or to coroutines
  // that wait for what those lead: none of them is an edge in the child ---------------------------
  SINGLEFLIGHT_COLD void hold() noexcept override { lock_.lock(); }
  SINGLEFLIGHT_COLD void release() noexcept override { lock_.unlock(); }
  SINGLEFLIGHT_BODY void repair() noexcept override;

  bool enter(record& self) noexcept;

  void leave(record& self) noexcept;

  /// Walks the waits depth first, visiting each id and each record once. Without `cut`, returns
  /// whether a path leads back to `self`. With `cut`, ends on each such path the last wait that is
  /// no stronger than `cut`; returns whether a path is left.
  bool reaches_itself(record& self, const strength* cut) noexcept;
  void visit(record& r, record* from) noexcept;
  void follow_next_id(record& r) noexcept;

  // ---- the table of led ids ---------------------------------------------------------------------

  entry*& slot(std::uint64_t id) noexcept;
  entry* find(std::uint64_t id) noexcept;
  void link(entry& e, record& owner) noexcept;
  void unlink(record& r) noexcept;
  void unlink(entry& e) noexcept;

  static constexpr unsigned slot_bits = 12;
  word_lock lock_;  // guards the members below and the links of every record
  std::uint64_t walk_ = 0;
  std::array<entry*, std::size_t{1} << slot_bits> slots_{};
};
inline const platform::made_at_load<&wait_graph::instance> wait_graph_at_load;

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE

#if !defined(SINGLEFLIGHT_COMPILED)
#include "singleflight/core/impl/wait_graph.hpp"
#endif
