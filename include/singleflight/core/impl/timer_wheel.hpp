// SPDX-License-Identifier: Apache-2.0
#pragma once

// timer_wheel: storing nodes by time, and firing them.

#include <algorithm>
#include <bit>
#include <chrono>
#include <cstdint>
#include <utility>

#include "singleflight/core/detail/timer_wheel.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

SINGLEFLIGHT_BODY void timer_wheel::insert(timer_node& node) noexcept {
  const std::uint64_t tick = std::max(tick_of(node.when), tick_);
  const unsigned level = level_of(tick);
  const unsigned slot = static_cast<unsigned>(tick >> (bits * level)) % slots;
  occupied_[level] |= std::uint64_t{1} << slot;
  timer_list& list = wheel_[level][slot];
  list.head.when = list.empty() ? node.when : std::min(list.head.when, node.when);
  timer_list::insert_before(list.head, node);
}

SINGLEFLIGHT_BODY timer_node* timer_wheel::take(steady_time now, unsigned& steps) noexcept {
  for (;;) {
    // A node that fires before the whole slot has moved might be later than one that has not moved.
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

SINGLEFLIGHT_BODY steady_time timer_wheel::next() noexcept {
  if (!moving_.empty()) return moving_.head.next->when;
  unsigned level = 0;
  unsigned slot = 0;
  return first(level, slot) ? wheel_[level][slot].head.when : steady_time::max();
}

template <class Visit>
void timer_wheel::each_list(Visit&& visit) noexcept {
  for (auto& level : wheel_) {
    for (timer_list& list : level) visit(list);
  }
  visit(moving_);
}

SINGLEFLIGHT_BODY unsigned timer_wheel::level_of(std::uint64_t tick) const noexcept {
  return (63U - static_cast<unsigned>(std::countl_zero((tick ^ tick_) | (slots - 1)))) / bits;
}

SINGLEFLIGHT_BODY std::uint64_t timer_wheel::start_of(unsigned level,
                                                      unsigned slot) const noexcept {
  const unsigned above = bits * (level + 1);
  const std::uint64_t high = above < 64 ? tick_ >> above << above : 0;
  return high | (std::uint64_t{slot} << (bits * level));
}

SINGLEFLIGHT_BODY bool timer_wheel::first(unsigned& level, unsigned& slot) noexcept {
  for (level = 0; level < levels; ++level) {
    while (occupied_[level] != 0) {
      slot = static_cast<unsigned>(std::countr_zero(occupied_[level]));
      if (!wheel_[level][slot].empty()) return true;
      occupied_[level] &= occupied_[level] - 1;
    }
  }
  return false;
}

SINGLEFLIGHT_BODY timer_node& timer_wheel::pop(timer_list& list) noexcept {
  timer_node& node = *list.head.next;
  timer_list::remove(node);
  return node;
}

SINGLEFLIGHT_BODY timer_queue::timer_queue(steady_time base)
    : fork_member(rank::timer), wheel_(base) {
  enter_forks();
}

SINGLEFLIGHT_BODY timer_queue::~timer_queue() { leave_forks(); }

SINGLEFLIGHT_BODY timer_queue::turn::turn(timer_queue& queue) noexcept
    : waited_(queue.begin_wait()), hold_(queue.lock_) {
  if (waited_) queue.end_wait();
}

SINGLEFLIGHT_BODY void timer_queue::arm_locked(timer_node& node, steady_time when) noexcept {
  node.when = when;
  wheel_.insert(node);
}

SINGLEFLIGHT_BODY void timer_queue::cancel(timer_node& node) noexcept {
  turn mine(*this);
  platform::unique_lock& hold = mine.hold();
  if (node.next != nullptr) timer_list::remove(node);
  if (firing_ != &node || fires_here()) return;  // a fire on this thread is our caller
  // A fire on another thread still uses the node. If it arms the node again, fire_round() removes
  // it when the fire ends. So this waits for one fire only, even of a node that is always due.
  ++cancels_;
  const std::uint64_t fire = fires_;
  while (platform::holds(rule::cancel_waits_for_fire) && fires_ == fire) fired_.wait(hold);
}

SINGLEFLIGHT_BODY bool timer_queue::wait_for_fire(platform::unique_lock& hold) noexcept {
  if (fires_here()) return false;
  fired_.wait(hold);
  return true;
}

SINGLEFLIGHT_BODY bool timer_queue::fire_round(platform::unique_lock& hold,
                                               steady_time now) noexcept {
  round_active_.store(true, memory_order_relaxed);
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
    // Unless a thread waits to cancel it, the node may have been destroyed.
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
  round_active_.store(false, memory_order_relaxed);
  fired_.notify_all();  // threads that wait for all fires
  return false;
}

SINGLEFLIGHT_BODY bool timer_queue::fires_here() const noexcept {
  return platform::holds(rule::own_fire_may_cancel) && firer_ == platform::this_thread_id();
}

SINGLEFLIGHT_BODY bool timer_queue::begin_wait() noexcept {
  if (!round_active_.load(memory_order_relaxed)) return false;
  waiting_.fetch_add(1, memory_order_relaxed);
  return true;
}

SINGLEFLIGHT_BODY void timer_queue::end_wait() noexcept {
  waiting_.fetch_sub(1, memory_order_relaxed);
  if (round_active_.load(memory_order_relaxed)) platform::wake(waiting_, 1);
}

SINGLEFLIGHT_BODY void timer_queue::give_way(platform::unique_lock& hold) noexcept {
  const std::uint32_t waiting = waiting_.load(memory_order_relaxed);
  hold.unlock();
  if (waiting != 0) {
    const steady_time limit = platform::now() + std::chrono::milliseconds(1);
    (void)platform::wait(waiting_, waiting, platform::all_channels, &limit);
  }
  hold.lock();
}

SINGLEFLIGHT_BODY void timer_queue::hold() noexcept {
  held_.emplace(lock_);
  const steady_time until = platform::now() + longest_fire;
  while (firing_ != nullptr && !fires_here() && platform::now() < until) {
    fired_.wait_until(*held_, until);
  }
}

SINGLEFLIGHT_BODY void timer_queue::release() noexcept { held_.reset(); }

SINGLEFLIGHT_BODY void timer_queue::repair() noexcept {
  platform::renew(fired_);
  cancels_ = 0;
  if (firing_ != nullptr && !fires_here()) firing_ = nullptr;
  if (firer_ != platform::this_thread_id()) taken_ = false;
  waiting_.store(0, memory_order_relaxed);
  wheel_.each_list([](timer_list& list) { remove_vanished(list); });
}

SINGLEFLIGHT_BODY void timer_queue::remove_vanished(timer_list& list) noexcept {
  for (timer_node* n = list.head.next; n != &list.head;) {
    timer_node* const next = n->next;
    if (thread_timer_node::is_of_another(*n, this_thread())) timer_list::remove(*n);
    n = next;
  }
}

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE
