// SPDX-License-Identifier: Apache-2.0
#pragma once

// entry_lines: the array of lines that a table of entries searches, and the changes within it.
//
// Every change is made under the lock of the table's cache, concurrently with searches; the rules
// that keep an entry findable while it moves are T2 and T5 to T7 (entry_table.hpp).

#include <bit>
#include <cstddef>
#include <cstdint>
#include <new>

#include "singleflight/cache/detail/entry_line.hpp"
#include "singleflight/cache/detail/rules.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

/// Replaced as a whole when the table grows.
struct entry_lines final : reclaimable {
  entry_lines(entry_line* lines, std::size_t n) noexcept : first(lines), count(n) {}
  ~entry_lines() { delete[] first; }
  /// Returns null if there is no memory.
  static entry_lines* make(std::size_t count) noexcept {
    auto* const lines = new (std::nothrow) entry_line[count];
    if (lines == nullptr) return nullptr;
    try {
      return new entry_lines(lines, count);
    } catch (const std::bad_alloc&) {
      delete[] lines;
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

  entry_line* const first;
  const std::size_t count;
  atomic<std::uint64_t> moves{0};  // T5

  // ---- under the lock ---------------------------------------------------------------------------

  /// Where an entry is stored.
  struct spot {
    entry_line* line;
    std::size_t place;
  };
  /// Requires that `e` is in the table.
  spot spot_of(const entry_base& e) const noexcept {
    std::uint64_t tag = entry_line::home_tag(e.hash);
    for (entry_line* line = &home(e.hash);; line = &after(*line)) {
      const std::uint64_t word = line->read();
      for (std::uint64_t fits = entry_line::match(word, tag); fits != 0; fits &= fits - 1) {
        const std::size_t i = entry_line::place_of(fits);
        if (line->slots[i].load(memory_order_relaxed) == &e) return {line, i};
      }
      tag = entry_line::away_tag(e.hash);
    }
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
  void empty() noexcept {
    for (std::size_t i = 0; i < count; ++i) {
      first[i].word.store(0, memory_order_release);
      for (auto& slot : first[i].slots) slot.store(nullptr, memory_order_release);
    }
  }

 private:
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
  void raise_moves() noexcept {
    moves.store(moves.load(memory_order_relaxed) + 1, memory_order_release);
  }
};

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE
