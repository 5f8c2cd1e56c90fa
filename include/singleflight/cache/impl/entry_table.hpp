// SPDX-License-Identifier: Apache-2.0
#pragma once

// entry_table: how it is made, grows, shrinks, and is cleared; and how an entry moves ahead.

#include <memory>
#include <new>
#include <utility>

#include "singleflight/cache/detail/entry_table.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

SINGLEFLIGHT_BODY entry_table::entry_table(std::size_t capacity, std::size_t reserve)
    : most_lines_(capacity / per_two_lines < most_lines / 2 ? capacity / per_two_lines * 2 + 2
                                                            : most_lines),
      least_lines_(lines_for(reserve)) {
  entry_lines* const lines = entry_lines::make(least_lines_, 1, nullptr);
  if (lines == nullptr) throw std::bad_alloc();
  current_.store(lines, memory_order_relaxed);
  settle_at(least_lines_);
}

SINGLEFLIGHT_BODY void entry_table::settle_at(std::size_t lines) noexcept {
  moving_.store(false, memory_order_relaxed);
  settled_from_ = lines > least_lines_ ? fits_in(lines) / 4 : 0;
  settled_sizes_ = fits_in(lines) - settled_from_;
}

SINGLEFLIGHT_BODY void entry_table::free(entry_lines* lines) noexcept {
  const std::unique_ptr<entry_lines> all(lines);
  if (all) delete all->source.load(memory_order_relaxed);
}

// A table has the most lines, or half of a possible size: so the last growth doubles it as well.

SINGLEFLIGHT_BODY std::size_t entry_table::lines_for(std::size_t entries) const noexcept {
  std::size_t lines = most_lines_;
  while (lines > first_lines) {
    const std::size_t half = (lines + 1) / 2;
    if (fits_in(half) < entries) break;
    lines = half;
  }
  return lines;
}

SINGLEFLIGHT_BODY std::size_t entry_table::lines_after(std::size_t count) const noexcept {
  std::size_t lines = most_lines_;
  while ((lines + 1) / 2 > count) lines = (lines + 1) / 2;
  return lines;
}

SINGLEFLIGHT_BODY bool entry_table::change_to(std::size_t lines) noexcept {
  entry_lines* const old = current_.load(memory_order_relaxed);
  entry_lines* const fresh = entry_lines::make(lines, old->serial + 1, old);
  if (fresh == nullptr) return false;
  current_.store(fresh, platform::order(rule::table_releases, memory_order_release));
  moving_.store(true, memory_order_relaxed);
  settled_sizes_ = 0;
  return true;
}

SINGLEFLIGHT_BODY bool entry_table::make_room_slowly(reclaimable*& left) noexcept {
  make_step(left);
  const entry_lines* const all = current_.load(memory_order_relaxed);
  if (size_ < fits_in(all->count)) return true;
  if (all->source.load(memory_order_relaxed) == nullptr && all->count < most_lines_ &&
      change_to(lines_after(all->count))) {
    return true;
  }
  return size_ < all->count * entry_line::places - 1;  // without memory, or at the capacity
}

SINGLEFLIGHT_BODY void entry_table::make_step(reclaimable*& left) noexcept {
  entry_lines* const all = current_.load(memory_order_relaxed);
  if (entry_lines* const source = all->source.load(memory_order_relaxed)) {
    if (!all->take_some(*source)) return;
    all->source.store(nullptr, platform::order(rule::table_releases, memory_order_release));
    settle_at(all->count);
    source->next = left;
    left = source;
  } else if (pins_ == 0 && all->count > least_lines_ && size_ < fits_in(all->count) / 4) {
    const std::size_t half = (all->count + 1) / 2;
    (void)change_to(half > least_lines_ ? half : least_lines_);
  }
}

SINGLEFLIGHT_BODY void entry_table::promote_locked(entry_base& e) noexcept {
  if (pins_ != 0) return;
  location found = where_is(e);
  if (found.at.line == nullptr) return;
  entry_lines& all = *current_.load(memory_order_relaxed);
  if (found.lines != &all) {
    all.take_over(e, *found.lines, found.at);
    found.at = all.spot_of(e);
  }
  entry_line& home = all.home(e.hash);
  if (all.make_way(home, e)) all.move_home(home, e, found.at);
}

SINGLEFLIGHT_BODY entry_lines* entry_table::clear_locked() noexcept {
  entry_lines* const old = current_.load(memory_order_relaxed);
  entry_lines* const fresh = entry_lines::make(least_lines_, old->serial + 1, nullptr);
  if (fresh == nullptr) return nullptr;
  current_.store(fresh, platform::order(rule::table_releases, memory_order_release));
  size_ = 0;
  first_serial_ = fresh->serial;
  settle_at(least_lines_);
  return old;
}

SINGLEFLIGHT_BODY void entry_table::empty_locked() noexcept {
  entry_lines* const all = current_.load(memory_order_relaxed);
  all->empty();
  if (entry_lines* const source = all->source.load(memory_order_relaxed)) source->empty();
  size_ = 0;
}

SINGLEFLIGHT_BODY void entry_table::end_of(entry_lines& cleared, reclaimable*& left) noexcept {
  const auto leave = [&left](entry_lines& lines) {
    if (platform::holds(rule::left_table_is_emptied)) lines.empty();
    lines.next = left;
    left = &lines;
  };
  if (entry_lines* const source = cleared.source.load(memory_order_relaxed)) {
    cleared.source.store(nullptr, memory_order_release);  // T8: a search confirms it
    leave(*source);
  }
  leave(cleared);
}

SINGLEFLIGHT_BODY void entry_table::settle(std::size_t begin, std::size_t end) noexcept {
  entry_lines& all = *current_.load(memory_order_relaxed);
  for (; begin < end; ++begin) {
    while (all.bring_home(all.first[begin])) {
    }
  }
}

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE
