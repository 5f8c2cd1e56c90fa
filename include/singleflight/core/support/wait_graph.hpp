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

class SINGLEFLIGHT_SHARED_STATE wait_graph final : fork_member {
 public:
  class record;

  wait_graph() noexcept;

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

    bool enter_inside(const target& what, const led_frame* led, const led_frame* within,
                      strength how, striker strike, void* waiter);
    /// All frames that the wait is inside of, each once: a frame has two ways outwards, which may
    /// meet again.
    void collect(const led_frame* led, const led_frame* within);
    void add(std::uint64_t id);
    entry& at(std::size_t i) noexcept;

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
  SINGLEFLIGHT_BODY void mend() noexcept override;

  bool enter(record& self) noexcept;

  void leave(record& self) noexcept;

  /// Depth first along the waits; each id and each record is looked at once. With `cut` all waits
  /// up to that strength that are the last such on a way back to `self` are struck; true: there
  /// are other ways.
  bool reaches_itself(record& self, const strength* cut) noexcept;
  void come_to(record& r, record* from) noexcept;
  void look_at_next_id(record& r) noexcept;

  // ---- the table of those who lead --------------------------------------------------------------

  entry*& slot(std::uint64_t id) noexcept;
  entry* find(std::uint64_t id) noexcept;
  void link(entry& e, record& owner) noexcept;
  void unlink(record& r) noexcept;
  void unlink(entry& e) noexcept;

  static constexpr unsigned slot_bits = 12;
  word_lock lock_;  // guards all below and the links of every record
  std::uint64_t walk_ = 0;
  std::array<entry*, std::size_t{1} << slot_bits> slots_{};
};
inline const platform::made_at_load<&wait_graph::instance> wait_graph_at_load;

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE

#if !defined(SINGLEFLIGHT_COMPILED)
#include "singleflight/core/impl/wait_graph.hpp"
#endif
