// SPDX-License-Identifier: Apache-2.0
#pragma once

// timer_wheel: armed nodes ordered by time. Arming, cancelling and a node's moves until it fires
// are O(1), whatever the number of nodes.
//
// Hashed hierarchical wheels (Varghese & Lauck, SOSP'87, scheme 7) on the clock's own ticks: level
// n has 64 slots of 64^n ns, so a slot of level 0 is one point in time, and nothing has to be
// sorted. A node is stored at the level of the highest digit in which its time differs from the
// wheel's; when the wheel reaches a slot above level 0, the slot's nodes move down, a few at a
// time. A node moves at most ten times.
//
// Not synchronised: timer_queue holds the lock.

#include <array>
#include <chrono>
#include <cstdint>
#include <optional>
#include <utility>

#include "singleflight/core/support/fork.hpp"
#include "singleflight/core/timer.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

/// A circular list with a sentinel: a node can be removed without naming its list.
struct timer_list {
  timer_node head{nullptr};  ///< its `when` is no later than any node's; maintained by timer_wheel
  timer_list() noexcept { head.prev = head.next = &head; }
  bool empty() const noexcept { return head.next == &head; }
  static void insert_before(timer_node& place, timer_node& node) noexcept {
    node.prev = place.prev;
    node.next = &place;
    place.prev->next = &node;
    place.prev = &node;
  }
  static void remove(timer_node& node) noexcept {
    node.prev->next = node.next;
    node.next->prev = node.prev;
    node.prev = node.next = nullptr;
  }
  /// Moves all nodes of `other`, which has some, to the end of this list.
  void take_all(timer_list& other) noexcept {
    head.prev->next = other.head.next;
    other.head.next->prev = head.prev;
    head.prev = std::exchange(other.head.prev, &other.head);
    head.prev->next = &head;
    other.head.next = &other.head;
  }
};

class timer_wheel {
 public:
  explicit timer_wheel(steady_time base) noexcept : tick_(tick_of(base)) {}

  /// A node whose time the wheel has passed is stored at the time that the wheel has reached.
  void insert(timer_node& node) noexcept;

  /// Removes the first node in time that is due at `now`. Returns null if none is due, or if
  /// `steps`, one for each node that moves, are used up.
  timer_node* take(steady_time now, unsigned& steps) noexcept;

  /// Returns when to call take() again: at the first node's time, or earlier if a node was
  /// cancelled; steady_time::max() if the wheel is empty.
  steady_time next() noexcept;

  template <class Visit>
  void each_list(Visit&& visit) noexcept;

 private:
  static constexpr unsigned bits = 6;
  static constexpr unsigned slots = 64;
  static constexpr unsigned levels = 11;  // 66 bits: the range of the clock

  /// Ticks have the order of the times, and begin at 0.
  static std::uint64_t tick_of(steady_time when) noexcept {
    const std::chrono::nanoseconds since = when.time_since_epoch();
    return static_cast<std::uint64_t>(since.count()) ^ (std::uint64_t{1} << 63);
  }
  unsigned level_of(std::uint64_t tick) const noexcept;
  std::uint64_t start_of(unsigned level, unsigned slot) const noexcept;
  /// Finds the first occupied slot in time. A slot that cancel has emptied keeps its bit, which is
  /// cleared here. All occupied slots of a level lie at or after the wheel's own, since a node's
  /// time differs from the wheel's in that digit.
  bool first(unsigned& level, unsigned& slot) noexcept;
  static timer_node& pop(timer_list& list) noexcept;

  std::uint64_t tick_;  // the time that the wheel has reached; no node is stored before it
  std::array<std::uint64_t, levels> occupied_{};
  std::array<std::array<timer_list, slots>, levels> wheel_;
  timer_list moving_;  // nodes of the slot that was reached last; earlier than all others
};

/// A wheel with its lock and the firing protocol; shared by default_timer() and manual_timer.
class timer_queue final : fork_member {
 public:
  explicit timer_queue(steady_time base);
  ~timer_queue();

  /// Holds the lock. A thread that fires many nodes takes the lock again and again, and a mutex may
  /// leave other threads asleep meanwhile. So those count themselves as waiting, and get the lock
  /// after a round.
  class turn {
   public:
    explicit turn(timer_queue& queue) noexcept;
    platform::unique_lock& hold() noexcept { return hold_; }

   private:
    const bool waited_;
    platform::unique_lock hold_;
  };

  platform::mutex& lock() noexcept { return lock_; }
  void arm_locked(timer_node& node, steady_time when) noexcept;
  steady_time next_locked() noexcept { return wheel_.next(); }

  void cancel(timer_node& node) noexcept;

  /// Returns whether a thread is firing, for a timer that several threads may fire. A thread that
  /// takes it begins a round before it releases the lock.
  bool is_taken_locked() const noexcept { return taken_; }
  void take_locked() noexcept { taken_ = true; }
  void leave_locked() noexcept { taken_ = false; }

  /// Waits for the current fire to end. Returns false, without waiting, if it is on this thread.
  bool wait_for_fire(platform::unique_lock& hold) noexcept;

  /// Fires the nodes that are due at `now`, in order of time, with the lock released around each
  /// fire. Returns true if it has ended early, after `round_steps` moves and fires, and has given
  /// other threads the lock meanwhile. One thread at a time.
  bool fire_round(platform::unique_lock& hold, steady_time now) noexcept;

 private:
  /// Returns whether the current fire is on this thread.
  bool fires_here() const noexcept;

  bool begin_wait() noexcept;
  void end_wait() noexcept;
  /// Waits until a waiting thread has had the lock, for at most 1 ms, as it may not be scheduled.
  void give_way(platform::unique_lock& hold) noexcept;

  // The most steps that a round makes before it gives way.
  static constexpr unsigned round_steps = platform::tuned(32U, 2U);

  // ---- fork: no other thread is inside a fire at that moment ------------------------------------

  static constexpr std::chrono::milliseconds longest_fire{100};  // a longer one is not waited for

  SINGLEFLIGHT_BODY void hold() noexcept override;
  SINGLEFLIGHT_BODY void release() noexcept override;
  SINGLEFLIGHT_BODY void repair() noexcept override;
  static void remove_vanished(timer_list& list) noexcept;

  // Hints on which no data depends: whether a thread is firing, and how many wait for the lock.
  atomic<bool> round_active_{false};
  atomic<std::uint32_t> waiting_{0};
  platform::mutex lock_;                       // guards all below
  std::optional<platform::unique_lock> held_;  // around a fork
  platform::condition_variable fired_;
  timer_wheel wheel_;
  const timer_node* firing_ = nullptr;
  platform::thread_id firer_{};  // the thread of the current or the last round
  bool taken_ = false;           // see is_taken_locked()
  std::uint64_t fires_ = 0;      // fires that have ended
  std::uint32_t cancels_ = 0;    // threads that wait to cancel the node that is firing
};

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE

#if !defined(SINGLEFLIGHT_COMPILED)
#include "singleflight/core/impl/timer_wheel.hpp"
#endif
