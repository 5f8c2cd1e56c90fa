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

#include <algorithm>
#include <array>
#include <bit>
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
  void insert(timer_node& node) noexcept {
    const std::uint64_t tick = std::max(tick_of(node.when), tick_);
    const unsigned level = level_of(tick);
    const unsigned slot = static_cast<unsigned>(tick >> (bits * level)) % slots;
    occupied_[level] |= std::uint64_t{1} << slot;
    timer_list& list = wheel_[level][slot];
    list.head.when = list.empty() ? node.when : std::min(list.head.when, node.when);
    timer_list::insert_before(list.head, node);
  }

  /// Takes out the first node in time that is due at `now`. Null: none is, or `steps`, one a node
  /// that moves, are used up.
  timer_node* take(steady_time now, unsigned& steps) noexcept {
    for (;;) {
      // Whatever fires before all of a slot has moved might be later than what still has to.
      while (!moving_.empty()) {
        if (steps == 0) return nullptr;
        --steps;
        insert(pop(moving_));
        if (!platform::holds(rule::slot_moves_before_fires)) break;
      }
      unsigned level = 0;
      unsigned slot = 0;
      if (!first(level, slot)) return nullptr;
      timer_list& list = wheel_[level][slot];
      if (list.head.when > now) return nullptr;
      tick_ = std::max(tick_, start_of(level, slot));
      if (level == 0) return &pop(list);
      occupied_[level] &= ~(std::uint64_t{1} << slot);
      moving_.take_all(list);
    }
  }

  /// When to look again: no later than the first node's time, and that time unless a node was
  /// cancelled; steady_time::max() when empty.
  steady_time next() noexcept {
    if (!moving_.empty()) return moving_.head.next->when;
    unsigned level = 0;
    unsigned slot = 0;
    return first(level, slot) ? wheel_[level][slot].head.when : steady_time::max();
  }

  template <class Visit>
  void each_list(Visit&& visit) noexcept {
    for (auto& level : wheel_) {
      for (timer_list& list : level) visit(list);
    }
    visit(moving_);
  }

 private:
  static constexpr unsigned bits = 6;
  static constexpr unsigned slots = 64;
  static constexpr unsigned levels = 11;  // 66 bits: the range of the clock

  /// In the order of the times, from 0.
  static std::uint64_t tick_of(steady_time when) noexcept {
    const std::chrono::nanoseconds since = when.time_since_epoch();
    return static_cast<std::uint64_t>(since.count()) ^ (std::uint64_t{1} << 63);
  }
  unsigned level_of(std::uint64_t tick) const noexcept {
    return (63U - static_cast<unsigned>(std::countl_zero((tick ^ tick_) | (slots - 1)))) / bits;
  }
  std::uint64_t start_of(unsigned level, unsigned slot) const noexcept {
    const unsigned above = bits * (level + 1);
    const std::uint64_t high = above < 64 ? tick_ >> above << above : 0;
    return high | (std::uint64_t{slot} << (bits * level));
  }
  /// The first occupied slot in time. Nodes emptied out by cancel leave their bit; it is mended
  /// here. All slots of a level lie at or after the wheel's own, since a node differs there in that
  /// digit.
  bool first(unsigned& level, unsigned& slot) noexcept {
    for (level = 0; level < levels; ++level) {
      while (occupied_[level] != 0) {
        slot = static_cast<unsigned>(std::countr_zero(occupied_[level]));
        if (!wheel_[level][slot].empty()) return true;
        occupied_[level] &= occupied_[level] - 1;
      }
    }
    return false;
  }
  static timer_node& pop(timer_list& list) noexcept {
    timer_node& node = *list.head.next;
    timer_list::remove(node);
    return node;
  }

  std::uint64_t tick_;  // reached: no node is stored before it
  std::array<std::uint64_t, levels> occupied_{};
  std::array<std::array<timer_list, slots>, levels> wheel_;
  timer_list moving_;  // of the slot that was reached last; earlier than all others
};

/// A wheel with its lock and the firing protocol: what default_timer() and manual_timer share.
class timer_queue final : fork_member {
 public:
  explicit timer_queue(steady_time base) : fork_member(rank::timer), wheel_(base) { enter_forks(); }
  ~timer_queue() { leave_forks(); }

  /// The lock, held. While a crowd fires its thread takes the lock again and again, and a mutex may
  /// leave others asleep meanwhile: so they say that they wait, and are let in after a round.
  class turn {
   public:
    explicit turn(timer_queue& queue) noexcept : waited_(queue.line_up()), hold_(queue.lock_) {
      if (waited_) queue.let_in();
    }
    platform::unique_lock& hold() noexcept { return hold_; }

   private:
    const bool waited_;
    platform::unique_lock hold_;
  };

  platform::mutex& lock() noexcept { return lock_; }
  void arm_locked(timer_node& node, steady_time when) noexcept {
    node.when = when;
    wheel_.insert(node);
  }
  steady_time next_locked() noexcept { return wheel_.next(); }

  void cancel(timer_node& node) noexcept {
    turn mine(*this);
    platform::unique_lock& hold = mine.hold();
    if (node.next != nullptr) timer_list::remove(node);
    if (firing_ != &node || fires_here()) return;  // a fire on this thread is our caller
    // One on another thread still uses the node; should it arm it again, it takes it out at its
    // end. So this waits for one fire, also of a node that is always due.
    ++cancels_;
    const std::uint64_t fire = fires_;
    while (platform::holds(rule::cancel_waits_for_fire) && fires_ == fire) fired_.wait(hold);
  }

  /// Under the lock, for a timer that several threads may fire: whether one is at it. Who takes it
  /// begins a round before the lock goes.
  bool is_taken_locked() const noexcept { return taken_; }
  void take_locked() noexcept { taken_ = true; }
  void leave_locked() noexcept { taken_ = false; }

  /// Waits for the fire that is under way, unless that is on this thread: false.
  bool wait_for_fire(platform::unique_lock& hold) noexcept {
    if (fires_here()) return false;
    fired_.wait(hold);
    return true;
  }

  /// Fires what is due at `now`, in the order of the times, the lock released around each fire. A
  /// round ends after `round_steps` nodes have moved or fired, with others let in: true. One thread
  /// at a time.
  bool fire_round(platform::unique_lock& hold, steady_time now) noexcept {
    crowd_.store(true, memory_order_relaxed);
    firer_ = platform::this_thread_id();
    unsigned steps = round_steps;
    while (steps > 0) {
      timer_node* const node = wheel_.take(now, steps);
      if (node == nullptr) break;
      if (steps > 0) --steps;
      firing_ = node;
      hold.unlock();
      node->fire(*node);
      hold.lock();
      // Without somebody who waits to cancel it the node may be gone.
      if (std::exchange(cancels_, 0U) != 0 && platform::holds(rule::cancel_sees_rearmed) &&
          node->next != nullptr) {
        timer_list::remove(*node);
      }
      firing_ = nullptr;
      ++fires_;
      fired_.notify_all();
    }
    if (steps == 0) {
      give_way(hold);
      return true;
    }
    crowd_.store(false, memory_order_relaxed);
    fired_.notify_all();  // those who wait for all fires
    return false;
  }

 private:
  /// Of the fire that is under way.
  bool fires_here() const noexcept {
    return platform::holds(rule::own_fire_may_cancel) && firer_ == platform::this_thread_id();
  }

  bool line_up() noexcept {
    if (!crowd_.load(memory_order_relaxed)) return false;
    waiting_.fetch_add(1, memory_order_relaxed);
    return true;
  }
  void let_in() noexcept {
    waiting_.fetch_sub(1, memory_order_relaxed);
    if (crowd_.load(memory_order_relaxed)) platform::wake(waiting_, 1);
  }
  /// Lets one that waits have the lock; not for ever, as its thread may not be scheduled.
  void give_way(platform::unique_lock& hold) noexcept {
    const std::uint32_t waiting = waiting_.load(memory_order_relaxed);
    hold.unlock();
    if (waiting != 0) {
      const steady_time limit = platform::now() + std::chrono::milliseconds(1);
      (void)platform::wait(waiting_, waiting, platform::all_channels, &limit);
    }
    hold.lock();
  }

  // A round holds the lock for so many short steps at most.
  static constexpr unsigned round_steps = platform::tuned(32U, 2U);

  // ---- fork: no fire is under way then, unless it is on the thread that forks ------------------

  static constexpr std::chrono::milliseconds longest_fire{100};  // that is waited for

  SINGLEFLIGHT_COLD void hold() noexcept override {
    held_.emplace(lock_);
    const steady_time until = platform::now() + longest_fire;
    while (firing_ != nullptr && !fires_here() && platform::now() < until) {
      fired_.wait_until(*held_, until);
    }
  }
  SINGLEFLIGHT_COLD void release() noexcept override { held_.reset(); }
  SINGLEFLIGHT_COLD void mend() noexcept override {
    platform::renew(fired_);
    cancels_ = 0;
    if (firing_ != nullptr && !fires_here()) firing_ = nullptr;
    if (firer_ != platform::this_thread_id()) taken_ = false;
    waiting_.store(0, memory_order_relaxed);
    wheel_.each_list([](timer_list& list) { take_out_vanished(list); });
  }
  static void take_out_vanished(timer_list& list) noexcept {
    for (timer_node* n = list.head.next; n != &list.head;) {
      timer_node* const next = n->next;
      if (thread_timer_node::is_of_another(*n, this_thread())) timer_list::remove(*n);
      n = next;
    }
  }

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
