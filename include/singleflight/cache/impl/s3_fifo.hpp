// SPDX-License-Identifier: Apache-2.0
#pragma once

// s3_fifo: how the three queues take, pass and evict an entry.

#include <algorithm>

#include "singleflight/cache/detail/s3_fifo.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

SINGLEFLIGHT_BODY void ghost_queue::remember(std::uint32_t hash, from left, std::uint64_t weight,
                                             std::size_t entries) noexcept {
  if (entries >= most_per_line * lines_.size()) grow(entries);
  clock& c = clocks_[static_cast<std::size_t>(left)];
  if (lines_.size() > 0) {
    line& l = line_of(hash);
    const std::size_t place = l.hand();
    l.set_print(place, print_of(hash));
    l.stamps[place] =
        static_cast<std::uint8_t>((c.ticks & time_mask) | (left == from::main ? main_bit : 0));
    l.stamps[line::hand_at] = static_cast<std::uint8_t>(place + 1 == line::places ? 0 : place + 1);
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
  c.ticks = static_cast<std::uint8_t>(c.ticks + ticks);
}

SINGLEFLIGHT_BODY ghost_queue::sighting ghost_queue::recall(std::uint32_t hash) noexcept {
  if (lines_.size() == 0) return {};
  line& l = line_of(hash);
  const std::size_t place = l.find(print_of(hash));
  if (place == line::places) return {};
  const std::uint8_t stamp = l.stamps[place];
  l.set_print(place, 0);
  const from left = (stamp & main_bit) != 0 ? from::main : from::small;
  const unsigned steps =
      (unsigned{clocks_[static_cast<std::size_t>(left)].ticks} - stamp) & time_mask;
  return {true, left, static_cast<double>(steps) * static_cast<double>(step_)};
}

SINGLEFLIGHT_BODY void ghost_queue::grow(std::size_t entries) noexcept {
  lines_ = memory();  // first: there may be memory for one only
  lines_ = memory(entries / entries_per_line + 1);
}

SINGLEFLIGHT_BODY void s3_fifo::insert(entry_base& e) noexcept {
  const ghost_queue::sighting seen = ghosts_.recall(e.hash);
  if (seen.seen && wins(e, seen)) {
    e.set_hits(1);  // it was used twice
    push_main(e);
  } else {
    push(small_, e, in_small);
  }
  newest_ = &e;
}

SINGLEFLIGHT_BODY bool s3_fifo::wins(entry_base& e, const ghost_queue::sighting& seen) noexcept {
  if (seen.left == ghost_queue::from::main) {
    const double small = share_ / static_cast<double>(capacity_);
    vote(-1 - scarcity * small * small, e, seen.age);
    return main_.weight + weight_of(e) <= capacity_ - small_target_;
  }
  const double away = seen.age + static_cast<double>(small_.weight);
  bool won = main_.weight + weight_of(e) <= capacity_ - small_target_;
  bool cold = true;
  for (int i = 0; !won && i < contest_steps; ++i) {  // Q1
    entry_base* const rival = oldest(main_);
    const bool waited = rival == nullptr || idle_time() >= idle_margin * away;
    cold = rival == nullptr || rival->hits() == 0;
    won = cold && waited;
    if (cold || !waited) break;
    pass(*rival);
  }
  vote(cold ? 1 : -hot_vote, e, seen.age);  // Q2
  return won;
}

SINGLEFLIGHT_BODY void s3_fifo::vote(double part, entry_base& e, double age) noexcept {
  const auto all = static_cast<double>(capacity_);
  const double full = std::min(vote_weights * static_cast<double>(weight_of(e)), vote_share * all);
  const double nearness = std::min(near_share * all / std::max(age, 1.0), 1.0);
  const double counts = 3 * nearness * nearness / (1 + 2 * nearness);
  set_share(share_ + part * full * counts);
}

SINGLEFLIGHT_BODY double s3_fifo::idle_time() const noexcept {
  const double since = static_cast<double>(now_ - round_began_);
  if (main_.weight <= round_weight_) return since;
  return since +
         static_cast<double>(last_round_) * (static_cast<double>(main_.weight - round_weight_) /
                                             static_cast<double>(main_.weight));
}

SINGLEFLIGHT_BODY entry_base* s3_fifo::evict() noexcept {
  int steps = 0;
  while (entry_base* const e = oldest(small_)) {
    if (small_.weight <= small_target_ && main_.last != nullptr) break;
    const bool fits_main = main_.weight + weight_of(*e) < capacity_ - small_target_;  // Q3
    if ((!fits_main && e->hits() == 0) || ++steps > max_steps) {
      entry_base* const m = ++small_evictions_ % aging_period == 0 ? oldest(main_) : nullptr;
      return m != nullptr && !pass(*m) ? take(*m) : take(*e);
    }
    if (!fits_main) e->set_hits(0);  // used up
    entry_base* const rival = fits_main ? nullptr : oldest(main_);
    const bool won = rival == nullptr || !pass(*rival);  // Q1
    unlink(*e);
    if (won) {
      push_main(*e);
    } else {
      push(small_, *e, in_small);
      ++steps;  // for the rival
    }
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

SINGLEFLIGHT_BODY void s3_fifo::set_share(double share) noexcept {
  const auto all = static_cast<double>(capacity_);
  const double least = std::min(std::max(1.0, min_share * all), all);
  share_ = std::clamp(share, least, std::max(least, max_share * all));
  small_target_ = static_cast<std::uint64_t>(share_);
}

SINGLEFLIGHT_BODY void s3_fifo::start() noexcept {
  const auto all = static_cast<double>(capacity_);
  set_share(start_share * all);
  now_ = round_began_ = last_round_ = round_weight_ = 0;
  ghosts_.set_step(std::max<std::uint64_t>(1, capacity_ / steps_per_capacity));
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

SINGLEFLIGHT_BODY void s3_fifo::push_main(entry_base& e) noexcept {
  push(main_, e, in_main);
  round_weight_ += weight_of(e);
  if (round_weight_ >= main_.weight) {
    last_round_ = now_ - round_began_;
    round_began_ = now_;
    round_weight_ = 0;
  }
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
  const std::uint64_t weight = weight_of(e);
  if (small) now_ += weight;
  ghosts_.remember(e.hash, small ? ghost_queue::from::small : ghost_queue::from::main, weight,
                   count_);
  return &e;
}

SINGLEFLIGHT_BODY bool s3_fifo::pass(entry_base& e) noexcept {
  const unsigned hits = e.hits();
  if (hits == 0) return false;
  e.set_hits(hits / 2);
  unlink(e);
  push_main(e);
  return true;
}

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE
