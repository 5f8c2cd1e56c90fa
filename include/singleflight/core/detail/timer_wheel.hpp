// SPDX-License-Identifier: Apache-2.0
#pragma once

// timer_wheel: armed nodes by time; arm and cancel are O(1), whatever their number.
//
// Hashed hierarchical wheels (Varghese & Lauck, SOSP'87, scheme 7): level n has 64 slots of 64^n
// ticks. A node sits at the level of the highest digit in which its tick differs from the wheel's;
// when the wheel reaches a slot above level 0, the slot's nodes move down. A tick is 2^16 ns;
// within the slot of the current tick the exact times decide, so no node fires early or a tick
// late.
//
// Not synchronised: timer_queue holds the lock.

#include <array>
#include <bit>
#include <chrono>
#include <cstdint>
#include <optional>
#include <utility>

#include "singleflight/core/detail/fork.hpp"
#include "singleflight/core/timer.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

/// A circular list with a sentinel: a node leaves it without knowing which list it is in.
struct timer_list {
  timer_node head{nullptr};
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
};

class timer_wheel {
 public:
  explicit timer_wheel(steady_time base) noexcept : base_(base) {}

  void insert(timer_node& node) noexcept {
    std::uint64_t tick = tick_of(node.when);
    if (tick < tick_) tick = tick_;
    const unsigned level = level_of(tick);
    const unsigned slot = static_cast<unsigned>(tick >> (bits * level)) % slots;
    occupied_[level] |= std::uint64_t{1} << slot;
    timer_list::insert_before(wheel_[level][slot].head, node);
  }

  /// Moves what is due at `now` to the end of `due`, in the order of the times.
  void advance(steady_time now, timer_list& due) noexcept {
    const std::uint64_t last = tick_of(now);
    unsigned level = 0;
    unsigned slot = 0;
    while (first(level, slot)) {
      const std::uint64_t start = start_of(level, slot);
      if (start > last) break;
      tick_ = start > tick_ ? start : tick_;
      timer_list& list = wheel_[level][slot];
      occupied_[level] &= ~(std::uint64_t{1} << slot);
      timer_list later;
      while (!list.empty()) {
        timer_node& node = *list.head.next;
        timer_list::remove(node);
        if (node.when <= now) {
          insert_sorted(due, node);
        } else if (tick_of(node.when) <= last) {  // later within the present tick
          timer_list::insert_before(later.head, node);
        } else {
          insert(node);
        }
      }
      if (!later.empty()) {
        tick_ = last;
        while (!later.empty()) {
          timer_node& node = *later.head.next;
          timer_list::remove(node);
          insert(node);
        }
        break;
      }
    }
    tick_ = last > tick_ ? last : tick_;
  }

  /// When to look again: no later than the first node's time; steady_time::max() when empty.
  steady_time next() noexcept {
    unsigned level = 0;
    unsigned slot = 0;
    if (!first(level, slot)) return steady_time::max();
    if (level > 0) return base_ + std::chrono::nanoseconds(start_of(level, slot) << tick_bits);
    steady_time earliest = steady_time::max();
    const timer_list& list = wheel_[0][slot];
    for (const timer_node* n = list.head.next; n != &list.head; n = n->next) {
      earliest = n->when < earliest ? n->when : earliest;
    }
    return earliest;
  }

  template <class Visit>
  void each_list(Visit&& visit) noexcept {
    for (auto& level : wheel_) {
      for (timer_list& list : level) visit(list);
    }
  }

 private:
  static constexpr unsigned tick_bits = 16;
  static constexpr unsigned bits = 6;
  static constexpr unsigned slots = 64;
  static constexpr unsigned levels = 8;  // 2^(16+48) ns: past the range of the clock

  std::uint64_t tick_of(steady_time when) const noexcept {
    if (when <= base_) return 0;  // also keeps the difference within its range
    return static_cast<std::uint64_t>(std::chrono::nanoseconds(when - base_).count()) >> tick_bits;
  }
  unsigned level_of(std::uint64_t tick) const noexcept {
    const unsigned digit =
        (63U - static_cast<unsigned>(std::countl_zero((tick ^ tick_) | (slots - 1)))) / bits;
    return digit < levels ? digit : levels - 1;
  }
  std::uint64_t start_of(unsigned level, unsigned slot) const noexcept {
    const std::uint64_t span = std::uint64_t{1} << (bits * (level + 1));
    return (tick_ & ~(span - 1)) + (std::uint64_t{slot} << (bits * level));
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
  static void insert_sorted(timer_list& due, timer_node& node) noexcept {
    timer_node* place = &due.head;
    while (place->prev != &due.head && node.when < place->prev->when) place = place->prev;
    timer_list::insert_before(*place, node);
  }

  const steady_time base_;
  std::uint64_t tick_ = 0;
  std::array<std::uint64_t, levels> occupied_{};
  std::array<std::array<timer_list, slots>, levels> wheel_;
};

/// A wheel with its lock and the firing protocol: what default_timer() and manual_timer share.
class timer_queue final : fork_member {
 public:
  explicit timer_queue(steady_time base) : fork_member(rank::timer), wheel_(base) { enter_forks(); }
  ~timer_queue() override { leave_forks(); }

  platform::mutex& lock() noexcept { return lock_; }
  void arm_locked(timer_node& node, steady_time when) noexcept {
    node.when = when;
    wheel_.insert(node);
  }
  steady_time next_locked() noexcept { return due_.empty() ? wheel_.next() : steady_time::min(); }

  void cancel(timer_node& node) noexcept {
    platform::unique_lock hold(lock_);
    if (node.next != nullptr) timer_list::remove(node);
    if (firing_ != &node || fires_here()) return;  // a fire on this thread is our caller
    // One on another thread still uses the node; should it arm it again, it takes it out at its
    // end. So this waits for one fire, also of a node that is always due.
    ++cancels_;
    const std::uint64_t fire = fires_;
    while (platform::holds(rule::cancel_waits_for_fire) && fires_ == fire) fired_.wait(hold);
  }

  /// Waits for the fire that is under way, unless that is on this thread: false.
  bool wait_for_fire(platform::unique_lock& hold) noexcept {
    if (fires_here()) return false;
    fired_.wait(hold);
    return true;
  }

  /// Fires what is due at `now`, the lock released around each fire. One thread at a time.
  void fire_due(platform::unique_lock& hold, steady_time now) noexcept {
    wheel_.advance(now, due_);
    while (!due_.empty()) {
      timer_node& node = *due_.head.next;
      timer_list::remove(node);
      firing_ = &node;
      firer_ = platform::this_thread_id();
      hold.unlock();
      node.fire(node);
      hold.lock();
      // Without somebody who waits to cancel it the node may be gone.
      if (std::exchange(cancels_, 0U) != 0 && platform::holds(rule::cancel_sees_rearmed) &&
          node.next != nullptr) {
        timer_list::remove(node);
      }
      firing_ = nullptr;
      ++fires_;
      fired_.notify_all();
    }
  }

 private:
  /// Of the fire that is under way.
  bool fires_here() const noexcept {
    return platform::holds(rule::own_fire_may_cancel) && firer_ == platform::this_thread_id();
  }

  // ---- fork: no fire is under way then, unless it is on the thread that forks ------------------

  static constexpr std::chrono::milliseconds longest_fire{100};  // that is waited for

  void hold() noexcept override {
    held_.emplace(lock_);
    const steady_time until = platform::now() + longest_fire;
    while (firing_ != nullptr && !fires_here() && platform::now() < until) {
      fired_.wait_until(*held_, until);
    }
  }
  void release() noexcept override { held_.reset(); }
  void mend() noexcept override {
    platform::renew(fired_);
    cancels_ = 0;
    if (firing_ != nullptr && !fires_here()) firing_ = nullptr;
    take_out_vanished(due_);
    wheel_.each_list([](timer_list& list) { take_out_vanished(list); });
  }
  static void take_out_vanished(timer_list& list) noexcept {
    for (timer_node* n = list.head.next; n != &list.head;) {
      timer_node* const next = n->next;
      if (n->thread != nullptr && n->thread != &this_thread()) timer_list::remove(*n);
      n = next;
    }
  }

  platform::mutex lock_;                       // guards all below
  std::optional<platform::unique_lock> held_;  // around a fork
  platform::condition_variable fired_;
  timer_wheel wheel_;
  timer_list due_;
  const timer_node* firing_ = nullptr;
  platform::thread_id firer_;
  std::uint64_t fires_ = 0;    // that have ended
  std::uint32_t cancels_ = 0;  // threads that wait to cancel the node that fires
};

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE
