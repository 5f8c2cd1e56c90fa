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
// T3  A search protects the table, then checks that it is still the current one; it protects what
//     it finds in a slot, then checks that this is still there (hazard.hpp, H2). A table that was
//     replaced has no entries: it is emptied before the lock is released. So what is still in its
//     slot has not been given to the reclaimer.
// T4  A line's count of passed entries that has reached its maximum stays there: every search then
//     continues past that line.
// T5  An entry that moves to another slot is in both for a while, so a search finds it. A search
//     that has read the new slot before it was stored, and the old one after it was cleared, has
//     read `moves` before it was raised, which happens between the two, and searches again. (No
//     entry moves during a visit, which must meet all.)
// T6  When an entry leaves a line, one that had passed this line moves home to it. Otherwise, as
//     entries come and go, those in later lines would fill these lines, and push ever more away.
// T7  A frequently used entry is where a glance finds it. When a hit is the last that an entry
//     counts, and a glance does not find that entry, one with fewer hits is displaced: the first
//     one of its home line that has the same tag, or the one with the fewest hits of those that are
//     at home there. So in a cache that is not new one hit in fifty needs more than a glance at its
//     line, and not one in nine; a branch that goes both ways at random costs as much as half of
//     the rest of a hit.

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
  /// `capacity`: the maximum number of entries at a time.
  explicit entry_table(std::size_t capacity)
      : most_lines_(capacity / per_two_lines < most_lines / 2 ? capacity / per_two_lines * 2 + 2
                                                              : most_lines) {
    entry_lines* const lines =
        entry_lines::make(most_lines_ < first_lines ? most_lines_ : first_lines);
    if (lines == nullptr) throw std::bad_alloc();
    current_.store(lines, memory_order_relaxed);
  }
  entry_table(const entry_table&) = delete;
  entry_table& operator=(const entry_table&) = delete;
  ~entry_table() { delete current_.load(memory_order_relaxed); }

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
      bool found = false;
      ~protection() {
        release(structure);
        if (!found) release(slot);
      }
    } search{record.structure(), slot};
    for (;;) {
      std::uint64_t tag = entry_line::home_tag(hash);
      const entry_lines& all = current(search.structure);
      const std::uint64_t moves = all.moves.load(memory_order_acquire);  // T5, raise_moves()
      const entry_line* line = &all.home(hash);
      for (std::size_t passed = 0; passed < all.count; ++passed) {
        const std::uint64_t word = line->word.load(find_order());
        for (std::uint64_t fits = entry_line::match(word, tag); fits != 0; fits &= fits - 1) {
          entry_base* const e = confirmed(line->slots[entry_line::place_of(fits)], slot);
          if (e != nullptr && e->hash == hash && same(*e)) {
            search.found = true;
            return e;
          }
        }
        if (entry_line::passed(word) == 0) break;
        line = &all.after(*line);
        tag = entry_line::away_tag(hash);
      }
      if (!is_current(all) && platform::holds(rule::overtaken_search_repeats)) continue;
      if (all.moves.load(memory_order_relaxed) == moves ||  // after the acquiring loads above
          !platform::holds(rule::search_sees_moves)) {
        return nullptr;
      }
    }
  }

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

  template <class Same>
  entry_base* find_locked(std::uint32_t hash, Same&& same) const {
    const entry_lines& all = *current_.load(memory_order_relaxed);
    std::uint64_t tag = entry_line::home_tag(hash);
    const entry_line* line = &all.home(hash);
    for (std::size_t passed = 0; passed < all.count; ++passed) {
      const std::uint64_t word = line->read();
      for (std::uint64_t fits = entry_line::match(word, tag); fits != 0; fits &= fits - 1) {
        entry_base* const found =
            line->slots[entry_line::place_of(fits)].load(memory_order_relaxed);
        if (found != nullptr && found->hash == hash && same(*found)) {
          return found;
        }
      }
      if (entry_line::passed(word) == 0) break;
      line = &all.after(*line);
      tag = entry_line::away_tag(hash);
    }
    return nullptr;
  }

  std::size_t size() const noexcept { return size_; }

  /// Returns whether there is space for one more entry; grows the table for it, as far as there is
  /// memory. The array that was searched until then is added to `left`, to be reclaimed.
  bool make_room_locked(reclaimable*& left) noexcept {
    entry_lines* const old = current_.load(memory_order_relaxed);
    if (size_ < old->count * per_two_lines / 2) return true;
    if (old->count < most_lines_) {
      std::size_t count = old->count * 2;
      if (count > most_lines_) count = most_lines_;
      if (entry_lines* const fresh = entry_lines::make(count)) {
        for (std::size_t i = 0; i < old->count; ++i) {
          for (auto& slot : old->first[i].slots) {
            if (entry_base* const e = slot.load(memory_order_relaxed)) {
              fresh->put(*e);
            }
          }
        }
        replace(*fresh, left);
        return true;
      }
    }
    return size_ < old->count * entry_line::places - 1;
  }
  /// Requires space (make_room_locked), and that the table has no entry of this key.
  void insert_locked(entry_base& e) noexcept {
    current_.load(memory_order_relaxed)->put(e);
    ++size_;
  }
  /// Puts `fresh` into the slot of `old`, which has the same key.
  void replace_locked(entry_base& old, entry_base& fresh) noexcept {
    const entry_lines::spot at = current_.load(memory_order_relaxed)->spot_of(old);
    at.line->slots[at.place].store(&fresh,
                                   platform::order(rule::entry_releases, memory_order_release));
  }
  void remove_locked(entry_base& e) noexcept {
    entry_lines& all = *current_.load(memory_order_relaxed);
    const entry_lines::spot at = all.spot_of(e);
    all.take_out(e, at);
    --size_;
    if (pins_ == 0) (void)all.bring_home(*at.line);
  }
  /// Moves `e` to where a glance finds it (T7), if it is in the table and make_way() succeeds.
  void promote_locked(entry_base& e) noexcept {
    const auto is_it = [&e](const entry_base& other) { return &other == &e; };
    if (pins_ != 0 || find_locked(e.hash, is_it) == nullptr) return;
    entry_lines& all = *current_.load(memory_order_relaxed);
    entry_line& home = all.home(e.hash);
    const entry_lines::spot at = all.spot_of(e);
    if (all.make_way(home, e)) all.move_home(home, e, at);
  }
  /// Leaves the table empty, and small again as far as there is memory. The entries are the
  /// caller's.
  void clear_locked(reclaimable*& left) noexcept {
    entry_lines* const old = current_.load(memory_order_relaxed);
    size_ = 0;
    if (old->count > first_lines) {
      if (entry_lines* const fresh = entry_lines::make(first_lines)) return replace(*fresh, left);
    }
    old->empty();
  }
  /// Calls visit(entry) for the entries of `count` lines, beginning with the line `from`; returns
  /// the line to continue with, 0 at the end. visit may remove its entry, and must not throw.
  template <class Visit>
  std::size_t visit_locked(std::size_t from, std::size_t count, Visit&& visit) {
    entry_lines& all = *current_.load(memory_order_relaxed);
    pin_locked();
    for (; from < all.count && count > 0; ++from, --count) {
      for (auto& slot : all.first[from].slots) {
        if (entry_base* const e = slot.load(memory_order_relaxed)) visit(*e);
      }
    }
    unpin_locked();
    return from < all.count ? from : 0;
  }
  /// Does what a visit has deferred: entries that have passed these lines move home, as far as
  /// there are free places.
  void settle_locked(std::size_t from, std::size_t count) noexcept {
    entry_lines& all = *current_.load(memory_order_relaxed);
    if (pins_ != 0) return;
    for (; from < all.count && count > 0; ++from, --count) {
      while (all.bring_home(all.first[from])) {
      }
    }
  }
  std::size_t lines_locked() const noexcept { return current_.load(memory_order_relaxed)->count; }

  /// Keeps entries in their lines until unpin_locked(), unless the table grows. Calls nest.
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
  void replace(entry_lines& fresh, reclaimable*& left) noexcept {
    entry_lines* const old = current_.load(memory_order_relaxed);
    current_.store(&fresh, platform::order(rule::table_releases, memory_order_release));
    if (platform::holds(rule::left_table_is_emptied)) old->empty();
    old->destroy = &entry_lines::end;
    old->next = left;
    left = old;
  }

  /// The average number of entries in two lines at which the table grows: one in ten is then in a
  /// line after its home.
  static constexpr std::size_t per_two_lines = 11;
  static constexpr std::size_t first_lines = platform::tuned(std::size_t{4}, std::size_t{1});
  /// The most lines that 32 bits of hash, or the bytes of an address space, can tell apart.
  static constexpr std::size_t most_lines =
      std::size_t{1} << (sizeof(std::size_t) > 4 ? 32 : 31 - std::countr_zero(sizeof(entry_line)));

  const std::size_t most_lines_;
  atomic<entry_lines*> current_{nullptr};
  std::size_t size_ = 0;  // guarded by the lock
  std::size_t pins_ = 0;  // guarded by the lock
};

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE
