// SPDX-License-Identifier: Apache-2.0
#pragma once

// entry_table: the entries of a cache by key: lines of seven slots, searched without a lock.
//
// A search reads the word of a line (entry_line.hpp), then the entries that may fit: one miss of
// the machine's cache for the line, one for the entry.
//
// T1  The cache's lock guards every change.
// T2  To appear: the slot, then its byte, both released. To go: the byte, then the slot
//     (entry_line.hpp). Who replaces an entry of the same key stores the new one over it: a search
//     finds one of the two.
// T3  A search announces the table, then looks whether it is still the present one; it announces
//     what it finds in a slot, then looks whether that is still there (hazard.hpp, H2). A table
//     that was left has no entry any more: it is emptied before the lock goes. So what is still in
//     its slot has not been given to the reclaimer.
// T4  A count of passers-by that has reached its most stays there: such a line is passed by every
//     search.
// T5  An entry that moves to another slot stands in both for a while, so a search finds it; one
//     that has seen its new slot before, and its old one after, has read `moves` before it was
//     raised, which is between the two, and searches again. (None moves during a visit, which is to
//     meet all.)
// T6  Where an entry leaves a line, one that had passed it comes home to it: else, as entries come
//     and go, those in later lines would fill these lines, and push ever more away.
// T7  What is asked for often is where a glance finds it. When a hit is the last of an entry that
//     counts, and a glance does not find it, one that is asked for less makes way: the first of its
//     home line that looks like it, or the coldest of those that are at home there. So in a cache
//     that is not new one hit in fifty needs more than a glance at its line, and not one in nine; a
//     branch that goes both ways at random costs as much as half of the rest of a hit.

#include <bit>
#include <cstddef>
#include <cstdint>
#include <new>

#include "singleflight/cache/detail/entry_line.hpp"
#include "singleflight/cache/detail/rules.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

class entry_table {
 public:
  /// What is searched; replaced as a whole when it grows.
  struct lines final : reclaimable {
    lines(entry_line* first, std::size_t n) noexcept : at(first), count(n) {}
    ~lines() { delete[] at; }
    entry_line& home(std::uint32_t hash) const noexcept {
      return at[(std::uint64_t{hash} * count) >> 32];  // a line by the upper bits of the hash
    }
    entry_line& after(const entry_line& line) const noexcept {
      return &line + 1 == at + count ? *at : *(const_cast<entry_line*>(&line) + 1);
    }
    static void end(reclaimable* of) noexcept { delete static_cast<lines*>(of); }

    entry_line* const at;
    const std::size_t count;
    atomic<std::uint64_t> moves{0};  // T5
  };

  /// `most`: how many entries there will be at a time, at most.
  explicit entry_table(std::size_t most)
      : most_lines_(most / per_two_lines < most_lines / 2 ? most / per_two_lines * 2 + 2
                                                          : most_lines) {
    lines* const first = make(most_lines_ < first_lines ? most_lines_ : first_lines);
    if (first == nullptr) throw std::bad_alloc();
    current_.store(first, memory_order_relaxed);
  }
  entry_table(const entry_table&) = delete;
  entry_table& operator=(const entry_table&) = delete;
  ~entry_table() { delete current_.load(memory_order_relaxed); }

  /// What most hits need, without a loop or a call: the first that fits in the home line, or, where
  /// none does and some have passed that, in the line behind it (of a full table one entry in
  /// twenty). Null: it is not that one, nothing is announced, and find() knows more.
  template <class Same>
  entry_base* glance(std::uint32_t hash, hazard_record& record, hazard_slot& slot,
                     const Same& same) const {
    const bool one_sided = hazard_mode::is_one_sided();  // read once
    hazard_slot& structure = record.structure();
    lines* const all = current_.load(table_order());
    announce(structure, all, one_sided);
    entry_base* e = nullptr;
    if (is_present(*all) || !platform::holds(rule::table_is_confirmed)) [[likely]] {
      const entry_line* line = &all->home(hash);
      const std::uint64_t word = line->word.load(find_order());
      std::uint64_t fits = entry_line::match(word, entry_line::home_tag(hash));
      if (fits == 0 && entry_line::passed(word) != 0) [[unlikely]] {
        line = &all->after(*line);
        fits = entry_line::match(line->word.load(find_order()), entry_line::away_tag(hash));
      }
      if (fits != 0) [[likely]] {
        const atomic<entry_base*>& at = line->slots[entry_line::place_of(fits)];
        e = at.load(find_order());
        announce(slot, e, one_sided);
        if (e != at.load(find_order()) && platform::holds(rule::found_is_confirmed)) [[unlikely]] {
          e = nullptr;
        }
      }
    }
    withdraw(structure, one_sided);  // what is in the slot stands for itself
    if (e != nullptr && e->hash == hash && is_same(same, *e, slot)) [[likely]] {
      return e;
    }
    withdraw(slot, one_sided);
    return nullptr;
  }
  /// The entry of `hash` for which same(entry) holds, named by `slot`; null when there is none.
  /// `record` is the calling thread's. same() may throw, and must not search another table.
  template <class Same>
  entry_base* find(std::uint32_t hash, hazard_record& record, hazard_slot& slot,
                   const Same& same) const {
    struct marks {  // what is announced, until the search ends
      hazard_slot& structure;
      hazard_slot& slot;
      bool found = false;
      ~marks() {
        withdraw(structure);
        if (!found) withdraw(slot);
      }
    } mark{record.structure(), slot};
    for (;;) {
      std::uint64_t tag = entry_line::home_tag(hash);
      const lines& all = present(mark.structure);
      const std::uint64_t moves = all.moves.load(memory_order_acquire);  // T5, bring_home's release
      const entry_line* line = &all.home(hash);
      for (std::size_t passed = 0; passed < all.count; ++passed) {
        const std::uint64_t word = line->word.load(find_order());
        for (std::uint64_t fits = entry_line::match(word, tag); fits != 0; fits &= fits - 1) {
          entry_base* const e = confirmed(line->slots[entry_line::place_of(fits)], slot);
          if (e != nullptr && e->hash == hash && same(*e)) {
            mark.found = true;
            return e;
          }
        }
        if (entry_line::passed(word) == 0) break;
        line = &all.after(*line);
        tag = entry_line::away_tag(hash);
      }
      if (!is_present(all) && platform::holds(rule::overtaken_search_repeats)) continue;
      if (all.moves.load(memory_order_relaxed) == moves ||  // after the acquiring loads above
          !platform::holds(rule::search_sees_moves)) {
        return nullptr;
      }
    }
  }

  /// Whether a glance at its line finds `e`, which the caller holds. `record` is the thread's.
  bool is_at_hand(const entry_base& e, hazard_record& record) const noexcept {
    hazard_slot& structure = record.structure();
    const entry_line& line = present(structure).home(e.hash);
    const std::uint64_t fits =
        entry_line::match(line.word.load(memory_order_relaxed), entry_line::home_tag(e.hash));
    const bool first =
        fits != 0 && line.slots[entry_line::place_of(fits)].load(memory_order_relaxed) == &e;
    withdraw(structure);
    return first;
  }

  // ---- under the lock ---------------------------------------------------------------------------

  template <class Same>
  entry_base* find_locked(std::uint32_t hash, Same&& same) const {
    const lines& all = *current_.load(memory_order_relaxed);
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

  /// Whether there is room for one more; makes it, as far as there is memory. What was searched
  /// until then is `left`, to be reclaimed.
  bool make_room_locked(reclaimable*& left) noexcept {
    lines* const old = current_.load(memory_order_relaxed);
    if (size_ < old->count * per_two_lines / 2) return true;
    if (old->count < most_lines_) {
      std::size_t count = old->count * 2;
      if (count > most_lines_) count = most_lines_;
      if (lines* const fresh = make(count)) {
        for (std::size_t i = 0; i < old->count; ++i) {
          for (auto& slot : old->at[i].slots) {
            if (entry_base* const e = slot.load(memory_order_relaxed)) {
              put(*fresh, *e);
            }
          }
        }
        replace(*fresh, left);
        return true;
      }
    }
    return size_ < old->count * entry_line::places - 1;
  }
  /// Requires room, and that the key is not there.
  void insert_locked(entry_base& e) noexcept {
    put(*current_.load(memory_order_relaxed), e);
    ++size_;
  }
  /// Puts `fresh` into the slot of `old`, which has the same key.
  void replace_locked(entry_base& old, entry_base& fresh) noexcept {
    const spot at = spot_of(*current_.load(memory_order_relaxed), old);
    at.line->slots[at.place].store(&fresh,
                                   platform::order(rule::entry_releases, memory_order_release));
  }
  void remove_locked(entry_base& e) noexcept {
    lines& all = *current_.load(memory_order_relaxed);
    const spot at = spot_of(all, e);
    take_out(all, e, at);
    --size_;
    if (pins_ == 0) (void)bring_home(all, *at.line);
  }
  /// Brings `e` to where a glance finds it (T7), if it is in the table, and if who stands there
  /// makes way.
  void welcome_locked(entry_base& e) noexcept {
    const auto is_it = [&e](const entry_base& other) { return &other == &e; };
    if (pins_ != 0 || find_locked(e.hash, is_it) == nullptr) return;
    lines& all = *current_.load(memory_order_relaxed);
    entry_line& room = all.home(e.hash);
    const spot at = spot_of(all, e);
    if (make_way(all, room, e)) move_home(all, room, e, at);
  }
  /// Empty, and small again as far as there is memory. The entries are the caller's.
  void clear_locked(reclaimable*& left) noexcept {
    lines* const old = current_.load(memory_order_relaxed);
    size_ = 0;
    if (old->count > first_lines) {
      if (lines* const fresh = make(first_lines)) return replace(*fresh, left);
    }
    empty(*old);
  }
  /// Calls visit(entry) for the entries of the lines from `from` on, as many lines as `count`;
  /// returns the line to go on with, 0 at the end. visit may remove its entry, and must not throw.
  template <class Visit>
  std::size_t visit_locked(std::size_t from, std::size_t count, Visit&& visit) {
    lines& all = *current_.load(memory_order_relaxed);
    pin_locked();
    for (; from < all.count && count > 0; ++from, --count) {
      for (auto& slot : all.at[from].slots) {
        if (entry_base* const e = slot.load(memory_order_relaxed)) visit(*e);
      }
    }
    unpin_locked();
    return from < all.count ? from : 0;
  }
  /// What a visit has put off: those that have passed these lines come home, where there is room.
  void settle_locked(std::size_t from, std::size_t count) noexcept {
    lines& all = *current_.load(memory_order_relaxed);
    if (pins_ != 0) return;
    for (; from < all.count && count > 0; ++from, --count) {
      while (bring_home(all, all.at[from])) {
      }
    }
  }
  std::size_t lines_locked() const noexcept { return current_.load(memory_order_relaxed)->count; }

  /// Until unpin_locked(), entries stay in their lines, but for growth. Calls nest.
  void pin_locked() noexcept { ++pins_; }
  void unpin_locked() noexcept { --pins_; }

 private:
  template <class Same>
  static bool is_same(const Same& same, const entry_base& e, hazard_slot& slot) {
    try {
      return same(e);
    } catch (...) {
      withdraw(slot);
      throw;
    }
  }
  static memory_order_t table_order() noexcept {
    return platform::order(rule::table_acquires, memory_order_acquire);
  }
  static memory_order_t find_order() noexcept {
    return platform::order(rule::find_acquires, memory_order_acquire);
  }
  bool is_present(const lines& all) const noexcept { return current_.load(table_order()) == &all; }
  /// The present table, announced (T3).
  const lines& present(hazard_slot& structure) const noexcept {
    for (;;) {
      lines* const all = current_.load(table_order());
      announce(structure, all);
      if (is_present(*all) || !platform::holds(rule::table_is_confirmed)) return *all;
    }
  }
  /// What is in the slot of the table, announced (T3).
  static entry_base* confirmed(const atomic<entry_base*>& at, hazard_slot& slot) noexcept {
    entry_base* e = at.load(find_order());
    while (e != nullptr) {
      announce(slot, e);
      entry_base* const still = at.load(find_order());
      if (still == e || !platform::holds(rule::found_is_confirmed)) break;
      e = still;
    }
    return e;
  }
  /// Entries, on average, when it is to grow: one in ten is then in a later line than its own.
  static constexpr std::size_t per_two_lines = 11;
  static constexpr std::size_t first_lines = platform::tuned(std::size_t{4}, std::size_t{1});
  static constexpr int most_far = 16;  ///< lines that one is away who comes home, or makes way
  /// By a hash of 32 bits, or by what an address can tell apart.
  static constexpr std::size_t most_lines =
      std::size_t{1} << (sizeof(std::size_t) > 4 ? 32 : 31 - std::countr_zero(sizeof(entry_line)));

  static lines* make(std::size_t count) noexcept {
    auto* const first = new (std::nothrow) entry_line[count];
    if (first == nullptr) return nullptr;
    try {
      return new lines(first, count);
    } catch (const std::bad_alloc&) {
      delete[] first;
      return nullptr;
    }
  }

  static void put(lines& all, entry_base& e) noexcept {
    entry_line& home = all.home(e.hash);
    if (!home.put(e, entry_line::home_tag(e.hash))) send_on(all, home, e);
  }
  /// To the next line behind `line` that has room; there is one.
  static void send_on(const lines& all, entry_line& line, entry_base& e) noexcept {
    entry_line* next = &line;
    do {
      next->pass();
      next = &all.after(*next);
    } while (!next->put(e, entry_line::away_tag(e.hash)));
  }
  struct spot {
    entry_line* line;
    std::size_t place;
  };
  /// Where `e` is, which is in the table.
  static spot spot_of(const lines& all, const entry_base& e) noexcept {
    std::uint64_t tag = entry_line::home_tag(e.hash);
    for (entry_line* line = &all.home(e.hash);; line = &all.after(*line)) {
      const std::uint64_t word = line->read();
      for (std::uint64_t fits = entry_line::match(word, tag); fits != 0; fits &= fits - 1) {
        const std::size_t i = entry_line::place_of(fits);
        if (line->slots[i].load(memory_order_relaxed) == &e) return {line, i};
      }
      tag = entry_line::away_tag(e.hash);
    }
  }
  static void take_out(lines& all, entry_base& e, spot at) noexcept {
    at.line->clear(at.place);
    for (entry_line* by = &all.home(e.hash); by != at.line; by = &all.after(*by)) by->unpass();
  }
  static void raise_moves(lines& all) noexcept {
    all.moves.store(all.moves.load(memory_order_relaxed) + 1, memory_order_release);
  }
  /// To `room`, which has a place (T5).
  static void move_home(lines& all, entry_line& room, entry_base& e, spot from) noexcept {
    room.put(e, entry_line::home_tag(e.hash));
    raise_moves(all);
    take_out(all, e, from);
  }
  /// One that has passed `room` comes home to it (T6), of the next few lines; false: none, or no
  /// place is free.
  static bool bring_home(lines& all, entry_line& room) noexcept {
    if (entry_line::free(room.read()) == 0) return false;
    entry_line* line = &room;
    for (int far = 0; far < most_far; ++far) {
      if (entry_line::passed(line->read()) == 0) return false;
      line = &all.after(*line);
      if (line == &room) return false;  // a small table
      const std::uint64_t word = line->read();
      for (std::uint64_t at = entry_line::away(word); at != 0; at &= at - 1) {
        const std::size_t i = entry_line::place_of(at);
        entry_base& e = *line->slots[i].load(memory_order_relaxed);
        if (&all.home(e.hash) != &room) continue;
        move_home(all, room, e, {line, i});
        return true;
      }
    }
    return false;
  }
  /// Room for `e` in its home line, in front of all that look like it (T7); false: it is there
  /// already, who stands there is asked for as much, or the next few lines are full, too. Only one
  /// at home makes way: another may have come round to where its own home is the next with room.
  static bool make_way(lines& all, entry_line& room, const entry_base& e) noexcept {
    const std::uint64_t word = room.read();
    std::uint64_t candidates = entry_line::match(word, entry_line::home_tag(e.hash));
    if (candidates != 0) {
      candidates &= ~candidates + 1;  // the first
    } else if (entry_line::free(word) != 0) {
      return true;
    } else {
      candidates = entry_line::at_home(word);
    }
    std::size_t leaves = 0;
    unsigned fewest = e.hits();  // once: others count meanwhile
    bool found = false;
    for (; candidates != 0; candidates &= candidates - 1) {
      const std::size_t i = entry_line::place_of(candidates);
      if (room.slots[i].load(memory_order_relaxed) == &e &&
          platform::holds(rule::nobody_makes_way_for_himself)) {
        return false;
      }
      const unsigned hits = room.hits(i);
      if (hits >= fewest) continue;
      found = true;
      fewest = hits;
      leaves = i;
    }
    if (!found || !has_room_behind(all, room)) return false;
    send_on(all, room, *room.slots[leaves].load(memory_order_relaxed));
    if (platform::holds(rule::who_makes_way_is_told)) raise_moves(all);
    room.clear(leaves);
    return true;
  }
  static bool has_room_behind(const lines& all, const entry_line& line) noexcept {
    const entry_line* next = &all.after(line);
    for (int far = 0; far < most_far && next != &line; ++far, next = &all.after(*next)) {
      if (entry_line::free(next->read()) != 0) return true;
    }
    return false;
  }
  static void empty(lines& all) noexcept {
    for (std::size_t i = 0; i < all.count; ++i) {
      all.at[i].word.store(0, memory_order_release);
      for (auto& slot : all.at[i].slots) slot.store(nullptr, memory_order_release);
    }
  }
  void replace(lines& fresh, reclaimable*& left) noexcept {
    lines* const old = current_.load(memory_order_relaxed);
    current_.store(&fresh, platform::order(rule::table_releases, memory_order_release));
    if (platform::holds(rule::left_table_is_emptied)) empty(*old);
    old->destroy = &lines::end;
    old->next = left;
    left = old;
  }

  const std::size_t most_lines_;
  atomic<lines*> current_{nullptr};
  std::size_t size_ = 0;  // the lock
  std::size_t pins_ = 0;  // the lock
};

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE
