// SPDX-License-Identifier: Apache-2.0
#pragma once

// timer_wheel: armed nodes by time; arm, cancel and what each node costs on its way to its fire are
// O(1), whatever their number.
//
// Hashed hierarchical wheels (Varghese & Lauck, SOSP'87, scheme 7) on the clock's own ticks: level
// n has 64 slots of 64^n ns, so a slot of level 0 is one point in time, and nothing has to be
// sorted. A node is stored at the level of the highest digit in which its time differs from the
// wheel's; when the wheel reaches a slot above level 0, the slot's nodes move down, a few at a
// time. A node moves ten times at most.
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

/// A circular list with a sentinel: a node leaves it without knowing which list it is in.
struct timer_list {
  timer_node head{nullptr};  ///< its `when`: no later than any node's; kept by timer_wheel
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
  /// Appends all nodes of `other`, which has some.
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

  /// A time that the wheel has passed counts as the one it has reached: the node is due next.
  void insert(timer_node& node) noexcept;

  /// Takes out the first node in time that is due at `now`. Null: none is, or `steps`, one a node
  /// that moves, are used up.
  timer_node* take(steady_time now, unsigned& steps) noexcept;

  /// When to look again: no later than the first node's time, and that time unless a node was
  /// cancelled; steady_time::max() when empty.
  steady_time next() noexcept;

  template <class Visit>
  void each_list(Visit&& visit) noexcept;

 private:
  static constexpr unsigned bits = 6;
  static constexpr unsigned slots = 64;
  static constexpr unsigned levels = 11;  // 66 bits: the range of the clock

  /// In the order of the times, from 0.
  static std::uint64_t tick_of(steady_time when) noexcept {
    const std::chrono::nanoseconds since = when.time_since_epoch();
    return static_cast<std::uint64_t>(since.count()) ^ (std::uint64_t{1} << 63);
  }
  unsigned level_of(std::uint64_t tick) const noexcept;
  std::uint64_t start_of(unsigned level, unsigned slot) const noexcept;
  /// The first occupied slot in time. Nodes emptied out by cancel leave their bit; it is mended
  /// here. All slots of a level lie at or after the wheel's own, since a node differs there in that
  /// digit.
  bool first(unsigned& level, unsigned& slot) noexcept;
  static timer_node& pop(timer_list& list) noexcept;

  std::uint64_t tick_;  // reached: no node is stored before it
  std::array<std::uint64_t, levels> occupied_{};
  std::array<std::array<timer_list, slots>, levels> wheel_;
  timer_list moving_;  // of the slot that was reached last; earlier than all others
};

/// A wheel with its lock and the firing protocol: what default_timer() and manual_timer share.
class timer_queue final : fork_member {
 public:
  explicit timer_queue(steady_time base);
  ~timer_queue();

  /// The lock, held. While a crowd fires its thread takes the lock again and again, and a mutex may
  /// leave others asleep meanwhile: so they say that they wait, and are let in after a round.
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

  /// Under the lock, for a timer that several threads may fire: whether one is at it. Who takes it
  /// begins a round before the lock goes.
  bool is_taken_locked() const noexcept { return taken_; }
  void take_locked() noexcept { taken_ = true; }
  void leave_locked() noexcept { taken_ = false; }

  /// Waits for the fire that is under way, unless that is on this thread: false.
  bool wait_for_fire(platform::unique_lock& hold) noexcept;

  /// Fires what is due at `now`, in the order of the times, the lock released around each fire. A
  /// round ends after `round_steps` nodes have moved or fired, with others let in: true. One thread
  /// at a time.
  bool fire_round(platform::unique_lock& hold, steady_time now) noexcept;

 private:
  /// Of the fire that is under way.
  bool fires_here() const noexcept;

  bool line_up() noexcept;
  void let_in() noexcept;
  /// Lets one that waits have the lock; not for ever, as its thread may not be scheduled.
  void give_way(platform::unique_lock& hold) noexcept;

  // A round holds the lock for so many short steps at most.
  static constexpr unsigned round_steps = platform::tuned(32U, 2U);

  // ---- fork: no fire is under way then, unless it is on the thread that forks ------------------

  static constexpr std::chrono::milliseconds longest_fire{100};  // that is waited for

  SINGLEFLIGHT_BODY void hold() noexcept override;
  SINGLEFLIGHT_BODY void release() noexcept override;
  SINGLEFLIGHT_BODY void mend() noexcept override;
  static void take_out_vanished(timer_list& list) noexcept;

  // Hints, no data hangs on them: whether a thread fires, and who wants the lock meanwhile.
  atomic<bool> crowd_{false};
  atomic<std::uint32_t> waiting_{0};
  platform::mutex lock_;                       // guards all below
  std::optional<platform::unique_lock> held_;  // around a fork
  platform::condition_variable fired_;
  timer_wheel wheel_;
  const timer_node* firing_ = nullptr;
  platform::thread_id firer_{};  // of the round that is under way, or was the last
  bool taken_ = false;           // see is_taken_locked()
  std::uint64_t fires_ = 0;      // that have ended
  std::uint32_t cancels_ = 0;    // threads that wait to cancel the node that fires
};

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE

#if !defined(SINGLEFLIGHT_COMPILED)
#include "singleflight/core/impl/timer_wheel.hpp"
#endif
