// SPDX-License-Identifier: Apache-2.0
#pragma once

// entry_table: the entries of a cache by key: lines of seven slots, searched without a lock.
//
// A search reads the word of a line (entry_line.hpp), then the entries that may match: one miss of
// the machine's cache for the line, one for the entry.
//
// T1  The cache's lock guards every change.
// T2  To add an entry: the slot is stored, then its byte, both with release. To remove one: the
//     byte, then the slot (entry_line.hpp). An entry that replaces another of the same key is
//     stored over it: a search finds one of the two.
// T3  A search protects the array of lines, then checks that it is still the current one; it
//     protects what it finds in a slot, then checks that this is still there (hazard.hpp, H2). An
//     array that was left has no entries when it is given to the reclaimer, and an entry leaves its
//     slot before it is given to the reclaimer. So what is still in its slot has not been given
//     away.
// T4  A line's count of passed entries that has reached its maximum stays there: every search then
//     continues past that line.
// T5  An entry that moves to another slot is in both for a while, so a search finds it. A search
//     that has read the new slot before it was stored, and the old one after it was cleared, has
//     read `moves` before it was raised, which happens between the two, and searches again. (No
//     entry moves within an array during a visit, which must meet all.)
// T6  When an entry leaves a line, one that had passed this line moves home to it. Otherwise, as
//     entries come and go, those in later lines would fill these lines, and push ever more away.
// T7  A frequently used entry is where a glance finds it. When a hit is the last that an entry
//     counts, and a glance does not find that entry, one with fewer hits is displaced: the first
//     one of its home line that has the same tag, or the one with the fewest hits of those that are
//     at home there. So in a cache that is not new one hit in fifty needs more than a glance at its
//     line, and not one in nine; a branch that goes both ways at random costs as much as half of
//     the rest of a hit.
// T8  The table grows and shrinks without a pause. A new array becomes the current one, and the old
//     one its source; new entries go to the current array, and each change moves some entries of
//     the source, at most `step_entries` and those of one line, or `step_lines` lines. A search
//     looks into the source first, which it protects, then checks that it is still the source; a
//     move stores the entry in the current array before it clears the slot in the source. So a
//     search that finds the slot cleared finds the entry in the current array. Nothing else moves
//     within a source. Once it has no entries, it is given to the reclaimer, with most of its
//     memory given back before. A glance looks into the current array alone; so that a table
//     without changes gets there as well, a hit that had to search moves some entries, if the lock
//     is free.
//     The current array is never full. A table of n lines grows with 5.5 n entries; they are moved
//     within 0.38 n changes, when the new array, of 2 n lines, or of as many as the capacity
//     requires, has 5.9 n entries at most. It shrinks to one half with 1.4 n entries, and has 1.5 n
//     entries when they are moved.

#include <bit>
#include <cstddef>
#include <cstdint>
#include <new>

#include "singleflight/cache/detail/entry_lines.hpp"
#include "singleflight/cache/detail/rules.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

class entry_table {
 public:
  /// `capacity`: the maximum number of entries at a time. With up to `reserve` entries it does not
  /// grow, and it does not become smaller than for those. Throws std::bad_alloc.
  explicit entry_table(std::size_t capacity, std::size_t reserve = 0);
  entry_table(const entry_table&) = delete;
  entry_table& operator=(const entry_table&) = delete;
  ~entry_table() { free(let_go()); }

  /// Finds what most hits need, without a loop or a call: the first match in the home line, or, if
  /// there is none and entries have passed that line, in the line after it (in a full table one
  /// entry in twenty). Returns null if that is not the entry: nothing is protected then, and find()
  /// has to search.
  template <class Same>
  entry_base* glance(std::uint32_t hash, hazard_record& record, hazard_slot& slot,
                     const Same& same) const {
    const bool one_sided = hazard_mode::is_one_sided();  // read once
    hazard_slot& structure = record.structure();
    entry_lines* const all = current_.load(table_order());
    protect(structure, all, one_sided);
    entry_base* e = nullptr;
    if (is_current(*all) || !platform::holds(rule::table_is_confirmed)) [[likely]] {
      const entry_line* line = &all->home(hash);
      const std::uint64_t word = line->word.load(find_order());
      std::uint64_t fits = entry_line::match(word, entry_line::home_tag(hash));
      if (fits == 0 && entry_line::passed(word) != 0) [[unlikely]] {
        line = &all->after(*line);
        fits = entry_line::match(line->word.load(find_order()), entry_line::away_tag(hash));
      }
      if (fits != 0) [[likely]] {
        const atomic<entry_base*>& place = line->slots[entry_line::place_of(fits)];
        e = place.load(find_order());
        protect(slot, e, one_sided);
        if (e != place.load(find_order()) && platform::holds(rule::found_is_confirmed))
            [[unlikely]] {
          e = nullptr;
        }
      }
    }
    release(structure, one_sided);  // the entry is protected by its own slot
    if (e != nullptr && e->hash == hash && is_same(same, *e, slot)) [[likely]] {
      return e;
    }
    release(slot, one_sided);
    return nullptr;
  }
  /// Returns the entry of `hash` for which same(entry) holds, protected by `slot`; null if there is
  /// none. `record` is the calling thread's. same() may throw, and must not search another table.
  template <class Same>
  entry_base* find(std::uint32_t hash, hazard_record& record, hazard_slot& slot,
                   const Same& same) const {
    struct protection {  // until the search ends
      hazard_slot& structure;
      hazard_slot& slot;
      entry_base* found = nullptr;
      ~protection() {
        release(structure);
        if (found == nullptr) release(slot);
      }
    } search{record.structure(), slot};
    for (;;) {
      const entry_lines& all = current(search.structure);
      const std::uint64_t moves = all.moves.load(memory_order_acquire);  // T5, raise_moves()
      platform::in_order(                                                // T8
          rule::source_is_searched_first,
          [&] {
            if (search.found != nullptr || all.source.load(table_order()) == nullptr) return;
            search.found = find_in_source(all, hash, record.source(), slot, same);
          },
          [&] {
            if (search.found == nullptr) search.found = find_in(all, hash, slot, same);
          });
      if (search.found != nullptr) return search.found;
      if (!is_current(all) && platform::holds(rule::overtaken_search_repeats)) continue;
      if (all.moves.load(memory_order_relaxed) == moves ||  // after the acquiring loads above
          !platform::holds(rule::search_sees_moves)) {
        return nullptr;
      }
    }
  }
  /// Whether a glance may miss entries because some have not been moved yet.
  bool is_moving() const noexcept { return moving_.load(memory_order_relaxed); }

  /// Returns whether a glance finds `e`, which the caller holds. `record` is the calling thread's.
  bool glance_finds(const entry_base& e, hazard_record& record) const noexcept {
    hazard_slot& structure = record.structure();
    const entry_line& line = current(structure).home(e.hash);
    const std::uint64_t fits =
        entry_line::match(line.word.load(memory_order_relaxed), entry_line::home_tag(e.hash));
    const bool first =
        fits != 0 && line.slots[entry_line::place_of(fits)].load(memory_order_relaxed) == &e;
    release(structure);
    return first;
  }

  // ---- under the lock ---------------------------------------------------------------------------
  // Arrays that are searched no more are added to `left`, to be reclaimed after the lock.

  template <class Same>
  entry_base* find_locked(std::uint32_t hash, Same&& same) const {
    entry_base* found = nullptr;
    const auto is_it = [&](entry_base& e, entry_lines::spot) {
      if (e.hash != hash || !same(e)) return false;
      found = &e;
      return true;
    };
    const entry_lines& all = *current_.load(memory_order_relaxed);
    if (all.any_of(hash, is_it)) return found;
    const entry_lines* const source = all.source.load(memory_order_relaxed);
    return source != nullptr && source->any_of(hash, is_it) ? found : nullptr;
  }
  bool holds_locked(const entry_base& e) const noexcept { return where_is(e).at.line != nullptr; }
  std::size_t size() const noexcept { return size_; }

  /// Returns whether there is space for one more entry; grows the table for it, as far as there is
  /// memory, and makes a step (step_locked).
  bool make_room_locked(reclaimable*& left) noexcept {
    if (is_settled()) [[likely]] {
      return true;
    }
    return make_room_slowly(left);
  }
  /// Requires space (make_room_locked), and that the table has no entry of this key.
  void insert_locked(entry_base& e) noexcept {
    current_.load(memory_order_relaxed)->put(e);
    ++size_;
  }
  /// Puts `fresh` into the slot of `old`, which has the same key.
  void replace_locked(entry_base& old, entry_base& fresh) noexcept {
    const entry_lines::spot at = where_is(old).at;
    at.line->slots[at.place].store(&fresh,
                                   platform::order(rule::entry_releases, memory_order_release));
  }
  void remove_locked(entry_base& e) noexcept {
    const location found = where_is(e);
    found.lines->take_out(e, found.at);
    --size_;
    if (pins_ == 0 && found.lines == current_.load(memory_order_relaxed)) {
      (void)found.lines->bring_home(*found.at.line);
    }
  }
  /// Moves some entries of the source (T8). If there is no source, and very few entries for the
  /// lines, the table begins to shrink, as far as there is memory.
  void step_locked(reclaimable*& left) noexcept {
    if (!is_settled()) [[unlikely]] {
      make_step(left);
    }
  }
  /// Moves `e` to where a glance finds it (T7), if it is in the table and make_way() succeeds.
  void promote_locked(entry_base& e) noexcept;
  /// Leaves the table empty, and small again. Returns the lines that have the entries: a search
  /// that began before may still find them there. After the lock, the caller calls end_of() for
  /// these lines, and then gives the entries to the reclaimer. Returns null, and does nothing, if
  /// there is no memory.
  entry_lines* clear_locked() noexcept;
  static void end_of(entry_lines& cleared, reclaimable*& left) noexcept;
  /// The same without memory: the entries are in none of the lines any more.
  void empty_locked() noexcept;

  /// Returns the lines at the table's end; then no call is made but the destructor.
  entry_lines* let_go() noexcept { return current_.exchange(nullptr, memory_order_relaxed); }
  /// Frees these lines and their source.
  static void free(entry_lines* lines) noexcept;

  /// Where a visit continues; at first, at the beginning.
  struct position {
    std::uint64_t serial = 0;  ///< of the array
    std::size_t line = 0;
  };
  /// Calls visit(entry) for the entries of the next lines, at most `count`. Returns whether there
  /// are more lines; if not, `at` is the beginning again. visit may remove its entry, and must not
  /// throw. The calls of one visit, within a pin, meet every entry that is in the table from the
  /// first of them to the last; some twice, since the source is visited before the current array.
  /// A visit ends although other threads make changes: with a pin the table does not shrink, it
  /// grows a few times at most, and clear leaves nothing that a visit has to meet.
  template <class Visit>
  bool visit_locked(position& at, std::size_t count, Visit&& visit) {
    if (at.serial != 0 && at.serial < first_serial_) {
      at = {};
      return false;
    }
    entry_lines& all = *current_.load(memory_order_relaxed);
    entry_lines* const source = all.source.load(memory_order_relaxed);
    entry_lines& lines = source != nullptr && at.serial <= source->serial ? *source : all;
    if (at.serial != lines.serial) at = {lines.serial, 0};
    const std::size_t begin = at.line;
    const std::size_t before = size_;
    pin_locked();
    for (; at.line < lines.count && count > 0; ++at.line, --count) {
      for (auto& slot : lines.first[at.line].slots) {
        if (entry_base* const e = slot.load(memory_order_relaxed)) visit(*e);
      }
    }
    unpin_locked();
    if (size_ != before && pins_ == 0 && &lines == &all) settle(begin, at.line);
    if (at.line < lines.count) return true;
    at = &lines == &all ? position{} : position{all.serial, 0};
    return &lines != &all;
  }
  std::size_t lines_locked() const noexcept { return current_.load(memory_order_relaxed)->count; }

  /// Keeps entries in their lines until unpin_locked(), but for moves to a larger array. Calls
  /// nest.
  void pin_locked() noexcept { ++pins_; }
  void unpin_locked() noexcept { --pins_; }

 private:
  template <class Same>
  static bool is_same(const Same& same, const entry_base& e, hazard_slot& slot) {
    try {
      return same(e);
    } catch (...) {
      release(slot);
      throw;
    }
  }
  static memory_order_t table_order() noexcept {
    return platform::order(rule::table_acquires, memory_order_acquire);
  }
  static memory_order_t find_order() noexcept {
    return platform::order(rule::find_acquires, memory_order_acquire);
  }
  bool is_current(const entry_lines& all) const noexcept {
    return current_.load(table_order()) == &all;
  }
  /// Returns the current table, protected by `structure` (T3).
  const entry_lines& current(hazard_slot& structure) const noexcept {
    for (;;) {
      entry_lines* const all = current_.load(table_order());
      protect(structure, all);
      if (is_current(*all) || !platform::holds(rule::table_is_confirmed)) return *all;
    }
  }
  /// Returns what is in a place of the table, protected by `slot` (T3).
  static entry_base* confirmed(const atomic<entry_base*>& place, hazard_slot& slot) noexcept {
    entry_base* e = place.load(find_order());
    while (e != nullptr) {
      protect(slot, e);
      entry_base* const still = place.load(find_order());
      if (still == e || !platform::holds(rule::found_is_confirmed)) break;
      e = still;
    }
    return e;
  }
  template <class Same>
  SINGLEFLIGHT_INLINE static entry_base* find_in(const entry_lines& lines, std::uint32_t hash,
                                                 hazard_slot& slot, const Same& same) {
    std::uint64_t tag = entry_line::home_tag(hash);
    const entry_line* line = &lines.home(hash);
    for (std::size_t passed = 0; passed < lines.count; ++passed) {
      const std::uint64_t word = line->word.load(find_order());
      for (std::uint64_t fits = entry_line::match(word, tag); fits != 0; fits &= fits - 1) {
        entry_base* const e = confirmed(line->slots[entry_line::place_of(fits)], slot);
        if (e != nullptr && e->hash == hash && same(*e)) return e;
      }
      if (entry_line::passed(word) == 0) break;
      line = &lines.after(*line);
      tag = entry_line::away_tag(hash);
    }
    return nullptr;
  }
  /// The same in the source of `all`, unless all of its entries have been moved (T8).
  template <class Same>
  SINGLEFLIGHT_NOINLINE static entry_base* find_in_source(const entry_lines& all,
                                                          std::uint32_t hash,
                                                          hazard_slot& protecting,
                                                          hazard_slot& slot, const Same& same) {
    struct protection {
      hazard_slot& source;
      ~protection() { release(source); }
    } const search{protecting};
    entry_lines* const source = all.source.load(table_order());
    protect(search.source, source);
    // What is not the source any more never becomes it again.
    if (source == nullptr ||
        (all.source.load(table_order()) != source && platform::holds(rule::source_is_confirmed))) {
      return nullptr;
    }
    return find_in(*source, hash, slot, same);
  }

  // ---- under the lock ---------------------------------------------------------------------------

  struct location {
    entry_lines* lines;
    entry_lines::spot at;  // without a line: the entry is not in the table
  };
  SINGLEFLIGHT_INLINE location where_is(const entry_base& e) const noexcept {
    entry_lines* lines = current_.load(memory_order_relaxed);
    entry_lines::spot at = lines->spot_of(e);
    if (at.line == nullptr) {
      lines = lines->source.load(memory_order_relaxed);
      if (lines != nullptr) at = lines->spot_of(e);
    }
    return {lines, at};
  }
  /// Whether no entry has to move, nor the number of lines to change.
  bool is_settled() const noexcept { return size_ - settled_from_ < settled_sizes_; }
  void settle_at(std::size_t lines) noexcept;
  bool make_room_slowly(reclaimable*& left) noexcept;
  void make_step(reclaimable*& left) noexcept;
  static std::size_t fits_in(std::size_t lines) noexcept { return lines * per_two_lines / 2; }
  std::size_t lines_for(std::size_t entries) const noexcept;
  /// Returns the size that follows a smaller one.
  std::size_t lines_after(std::size_t count) const noexcept;
  /// Returns whether there was memory.
  bool change_to(std::size_t lines) noexcept;
  /// Does what a visit has deferred: entries that have passed these lines move home.
  void settle(std::size_t begin, std::size_t end) noexcept;

  /// The average number of entries in two lines at which the table grows: one in ten is then in a
  /// line after its home.
  static constexpr std::size_t per_two_lines = 11;
  static constexpr std::size_t first_lines = platform::tuned(std::size_t{4}, std::size_t{1});
  /// The most lines that 32 bits of hash, or the bytes of an address space, can tell apart.
  static constexpr std::size_t most_lines =
      std::size_t{1} << (sizeof(std::size_t) > 4 ? 32 : 31 - std::countr_zero(sizeof(entry_line)));

  const std::size_t most_lines_;
  const std::size_t least_lines_;
  atomic<entry_lines*> current_{nullptr};
  atomic<bool> moving_{false};  // whether the current array has a source
  std::size_t size_ = 0;        // this and the next: guarded by the lock
  std::size_t pins_ = 0;
  // The sizes with which the lines stay as they are: none while entries move.
  std::size_t settled_from_ = 0;
  std::size_t settled_sizes_ = 0;
  std::uint64_t first_serial_ = 1;  // of the arrays since the last clear
};

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE

#if !defined(SINGLEFLIGHT_COMPILED)
#include "singleflight/cache/impl/entry_table.hpp"
#endif
