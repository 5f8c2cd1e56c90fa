// SPDX-License-Identifier: Apache-2.0
#pragma once

// s3_fifo: how the three queues take, pass and evict an entry.

#include <algorithm>
#include <limits>

#include "singleflight/cache/detail/s3_fifo.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

SINGLEFLIGHT_BODY void ghost_queue::remember(std::uint32_t hash, from left, std::uint64_t weight,
                                             std::size_t entries) noexcept {
  if (entries >= 20 * lines_.size()) grow(entries);
  clock& c = clocks_[static_cast<std::size_t>(left)];
  if (lines_.size() > 0) {
    line& l = line_of(hash);
    const std::size_t place = l.hand();
    l.set_print(place, print_of(hash));
    l.stamps[place] =
        static_cast<std::uint16_t>((c.ticks & time_mask) | (left == from::main ? main_bit : 0));
    l.stamps[line::hand_at] = static_cast<std::uint16_t>((place + 1) % line::places);
  }
  std::uint64_t ticks = 0;
  if (weight < step_) [[likely]] {  // no division
    c.rest += weight;
  } else {  // in two parts: a weight may be as large as its type allows
    ticks = weight / step_;
    c.rest += weight % step_;
  }
  if (c.rest >= step_) {
    c.rest -= step_;
    ++ticks;
  }
  c.ticks = static_cast<std::uint16_t>(c.ticks + ticks);
}

SINGLEFLIGHT_BODY ghost_queue::sighting ghost_queue::recall(std::uint32_t hash) noexcept {
  if (lines_.size() == 0) return {};
  line& l = line_of(hash);
  const std::size_t place = l.find(print_of(hash));
  if (place == line::places) return {};
  const std::uint16_t stamp = l.stamps[place];
  l.set_print(place, 0);
  const clock& c = clocks_[(stamp & main_bit) != 0 ? 1 : 0];
  const std::uint64_t steps = (std::uint32_t{c.ticks} - stamp) & time_mask;
  constexpr std::uint64_t most = std::numeric_limits<std::uint64_t>::max();
  return {true, (stamp & main_bit) != 0 ? from::main : from::small,
          steps > most / step_ ? most : steps * step_};
}

SINGLEFLIGHT_BODY void ghost_queue::grow(std::size_t entries) noexcept {
  lines_ = memory();  // first: there may be memory for one only
  lines_ = memory(entries / 16 + 1);
}

SINGLEFLIGHT_BODY void s3_fifo::insert(entry_base& e) noexcept {
  const ghost_queue::sighting seen = ghosts_.recall(e.hash);
  if (seen.seen && seen.age < shadow_) {  // Q1
    const std::uint64_t vote = weight_of(e);
    if (seen.left == ghost_queue::from::main) {
      small_target_ -= std::min(vote, small_target_ - small_min_);
    } else {
      small_target_ += std::min(vote, small_max_ - small_target_);
    }
  }
  if (seen.seen && seen.age < reach_) {
    push(main_, e, in_main_on_trial);
  } else {
    push(small_, e, in_small);
  }
  newest_ = &e;
}

SINGLEFLIGHT_BODY entry_base* s3_fifo::evict() noexcept {
  int steps = 0;
  while (entry_base* const e = oldest(small_)) {
    if (small_.weight <= small_target_ && main_.last != nullptr) break;
    const bool fits_main = main_.weight + weight_of(*e) <= capacity_ - small_target_;  // Q3
    if ((!fits_main && e->hits() == 0) || ++steps > max_steps) {
      entry_base* const m = ++small_evictions_ % aging_period == 0 ? oldest(main_) : nullptr;
      return m != nullptr && !pass(*m) ? take(*m) : take(*e);
    }
    unlink(*e);
    if (!fits_main) e->set_hits(0);  // used up by the promotion
    push(main_, *e, in_main);
  }
  while (entry_base* const e = oldest(main_)) {
    if (!pass(*e)) return take(*e);
    if (++steps >= max_steps) break;
  }
  // Main consists of hot entries, or is empty.
  if (entry_base* const e = oldest(small_)) return take(*e);
  if (entry_base* const e = oldest(main_)) return take(*e);
  return take(*newest_);
}

SINGLEFLIGHT_BODY void s3_fifo::replace(entry_base& old, entry_base& fresh) noexcept {
  queue& q = queue_of(old);
  fresh.set_hits(old.hits());
  fresh.place.store(old.place.load(memory_order_relaxed), memory_order_relaxed);
  fresh.next = old.next;
  fresh.prev = old.prev;
  (fresh.prev != nullptr ? fresh.prev->next : q.first) = &fresh;
  (fresh.next != nullptr ? fresh.next->prev : q.last) = &fresh;
  q.weight += weight_of(fresh) - weight_of(old);
  if (newest_ == &old) newest_ = &fresh;
}

SINGLEFLIGHT_BODY s3_fifo::contents s3_fifo::let_go() noexcept {
  contents all{{small_.first, main_.first}, ghosts_.let_go()};
  small_ = main_ = {};
  count_ = 0;
  newest_ = nullptr;
  start();
  return all;
}

SINGLEFLIGHT_BODY void s3_fifo::start() noexcept {
  small_min_ = std::min(capacity_, part(min_percent));
  small_max_ = std::max(small_min_, std::min(capacity_, part(max_percent)));
  small_target_ = std::clamp(part(start_percent), small_min_, small_max_);
  step_ = std::max<std::uint64_t>(1, capacity_ / steps_per_capacity);
  shadow_ = part(shadow_percent);
  reach_ = reach_max_ = std::max(step_, part(reach_percent));
  ghosts_.set_step(step_);
}

SINGLEFLIGHT_BODY void s3_fifo::push(queue& q, entry_base& e, std::uint8_t place) noexcept {
  e.place.store(place, memory_order_relaxed);
  e.prev = nullptr;
  e.next = q.first;
  (q.first != nullptr ? q.first->prev : q.last) = &e;
  q.first = &e;
  q.weight += weight_of(e);
  ++count_;
}

SINGLEFLIGHT_BODY void s3_fifo::unlink(entry_base& e) noexcept {
  queue& q = queue_of(e);
  (e.prev != nullptr ? e.prev->next : q.first) = e.next;
  (e.next != nullptr ? e.next->prev : q.last) = e.prev;
  q.weight -= weight_of(e);
  --count_;
  if (newest_ == &e) newest_ = nullptr;
}

SINGLEFLIGHT_BODY entry_base* s3_fifo::take(entry_base& e) noexcept {
  const bool small = e.place.load(memory_order_relaxed) == in_small;
  unlink(e);
  ghosts_.remember(e.hash, small ? ghost_queue::from::small : ghost_queue::from::main, weight_of(e),
                   count_);
  return &e;
}

SINGLEFLIGHT_BODY bool s3_fifo::pass(entry_base& e) noexcept {
  const unsigned hits = e.hits();
  if (e.place.load(memory_order_relaxed) == in_main_on_trial) end_trial(e, hits > 0);
  if (hits == 0) return false;
  e.set_hits(hits - 1);
  unlink(e);
  push(main_, e, in_main);
  return true;
}

SINGLEFLIGHT_BODY void s3_fifo::end_trial(entry_base& e, bool passed) noexcept {  // Q2
  e.place.store(in_main, memory_order_relaxed);
  if (count_ < trial_entries) return;
  const std::uint64_t weight = weight_of(e);
  if (passed) {
    reach_ =
        weight > (reach_max_ - reach_) / trial_reward ? reach_max_ : reach_ + trial_reward * weight;
  } else {  // never to nothing: it recovers by entries that return at once
    reach_ = reach_ > step_ && reach_ - step_ > weight ? reach_ - weight : step_;
  }
}

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE
