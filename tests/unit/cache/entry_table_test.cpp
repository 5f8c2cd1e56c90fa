// SPDX-License-Identifier: Apache-2.0

// The table of a cache's entries: growth and shrinking in steps, removal, entries displaced past
// full lines, equal hashes, and concurrent searches.

#include "singleflight/cache/detail/entry_table.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <random>
#include <set>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

#include "singleflight/core/default_timer.hpp"

namespace {

using singleflight::detail::entry;
using singleflight::detail::entry_base;
using singleflight::detail::entry_kind;
using singleflight::detail::entry_line;
using singleflight::detail::entry_lines;
using singleflight::detail::entry_table;
using singleflight::detail::hazard_domain;
using singleflight::detail::hazard_hold;
using singleflight::detail::hazard_record;
using singleflight::detail::hazard_slot;
using singleflight::detail::reclaimable;
using singleflight::detail::this_hazard_record;
using table_entry = entry<int, int>;

auto same_key(int key) {
  return [key](const entry_base& e) { return static_cast<const table_entry&>(e).key() == key; };
}

/// A table with its lock, and the steps that the caches perform around it.
class table {
 public:
  explicit table(std::size_t most, std::size_t reserve = 0) : of_(most, reserve) {}
  ~table() {
    clear();
    hazard_domain::instance().reclaim(nullptr);
  }
  entry_table& of() { return of_; }

  bool insert(int key, int value, std::uint32_t hash) {
    table_entry& fresh = table_entry::make(false, hash, 0, entry_kind::value, int(key), value);
    reclaimable* left = nullptr;
    bool stored = false;
    {
      const std::lock_guard hold(lock_);
      if (entry_base* const old = of_.find_locked(hash, same_key(key))) {
        of_.replace_locked(*old, fresh);
        leave(*old, left);
        stored = true;
      } else if (of_.make_room_locked(left)) {
        of_.insert_locked(fresh);
        stored = true;
      }
    }
    if (!stored) fresh.drop_reference();
    hazard_domain::instance().reclaim(left);
    return stored;
  }
  bool remove(int key, std::uint32_t hash) {
    reclaimable* left = nullptr;
    {
      const std::lock_guard hold(lock_);
      entry_base* const old = of_.find_locked(hash, same_key(key));
      if (old == nullptr) return false;
      of_.remove_locked(*old);
      of_.step_locked(left);
      leave(*old, left);
    }
    hazard_domain::instance().reclaim(left);
    return true;
  }
  /// Removes one entry in a visit of all lines.
  void sweep_one(int key, std::uint32_t hash) {
    reclaimable* left = nullptr;
    {
      const std::lock_guard hold(lock_);
      entry_base* const one = of_.find_locked(hash, same_key(key));
      entry_table::position at;
      bool more = true;
      while (more) {
        more = of_.visit_locked(at, of_.lines_locked(), [&](entry_base& e) {
          if (&e != one) return;
          of_.remove_locked(e);
          leave(e, left);
        });
      }
    }
    hazard_domain::instance().reclaim(left);
  }
  void clear() {
    reclaimable* left = nullptr;
    std::vector<entry_base*> all;
    entry_lines* cleared = nullptr;
    {
      const std::lock_guard hold(lock_);
      visit_all(3, [&](entry_base& e) { all.push_back(&e); });
      cleared = of_.clear_locked();
    }
    ASSERT_NE(cleared, nullptr);
    entry_table::end_of(*cleared, left);
    for (entry_base* const e : all) leave(*e, left);
    hazard_domain::instance().reclaim(left);
  }
  void set_hits(int key, std::uint32_t hash, std::uint8_t hits) {
    const std::lock_guard hold(lock_);
    of_.find_locked(hash, same_key(key))->set_hits(hits);
  }
  bool is_at_hand(int key, std::uint32_t hash) {
    const std::lock_guard hold(lock_);
    const entry_base* const e = of_.find_locked(hash, same_key(key));
    return of_.glance_finds(*e, *this_hazard_record());
  }
  /// Gives the entry the maximum of hits, and moves it home if it is away.
  void welcome(int key, std::uint32_t hash) {
    const std::lock_guard hold(lock_);
    entry_base* const e = of_.find_locked(hash, same_key(key));
    e->set_hits(entry_base::max_hits);
    const bool at_hand = of_.glance_finds(*e, *this_hazard_record());
    EXPECT_EQ(this_hazard_record()->structure().load(), nullptr);
    if (!at_hand) of_.promote_locked(*e);
  }
  /// -1: not found. Searches without the lock, as a cache does.
  int find(int key, std::uint32_t hash) const {
    hazard_record& record = *this_hazard_record();
    hazard_slot& slot = *record.free_handle();
    entry_base* e = of_.glance(hash, record, slot, same_key(key));
    EXPECT_EQ(slot.load(), e);
    if (e == nullptr || key % 2 == 0) e = of_.find(hash, record, slot, same_key(key));
    EXPECT_EQ(slot.load(), e);
    EXPECT_EQ(record.structure().load(), nullptr);
    if (e == nullptr) return -1;
    const hazard_hold hold(*e, &slot);
    return static_cast<table_entry*>(e)->value;
  }
  /// Whether a search of its home line suffices.
  bool glance(int key, std::uint32_t hash) const {
    hazard_record& record = *this_hazard_record();
    hazard_slot& slot = *record.free_handle();
    entry_base* const e = of_.glance(hash, record, slot, same_key(key));
    if (e == nullptr) return false;
    const hazard_hold hold(*e, &slot);
    return true;
  }
  int find_locked(int key, std::uint32_t hash) {
    const std::lock_guard hold(lock_);
    entry_base* const e = of_.find_locked(hash, same_key(key));
    return e == nullptr ? -1 : static_cast<table_entry*>(e)->value;
  }
  std::size_t size() {
    const std::lock_guard hold(lock_);
    return of_.size();
  }
  std::size_t lines() {
    const std::lock_guard hold(lock_);
    return of_.lines_locked();
  }
  std::size_t visited() {
    const std::lock_guard hold(lock_);
    std::size_t count = 0;
    visit_all(1, [&](entry_base&) { ++count; });
    return count;
  }
  /// Notes the keys in the next lines of a visit; returns whether there are more.
  bool visit_some(entry_table::position& at, std::size_t lines, std::set<int>& keys) {
    const std::lock_guard hold(lock_);
    return of_.visit_locked(
        at, lines, [&](entry_base& e) { keys.insert(static_cast<table_entry&>(e).key()); });
  }
  /// The change that a hit makes that a glance did not find.
  void step() {
    reclaimable* left = nullptr;
    {
      const std::lock_guard hold(lock_);
      of_.step_locked(left);
    }
    hazard_domain::instance().reclaim(left);
  }
  bool is_moving() const { return of_.is_moving(); }

 private:
  template <class Visit>
  void visit_all(std::size_t lines, const Visit& visit) {
    entry_table::position at;
    while (of_.visit_locked(at, lines, visit)) {
    }
  }
  static void leave(entry_base& e, reclaimable*& left) {
    e.leave(table_entry::end_of(false));
    e.next = left;
    left = &e;
  }
  entry_table of_;
  mutable std::mutex lock_;
};

constexpr std::size_t capacity_of_256_lines = 1397;  // and, when it has fewer, of 128, 64, ...

std::uint32_t mixed(int key) { return static_cast<std::uint32_t>(key) * 2654435769U; }

// Goal    A byte of a line's word matches where the tag is, or falsely because of a borrow, which
//         comparing the whole hash rules out; an empty place never matches.
TEST(entry_line, match) {
  for (const bool away : {false, true}) {
    const auto tag_of = away ? &entry_line::away_tag : &entry_line::home_tag;
    const std::uint64_t tag = tag_of(0x2a);
    const std::uint64_t word = tag << 16 | tag << 48 | std::uint64_t{200} << 56;
    std::uint64_t fits = entry_line::match(word, tag);
    EXPECT_EQ(entry_line::place_of(fits), 2U);
    fits &= fits - 1;
    EXPECT_EQ(entry_line::place_of(fits), 6U);
    EXPECT_EQ(fits & (fits - 1), 0U);
    EXPECT_EQ(entry_line::passed(word), 200U);
    for (std::uint64_t passed = 0; passed < 256; ++passed) {
      for (std::uint32_t hash = 0; hash < 128; ++hash) {
        const std::uint64_t empty = passed << entry_line::passed_shift;
        ASSERT_EQ(entry_line::match(empty, tag_of(hash)), 0U);
        for (int i = 0; i < 7; ++i) {
          const std::uint64_t one = empty | tag_of(hash) << (8 * i);
          ASSERT_EQ(entry_line::place_of(entry_line::match(one, tag_of(hash))),
                    static_cast<std::size_t>(i));
          ASSERT_EQ(entry_line::match(
                        one, away ? entry_line::home_tag(hash) : entry_line::away_tag(hash)),
                    0U);
        }
      }
    }
  }
}

// Goal    Whatever is stored and removed, in whatever order, a search finds exactly the stored
//         entries, with good hashes, bad ones, and one hash for all.
// Method  Random changes are compared with a map.
TEST(entry_table, agrees_with_a_map) {
  using hash_of = std::uint32_t (*)(int);
  const hash_of hashes[] = {
      mixed,
      [](int) { return 0xffffffffU; },                          // one hash for all: the last line
      [](int k) { return static_cast<std::uint32_t>(k % 3); },  // all in the first line
      [](int k) { return mixed(k) & 0xff000000U; },             // one tag
      [](int k) { return static_cast<std::uint32_t>(k) & 0x7fU; },  // one home, all tags
  };
  for (const hash_of hash : hashes) {
    std::mt19937 random(7);
    table t(800);
    std::unordered_map<int, int> map;
    for (int i = 0; i < 12'000; ++i) {
      const int key = static_cast<int>(random() % 1500);
      // Fills, then empties, then fills again.
      const bool insert = random() % 100 < ((i / 4000) % 2 == 0 ? 80U : 20U);
      if (insert && (map.size() < 800 || map.contains(key))) {
        ASSERT_TRUE(t.insert(key, i, hash(key)));
        map[key] = i;
      } else {
        ASSERT_EQ(t.remove(key, hash(key)), map.erase(key) == 1);
      }
      const int other = static_cast<int>(random() % 1500);
      const auto at = map.find(other);
      const int expected = at == map.end() ? -1 : at->second;
      ASSERT_EQ(t.find(other, hash(other)), expected);
      ASSERT_EQ(t.find_locked(other, hash(other)), expected);
      ASSERT_EQ(t.size(), map.size());
      if (expected != -1) {
        t.set_hits(other, hash(other), static_cast<std::uint8_t>(random() % entry_base::max_hits));
        if (random() % 2 == 0) t.welcome(other, hash(other));
      }
    }
    EXPECT_EQ(t.visited(), map.size());
    for (const auto& [key, value] : map) ASSERT_EQ(t.find(key, hash(key)), value);
    t.clear();
    EXPECT_EQ(t.size(), 0U);
    for (const auto& [key, value] : map) ASSERT_EQ(t.find(key, hash(key)), -1);
  }
}

// Goal    A line that more entries have passed than its counter can hold is passed by every search
//         from then on: the entries behind it are still found when some or all of the others have
//         been removed.
TEST(entry_table, more_displaced_entries_than_the_counter_holds) {
  table t(1000);
  constexpr std::uint32_t hash = 0x40000000;
  for (int k = 0; k < 600; ++k) ASSERT_TRUE(t.insert(k, k, hash));
  for (int k = 0; k < 599; ++k) {
    ASSERT_TRUE(t.remove(k, hash));
    ASSERT_EQ(t.find(599, hash), 599);
  }
  ASSERT_TRUE(t.insert(1, 11, hash));
  EXPECT_EQ(t.find(1, hash), 11);
  EXPECT_EQ(t.find(599, hash), 599);
  ASSERT_TRUE(t.remove(599, hash));
  EXPECT_EQ(t.find(599, hash), -1);
  EXPECT_EQ(t.find(1, hash), 11);
}

// Goal    There is always a place for as many entries as the table was made for, and one more; the
//         table does not grow before it has to.
TEST(entry_table, a_place_for_all) {
  for (const std::size_t most : {1U, 2U, 5U, 6U, 7U, 23U, 24U, 25U, 100U, 1000U}) {
    table t(most);
    for (std::size_t k = 0; k <= most; ++k) {
      ASSERT_TRUE(t.insert(static_cast<int>(k), 1, mixed(static_cast<int>(k)))) << most;
    }
    EXPECT_LE(t.of().lines_locked(), most / 11 * 2 + 2);
    EXPECT_EQ(t.visited(), most + 1);
  }
}

// Goal    A table that was cleared is small again.
TEST(entry_table, small_again) {
  table t(100'000);
  const std::size_t small = t.of().lines_locked();
  for (int k = 0; k < 50'000; ++k) t.insert(k, k, mixed(k));
  EXPECT_GT(t.of().lines_locked(), 100 * small);
  t.clear();
  EXPECT_EQ(t.of().lines_locked(), small);
  EXPECT_TRUE(t.insert(1, 1, mixed(1)));
  EXPECT_EQ(t.find(1, mixed(1)), 1);
}

// Goal    A table grows in steps: no change moves more entries than a constant, and they end before
//         the table has to grow again. Meanwhile each entry is found, replaced and removed, in
//         whichever array it is.
TEST(entry_table, grows_in_steps) {
  constexpr int most = 40'000;
  constexpr int moved_at_once = 22;  // 16, and the rest of a line
  table t(most);
  std::vector<int> changes;  // in each growth
  int key = 0;
  for (bool was = false; key < most; ++key) {
    ASSERT_TRUE(t.insert(key, key, mixed(key)));
    const bool is = t.is_moving();
    if (is && !was) changes.push_back(0);
    if (is) ++changes.back();
    if (is && key > 1000) {
      const int other = key * 7 % key;
      ASSERT_EQ(t.find(other, mixed(other)), other);
      ASSERT_EQ(t.find_locked(other, mixed(other)), other);
    }
    was = is;
  }
  ASSERT_GT(changes.size(), 8U);
  int entries = most;
  for (auto each = changes.rbegin(); each != changes.rend() && entries > 200; ++each) {
    entries /= 2;
    EXPECT_GE(*each, entries * 3 / 4 / moved_at_once) << entries;
    EXPECT_LE(*each, entries / 8) << entries;
  }
  EXPECT_EQ(t.visited(), static_cast<std::size_t>(most));
}

/// A table that has just begun to grow, with the keys from 0 to the count - 1.
struct growing {
  explicit growing(std::size_t most) : t(most) {
    while (!t.is_moving() || t.size() < 1000) {
      t.insert(count, count, mixed(count));
      ++count;
    }
  }
  table t;
  int count = 0;
};

// Goal    What happens to an entry of the source: it is replaced, removed, moved ahead by a hit.
TEST(entry_table, changes_in_the_source) {
  growing g(10'000);
  table& t = g.t;
  std::vector<int> sourced;  // glances do not look there
  for (int k = 0; k < g.count; ++k) {
    if (!t.glance(k, mixed(k))) sourced.push_back(k);
  }
  ASSERT_GT(sourced.size(), 900U);
  const int replaced = sourced[800];
  const int removed = sourced[801];
  const int often = sourced[802];
  t.insert(replaced, -5, mixed(replaced));
  EXPECT_EQ(t.find(replaced, mixed(replaced)), -5);
  EXPECT_TRUE(t.remove(removed, mixed(removed)));
  EXPECT_EQ(t.find(removed, mixed(removed)), -1);
  t.welcome(often, mixed(often));
  EXPECT_TRUE(t.is_at_hand(often, mixed(often)));
  EXPECT_TRUE(t.is_moving());
  while (t.is_moving()) t.step();
  EXPECT_EQ(t.find(replaced, mixed(replaced)), -5);
  EXPECT_EQ(t.find(removed, mixed(removed)), -1);
  EXPECT_EQ(t.find(often, mixed(often)), often);
  EXPECT_EQ(t.visited(), static_cast<std::size_t>(g.count) - 1);
}

// Goal    A table that is cleared as it grows has no entry, in either array.
TEST(entry_table, cleared_as_it_grows) {
  growing g(10'000);
  g.t.clear();
  EXPECT_FALSE(g.t.is_moving());
  EXPECT_EQ(g.t.visited(), 0U);
  for (int k = 0; k < g.count; ++k) ASSERT_EQ(g.t.find(k, mixed(k)), -1);
}

// Goal    As its entries leave, a table becomes small again, in steps; each entry that stays is
//         found meanwhile.
TEST(entry_table, shrinks_in_steps) {
  constexpr int most = 40'000;
  table t(most);
  const std::size_t least = t.lines();
  for (int k = 0; k < most; ++k) t.insert(k, k, mixed(k));
  const std::size_t largest = t.lines();
  int moving = 0;
  for (int k = 0; k < most - 10; ++k) {
    ASSERT_TRUE(t.remove(k, mixed(k)));
    const int other = most - 1 - k % 10;
    ASSERT_EQ(t.find(other, mixed(other)), other);
    moving += t.is_moving() ? 1 : 0;
  }
  EXPECT_GT(moving, static_cast<int>(largest / 64));  // 32 lines at a time, in all arrays
  for (std::size_t i = 0; i < largest / 16; ++i) t.step();
  EXPECT_FALSE(t.is_moving());
  EXPECT_LE(t.lines(), 2 * least);
  EXPECT_EQ(t.visited(), 10U);
  for (int k = most - 10; k < most; ++k) ASSERT_EQ(t.find(k, mixed(k)), k);
}

// Goal    A reserve is there from the beginning, and stays.
TEST(entry_table, reserve) {
  table t(100'000, 50'000);
  const std::size_t reserved = t.lines();
  EXPECT_GE(reserved, 50'000U * 2 / 11);
  EXPECT_LT(reserved, 2 * 50'000U * 2 / 11 + 2);
  for (int k = 0; k < 50'000; ++k) {
    t.insert(k, k, mixed(k));
    ASSERT_FALSE(t.is_moving());
  }
  for (int k = 0; k < 50'000; ++k) t.remove(k, mixed(k));
  EXPECT_EQ(t.lines(), reserved);
  EXPECT_FALSE(t.is_moving());
  t.insert(1, 1, mixed(1));
  t.clear();
  EXPECT_EQ(t.lines(), reserved);
  EXPECT_LE(table(10, 1'000'000'000).lines(), 2U) << "no more than the capacity needs";
  EXPECT_LE(table(10, ~std::size_t{0}).lines(), 2U);
}

// Goal    A visit in parts meets every entry that stays, though the table grows and shrinks between
//         them, and more than once.
TEST(entry_table, a_visit_meets_all_as_the_table_changes) {
  for (const int parts : {1, 5, 60}) {
    table t(100'000);
    constexpr int stay = 700;
    for (int k = 0; k < stay; ++k) t.insert(k, k, mixed(k));
    t.of().pin_locked();
    std::set<int> met;
    entry_table::position at;
    int next = stay;
    int part = 0;
    while (t.visit_some(at, 7, met)) {
      ++part;
      if (part % parts != 0 || part > 4000) continue;
      if (part / parts % 40 < 20) {
        for (int i = 0; i < 150; ++i, ++next) t.insert(next, next, mixed(next));
      } else {
        for (int i = 0; i < 300 && next > stay; ++i) {
          --next;
          t.remove(next, mixed(next));
        }
      }
    }
    t.of().unpin_locked();
    for (int k = 0; k < stay; ++k) ASSERT_TRUE(met.contains(k)) << k << ' ' << parts;
    EXPECT_EQ(at.serial, 0U);
  }
}

// Goal    A visit in parts ends although the table is cleared and filled, or would grow and shrink,
//         between any two of them.
TEST(entry_table, a_visit_ends) {
  for (const bool clears : {true, false}) {
    table t(100'000);
    for (int k = 0; k < 2'000; ++k) t.insert(k, k, mixed(k));
    t.of().pin_locked();
    std::set<int> met;
    entry_table::position at;
    int parts = 0;
    while (t.visit_some(at, 16, met) && ++parts < 2'000) {
      if (clears) t.clear();
      for (int k = 2'000; k < 8'000; ++k) t.insert(k, k, mixed(k));
      for (int k = 2'000; !clears && k < 8'000; ++k) t.remove(k, mixed(k));
    }
    EXPECT_LT(parts, 500) << clears;
    for (int k = 0; !clears && k < 2'000; ++k) ASSERT_TRUE(met.contains(k)) << k;
    t.of().unpin_locked();
  }
}

// Goal    The memory of a source is given back in large parts, and no entry is lost by that, also
//         if very many of them have passed the last lines of a part, or the last line of all.
TEST(entry_table, parts_of_the_source_are_given_back) {
  constexpr std::size_t part = 4096;  // lines
  constexpr std::size_t source_lines = 18'182;
  table t(400'000);
  const auto crowd_at = [](int k) { return k % 3 == 0 ? 1 : k % 3 == 1 ? 2 : 0; };
  constexpr int crowd = 900;  // for each of three lines: more than a line can count
  const auto hash = [&](int k) {
    if (k >= 3 * crowd) return mixed(k);
    const double lines = source_lines;
    const double line = crowd_at(k) == 0 ? lines - 1 : crowd_at(k) * double{part} - 1;
    return static_cast<std::uint32_t>((line + 0.5) / lines * 0x1p32);
  };
  int count = 0;
  const auto add = [&] {
    t.insert(count, count, hash(count));
    ++count;
  };
  while (t.lines() < 2 * source_lines) add();
  ASSERT_EQ(t.lines(), 2 * source_lines);
  ASSERT_TRUE(t.is_moving());
  while (t.is_moving()) {
    for (int i = 0; i < 50; ++i) t.step();
    for (int k = 0; k < 3 * crowd; k += 50) ASSERT_EQ(t.find(k, hash(k)), k);
    for (int k = 3 * crowd; k < count; k += 997) ASSERT_EQ(t.find(k, hash(k)), k);
  }
  EXPECT_EQ(t.visited(), static_cast<std::size_t>(count));
  for (int k = 0; k < count; ++k) ASSERT_EQ(t.find_locked(k, hash(k)), k);
}

// Goal    A comparison that throws leaves no slot in use.
TEST(entry_table, a_comparison_that_throws) {
  table t(10);
  t.insert(1, 1, mixed(1));
  hazard_record& record = *this_hazard_record();
  for (int i = 0; i < 20; ++i) {
    EXPECT_THROW(t.of().find(mixed(1), record, *record.free_handle(),
                             [](const entry_base&) -> bool { throw std::runtime_error("no"); }),
                 std::runtime_error);
  }
  EXPECT_EQ(record.free_handle(), &record.slots[0]);
  EXPECT_EQ(record.structure().load(), nullptr);
  growing g(10'000);
  for (int k = 0; k < 20; ++k) {
    EXPECT_THROW(g.t.of().find(mixed(k), record, *record.free_handle(),
                               [](const entry_base&) -> bool { throw std::runtime_error("no"); }),
                 std::runtime_error);
  }
  EXPECT_EQ(record.free_handle(), &record.slots[0]);
  EXPECT_EQ(record.source().load(), nullptr);
}

// Goal    As entries are added and removed, those displaced past a full line move home to it: in a
//         table that has been full for a long time glance finds as many of them as in one that was
//         filled once.
TEST(entry_table, displaced_entries_move_home) {
  constexpr int entries = 4400;  // as many as the table holds before it grows
  table t(entries);
  std::mt19937 random(3);
  std::vector<int> there;
  int next = 0;
  const auto hash = [](int k) {
    return static_cast<std::uint32_t>(singleflight::key_hash<int>{}(k));
  };
  const auto add = [&] {
    t.insert(next, next, hash(next));
    return next++;
  };
  const auto at_a_glance = [&] {
    std::size_t found = 0;
    for (const int k : there) found += t.glance(k, hash(k)) ? 1U : 0U;
    return static_cast<double>(found) / entries;
  };
  for (int i = 0; i < entries; ++i) there.push_back(add());
  const double filled_once = at_a_glance();
  for (int i = 0; i < 10 * entries; ++i) {
    int& one = there[random() % entries];
    t.remove(one, hash(one));
    one = add();
  }
  EXPECT_GT(filled_once, 0.85);
  EXPECT_GT(at_a_glance(), filled_once - 0.1);
  EXPECT_EQ(t.visited(), static_cast<std::size_t>(entries));
  for (const int k : there) ASSERT_EQ(t.find(k, hash(k)), k);
}

// Goal    Frequently used entries are found by glance, however full the table is; no other entry is
//         lost by that.
TEST(entry_table, frequently_used_entries_move_home) {
  constexpr int entries = 4400;
  constexpr int often = entries / 10;
  table t(entries);
  const auto hash = [](int k) {
    return static_cast<std::uint32_t>(singleflight::key_hash<int>{}(k));
  };
  for (int k = entries - 1; k >= 0; --k) t.insert(k, k, hash(k));  // frequently used ones last
  const auto away = [&] {
    int count = 0;
    for (int k = 0; k < often; ++k) count += t.is_at_hand(k, hash(k)) ? 0 : 1;
    return count;
  };
  const int before = away();
  for (int k = 0; k < often; ++k) t.welcome(k, hash(k));
  EXPECT_GT(before, often / 5);
  EXPECT_LE(away(), before / 3);
  for (int k = 0; k < often; ++k) t.welcome(k, hash(k));  // without a better place it stays
  EXPECT_EQ(t.visited(), static_cast<std::size_t>(entries));
  for (int k = 0; k < entries; ++k) {
    ASSERT_EQ(t.find(k, hash(k)), k);
    ASSERT_EQ(t.find_locked(k, hash(k)), k);
    ASSERT_TRUE(t.remove(k, hash(k)));
  }
  EXPECT_EQ(t.visited(), 0U);
}

// Goal    An entry that moves home takes the place of the coldest entry there, or of the one with
//         its tag, but never of an entry that is used as often.
TEST(entry_table, which_entry_is_displaced) {
  constexpr int crowd = entry_line::places;
  constexpr std::uint32_t home = 0x10000000U;
  table t(capacity_of_256_lines);
  for (int k = 1000; k < 1040; ++k) t.insert(k, k, mixed(k) | 0x80000000U);
  const auto hash = [](int k) { return home + static_cast<std::uint32_t>(k); };
  const auto at_glance = [&] {
    std::string keys;
    for (int k = 0; k <= 2 * crowd; ++k) {
      if (t.is_at_hand(k, hash(k))) keys += static_cast<char>('a' + k);
    }
    return keys;
  };
  for (int k = 0; k <= 2 * crowd; ++k) t.insert(k, k, hash(k));  // o is two lines away
  EXPECT_EQ(at_glance(), "abcdefg");
  t.set_hits(0, hash(0), 2);
  t.set_hits(1, hash(1), 1);
  for (int k = 3; k < crowd; ++k) t.set_hits(k, hash(k), 3);
  t.welcome(2 * crowd, hash(2 * crowd));  // replaces c, which has no hit
  EXPECT_EQ(at_glance(), "abdefgo");
  t.welcome(crowd, hash(crowd));  // replaces b
  EXPECT_EQ(at_glance(), "adefgho");
  t.welcome(2, hash(2));  // replaces a
  EXPECT_EQ(at_glance(), "cdefgho");
  t.welcome(0, hash(0));
  EXPECT_EQ(at_glance(), "cdefgho") << "a must not replace an entry that is used as often";
  EXPECT_EQ(t.visited(), 40U + 2 * crowd + 1);
  // In a line with free places, an entry is placed ahead of the one with its tag.
  constexpr std::uint32_t elsewhere = 0x40000000U;
  t.insert(20, 20, elsewhere);
  t.insert(21, 21, elsewhere);
  EXPECT_FALSE(t.is_at_hand(21, elsewhere));
  t.welcome(21, elsewhere);
  EXPECT_TRUE(t.is_at_hand(21, elsewhere));
  EXPECT_EQ(t.find(20, elsewhere), 20);
  t.welcome(20, elsewhere);
  EXPECT_TRUE(t.is_at_hand(21, elsewhere));
}

// Goal    In tables of one to eight lines, where probing wraps around soon, a search finds exactly
//         the stored entries, whichever of them move home and whichever they displace.
TEST(entry_table, small_tables_agree_with_a_map) {
  for (std::uint32_t seed = 0; seed < 1000; ++seed) {
    std::mt19937 random(seed);
    const std::size_t most = 1 + random() % 40;
    const std::uint32_t tags = 1 + random() % 8;
    const auto hash = [&](int k) {
      return (mixed(k) & 0xf0000000U) | static_cast<std::uint32_t>(k) % tags;
    };
    table t(most);
    std::unordered_map<int, int> map;
    for (int i = 0; i < 200; ++i) {
      const int key = static_cast<int>(random() % (2 * most));
      if (map.contains(key) && random() % 2 == 0) {
        t.set_hits(key, hash(key), static_cast<std::uint8_t>(random() % entry_base::max_hits));
        if (random() % 2 == 0) t.welcome(key, hash(key));
      } else if (map.contains(key)) {
        ASSERT_TRUE(t.remove(key, hash(key)));
        map.erase(key);
      } else if (map.size() < most) {
        ASSERT_TRUE(t.insert(key, i, hash(key)));
        map[key] = i;
      }
      for (int k = 0; k < static_cast<int>(2 * most); ++k) {
        const auto at = map.find(k);
        ASSERT_EQ(t.find_locked(k, hash(k)), at == map.end() ? -1 : at->second) << seed << ' ' << i;
      }
    }
  }
}

// Goal    An entry that is away from its home is not displaced: in a table of two lines the next
//         line with a free place is its home, where it would be marked as away.
TEST(entry_table, an_entry_away_from_home_is_not_displaced) {
  table t(10);
  constexpr std::uint32_t first = 0;
  constexpr std::uint32_t second = 0x80000000U;
  t.insert(1, 1, second + 5);
  t.insert(2, 2, second + 5);  // has the same tag
  t.welcome(2, second + 5);    // so the other one moves to the first line
  for (int k = 3; k < 9; ++k) {
    t.insert(k, k, first + static_cast<std::uint32_t>(k));
    t.set_hits(k, first + static_cast<std::uint32_t>(k), 1);
  }
  t.insert(9, 9, first + 9);  // in the second line
  t.welcome(9, first + 9);
  EXPECT_EQ(t.find(1, second + 5), 1);
  EXPECT_EQ(t.find_locked(1, second + 5), 1);
  EXPECT_TRUE(t.is_at_hand(9, first + 9));
}

// Goal    Concurrently with stores, replacements, removals, growth and clearing, a search always
//         finds an entry that is never removed; every entry found is alive and has the right key.
// Method  Threads search while one makes changes, for many rounds; the hashes crowd into a few
//         lines.
TEST(entry_table, searches_concurrent_with_changes) {
  const auto hash = [](int k) { return mixed(k) & 0xf000003fU; };
  std::atomic<bool> over{false};
  table t(2000);
  constexpr int stay = 8;
  for (int k = 0; k < stay; ++k) t.insert(k, k, hash(k));
  std::atomic<std::uint64_t> seen{0};
  std::vector<std::jthread> readers;
  for (int r = 0; r < 2; ++r) {
    readers.emplace_back([&, r] {
      std::mt19937 random(static_cast<unsigned>(r));
      while (!over) {
        const int fixed = static_cast<int>(random() % stay);
        const int value = t.find(fixed, hash(fixed));
        ASSERT_GE(value, 0) << "an entry that was never removed was not found";
        ASSERT_EQ(value % 10'000, fixed);
        const int other = stay + static_cast<int>(random() % 500);
        const int got = t.find(other, hash(other));
        ASSERT_TRUE(got == -1 || got % 10'000 == other) << got;
        seen.fetch_add(1, std::memory_order_relaxed);
      }
    });
  }
  std::mt19937 random(5);
  for (int i = 0; i < 40'000 || seen < 1000; ++i) {
    const int k = static_cast<int>(random() % 500);
    const int value = k + 10'000 * static_cast<int>(random() % 100);
    if (k < stay) {
      t.insert(k, value, hash(k));
    } else if (random() % 2 == 0) {
      t.insert(k, value, hash(k));
    } else {
      t.remove(k, hash(k));
    }
    const int often = static_cast<int>(random() % stay);
    t.welcome(often, hash(often));
    t.set_hits(often, hash(often), static_cast<std::uint8_t>(random() % entry_base::max_hits));
  }
  over = true;
}

// Goal    A search that is concurrent with an entry's move to its home line finds it, every time.
// Method  Four full lines, each with its own entries, and one entry of the first line behind them.
//         While it is being searched for, another entry leaves that line. All have one tag, so
//         after the first line a search compares many entries before it reaches the place where
//         that entry was.
TEST(entry_table, a_search_concurrent_with_a_move_home) {
  constexpr int crowd = entry_line::places;
  table t(capacity_of_256_lines);
  for (int k = 1000; k < 1200; ++k) t.insert(k, k, mixed(k) | 0x80000000U);
  const std::size_t lines = t.lines();
  const auto in_line = [lines](std::size_t line, std::uint32_t other) {
    return static_cast<std::uint32_t>((std::uint64_t{line} << 32) / lines) + (other + 1) * 0x80;
  };
  for (std::uint32_t k = 0; k < 4 * crowd; ++k) {
    t.insert(static_cast<int>(k), static_cast<int>(k), in_line(8 + k / crowd, k));
  }
  ASSERT_EQ(t.lines(), lines);
  const std::uint32_t home = in_line(8, 100);
  std::atomic<int> present{0};  // the entry behind the lines, while it is stored
  std::atomic<int> sought{0};
  std::jthread reader([&](const std::stop_token& over) {
    while (!over.stop_requested()) {
      const int key = present;
      sought = key;
      if (key == 0) {
        std::this_thread::yield();
        continue;
      }
      const int got = t.find(key, home);
      if (present == key) {
        EXPECT_EQ(got, key) << "an entry that was never removed was not found";
      }
    }
  });
  for (int i = 0; i < 1'000; ++i) {
    const int key = 10'000 + i;
    const std::uint32_t leaves = static_cast<std::uint32_t>(i) % crowd;
    t.insert(key, key, home);
    present = key;
    while (sought != key) std::this_thread::yield();
    t.remove(static_cast<int>(leaves), in_line(8, leaves));
    present = 0;
    EXPECT_EQ(t.find(key, home), key);
    t.remove(key, home);
    t.insert(static_cast<int>(leaves), static_cast<int>(leaves), in_line(8, leaves));
    if (testing::Test::HasFailure()) return;
  }
}

// Goal    A sweep, during which no entry moves home, moves entries home afterwards.
TEST(entry_table, displaced_entries_move_home_after_a_visit) {
  constexpr int crowd = entry_line::places;
  constexpr std::uint32_t home = 0x10000000U;
  table t(capacity_of_256_lines);
  for (int k = 1000; k < 1200; ++k) t.insert(k, k, mixed(k) | 0x80000000U);
  constexpr int last = 2 * crowd;  // two lines away: glance does not look there
  for (int k = 0; k <= last; ++k) t.insert(k, k, home + static_cast<std::uint32_t>(k));
  while (t.is_moving()) t.step();
  const auto glances = [&] { return t.glance(last, home + last); };
  EXPECT_FALSE(glances());
  for (int k = 0; k <= crowd; ++k) t.sweep_one(k, home + static_cast<std::uint32_t>(k));
  EXPECT_TRUE(glances());
  EXPECT_EQ(t.visited(), 200U + crowd);
}

}  // namespace
