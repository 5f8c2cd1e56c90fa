// SPDX-License-Identifier: Apache-2.0
#pragma once

// entry_lines: the array of lines that a table of entries searches, and the changes within it.
//
// Every change is made under the lock of the table's cache, concurrently with searches; the rules
// that keep an entry findable while it moves are T2 and T5 to T8 (entry_table.hpp).

#include <bit>
#include <cstddef>
#include <cstdint>
#include <new>
#include <utility>

#include "singleflight/cache/detail/entry_line.hpp"
#include "singleflight/cache/detail/rules.hpp"
#include "singleflight/core/support/zeroed_array.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

/// Followed by another one when the table grows or shrinks.
struct entry_lines final : reclaimable {
  entry_lines(zeroed_array<entry_line> lines, std::uint64_t number, entry_lines* from) noexcept
      : all(std::move(lines)), first(all.data()), count(all.size()), serial(number), source(from) {
    destroy = &end;
  }
  /// `serial` is higher than those of earlier arrays. Returns null if there is no memory.
  static entry_lines* make(std::size_t count, std::uint64_t serial, entry_lines* source) noexcept {
    zeroed_array<entry_line> lines(count);
    if (lines.size() == 0) return nullptr;
    try {
      return new entry_lines(std::move(lines), serial, source);
    } catch (const std::bad_alloc&) {
      return nullptr;
    }
  }
  static void end(reclaimable* object) noexcept { delete static_cast<entry_lines*>(object); }

  entry_line& home(std::uint32_t hash) const noexcept {
    return first[(std::uint64_t{hash} * count) >> 32];  // a line by the upper bits of the hash
  }
  entry_line& after(const entry_line& line) const noexcept {
    return &line + 1 == first + count ? *first : *(const_cast<entry_line*>(&line) + 1);
  }

  const zeroed_array<entry_line> all;
  entry_line* const first;
  const std::size_t count;
  const std::uint64_t serial;
  atomic<std::uint64_t> moves{0};  // T5
  atomic<entry_lines*> source;     // T8; null if all entries are here
  std::size_t emptied = 0;         // of a source: the lines before this one have no entries

  // ---- under the lock ---------------------------------------------------------------------------

  /// Where an entry is stored.
  struct spot {
    entry_line* line = nullptr;  // null: nowhere
    std::size_t place = 0;
  };
  /// Calls is_it(entry, spot) for the entries that may have this hash, until it returns true;
  /// returns whether it did.
  template <class Is>
  bool any_of(std::uint32_t hash, Is&& is_it) const {
    std::uint64_t tag = entry_line::home_tag(hash);
    entry_line* line = &home(hash);
    for (std::size_t passed = 0; passed < count; ++passed) {
      const std::uint64_t word = line->read();
      for (std::uint64_t fits = entry_line::match(word, tag); fits != 0; fits &= fits - 1) {
        const std::size_t i = entry_line::place_of(fits);
        entry_base* const e = line->slots[i].load(memory_order_relaxed);
        if (e != nullptr && is_it(*e, spot{line, i})) return true;
      }
      if (entry_line::passed(word) == 0) break;
      line = &after(*line);
      tag = entry_line::away_tag(hash);
    }
    return false;
  }
  spot spot_of(const entry_base& e) const noexcept {
    spot found;
    any_of(e.hash, [&](const entry_base& other, spot at) {
      if (&other == &e) found = at;
      return &other == &e;
    });
    return found;
  }
  /// Requires a free place in some line.
  void put(entry_base& e) noexcept {
    entry_line& line = home(e.hash);
    if (!line.put(e, entry_line::home_tag(e.hash))) put_after(line, e);
  }
  void take_out(entry_base& e, spot at) noexcept {
    at.line->clear(at.place);
    for (entry_line* line = &home(e.hash); line != at.line; line = &after(*line)) line->unpass();
  }
  /// Moves `e` from a later line to `line`, its home, which has a free place (T5).
  void move_home(entry_line& line, entry_base& e, spot from) noexcept {
    line.put(e, entry_line::home_tag(e.hash));
    raise_moves();
    take_out(e, from);
  }
  /// Moves home one entry that has passed `line` and is in one of the next few lines (T6). Returns
  /// false if there is none, or `line` has no free place.
  bool bring_home(entry_line& line) noexcept {
    if (entry_line::free(line.read()) == 0) return false;
    entry_line* later = &line;
    for (int distance = 0; distance < max_distance; ++distance) {
      if (entry_line::passed(later->read()) == 0) return false;
      later = &after(*later);
      if (later == &line) return false;  // a small table
      const std::uint64_t word = later->read();
      for (std::uint64_t away = entry_line::away(word); away != 0; away &= away - 1) {
        const std::size_t i = entry_line::place_of(away);
        entry_base& e = *later->slots[i].load(memory_order_relaxed);
        if (&home(e.hash) != &line) continue;
        move_home(line, e, {later, i});
        return true;
      }
    }
    return false;
  }
  /// Frees a place for `e` in `line`, its home, ahead of all entries with the same tag, if need be
  /// by moving one to a later line (T7). Returns false if `e` is there already, if the entry that
  /// would have to move has as many hits, or if the next few lines are full as well. Only an entry
  /// that is at home is moved: for another one, the search for a free line might come round to its
  /// own home.
  bool make_way(entry_line& line, const entry_base& e) noexcept {
    const std::uint64_t word = line.read();
    std::uint64_t candidates = entry_line::match(word, entry_line::home_tag(e.hash));
    if (candidates != 0) {
      candidates &= ~candidates + 1;  // the first
    } else if (entry_line::free(word) != 0) {
      return true;
    } else {
      candidates = entry_line::at_home(word);
    }
    std::size_t displaced = 0;
    unsigned fewest = e.hits();  // read once: readers count concurrently
    bool found = false;
    for (; candidates != 0; candidates &= candidates - 1) {
      const std::size_t i = entry_line::place_of(candidates);
      if (line.slots[i].load(memory_order_relaxed) == &e &&
          platform::holds(rule::entry_never_displaces_itself)) {
        return false;
      }
      const unsigned hits = line.hits(i);
      if (hits >= fewest) continue;
      found = true;
      fewest = hits;
      displaced = i;
    }
    if (!found || !has_free_place_after(line)) return false;
    put_after(line, *line.slots[displaced].load(memory_order_relaxed));
    if (platform::holds(rule::displacement_raises_moves)) raise_moves();
    line.clear(displaced);
    return true;
  }
  /// Moves `e` here from `from`, where it is `at` (T8).
  void take_over(entry_base& e, entry_lines& from, spot at) noexcept {
    platform::in_order(
        rule::moved_is_put_first, [&] { put(e); }, [&] { from.take_out(e, at); });
  }
  /// Moves the entries of the next lines of `from` here, a bounded number of them. Returns whether
  /// it has none left.
  bool take_some(entry_lines& from) noexcept {
    const std::size_t end =
        from.count - from.emptied < step_lines ? from.count : from.emptied + step_lines;
    for (std::size_t taken = 0; from.emptied < end && taken < step_entries; ++from.emptied) {
      entry_line& line = from.first[from.emptied];
      for (std::size_t i = 0; i < entry_line::places; ++i) {
        entry_base* const e = line.slots[i].load(memory_order_relaxed);
        if (e == nullptr) continue;
        take_over(*e, from, {&line, i});
        ++taken;
      }
      if ((from.emptied + 1) % released_lines == 0) from.release_before(from.emptied + 1);
    }
    // The next step reads the hashes of these entries. (Without this a put takes 7 % longer while a
    // table grows to 4 million.)
    for (std::size_t i = from.emptied; i < from.emptied + 4 && i < from.count; ++i) {
      for (auto& slot : from.first[i].slots) platform::prefetch(slot.load(memory_order_relaxed));
    }
    return from.emptied == from.count;
  }
  void empty() noexcept {
    for (std::size_t i = 0; i < count; ++i) {
      if (first[i].read() == 0) continue;
      first[i].word.store(0, memory_order_release);
      for (auto& slot : first[i].slots) slot.store(nullptr, memory_order_release);
    }
  }

 private:
  // T8: what a step moves, at most: these entries and those of one line, or these lines.
  static constexpr std::size_t step_entries = platform::tuned(std::size_t{16}, std::size_t{1});
  static constexpr std::size_t step_lines = platform::tuned(std::size_t{32}, std::size_t{1});
  /// So many emptied lines are given back at a time: 256 KiB, in some microseconds. Freed at once
  /// in the end, a large array would take as long as all of them.
  static constexpr std::size_t released_lines = 4096;
  static constexpr int max_distance = 16;  ///< how far away lines are searched by the moves above

  /// Puts `e` into the next line after `line` that has a free place; there is one.
  void put_after(entry_line& line, entry_base& e) const noexcept {
    entry_line* target = &line;
    do {
      target->pass();
      target = &after(*target);
    } while (!target->put(e, entry_line::away_tag(e.hash)));
  }
  bool has_free_place_after(const entry_line& line) const noexcept {
    const entry_line* later = &after(line);
    for (int distance = 0; distance < max_distance && later != &line;
         ++distance, later = &after(*later)) {
      if (entry_line::free(later->read()) != 0) return true;
    }
    return false;
  }
  /// Gives the memory of emptied lines back: not the last ones before `end`, which entries in later
  /// lines may have passed, but those before them. A search reads the same zeros meanwhile.
  void release_before(std::size_t end) const noexcept {
    if (end < 2 * released_lines) return;
    const std::size_t from = end - 2 * released_lines;
    for (std::size_t i = from; i < from + released_lines; ++i) {
      if (first[i].read() != 0) return;  // it has been passed
    }
    all.release(from, released_lines);
  }
  void raise_moves() noexcept {
    moves.store(moves.load(memory_order_relaxed) + 1, memory_order_release);
  }
};

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE
