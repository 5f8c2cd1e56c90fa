// SPDX-License-Identifier: Apache-2.0
#pragma once

// entry_line: a line of a table of entries: seven addresses, and a word that describes them.
//
// It is one line of the machine's cache. The word has a byte for each address: 0 where there is
// none; else seven bits of the entry's hash below a bit that says whether this is the entry's home
// line, or a later one. Its last byte counts the entries that passed this line on their way to a
// later one because it was full. (F14 searches in this way, with other counts: Bronson and Shi,
// "Open-sourcing F14", Facebook Engineering, 2019.)
//
// Changes are made under the lock of the table's cache, concurrently with readers (entry_table.hpp,
// T2).

#include <bit>
#include <cstddef>
#include <cstdint>

#include "singleflight/cache/detail/entry.hpp"
#include "singleflight/cache/detail/rules.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

struct alignas(64) entry_line {
  static constexpr std::size_t places = 7;
  static constexpr unsigned passed_shift = 56;

  atomic<std::uint64_t> word{0};
  atomic<entry_base*> slots[places]{};

  // ---- of a word --------------------------------------------------------------------------------

  /// Return the byte of an entry in its home line, and in a later one.
  static std::uint64_t home_tag(std::uint32_t hash) noexcept { return 0x80 | (hash & 0x7f); }
  static std::uint64_t away_tag(std::uint32_t hash) noexcept {
    return (hash & 0x7f) != 0 ? hash & 0x7f : 1;
  }
  static std::uint64_t passed(std::uint64_t word) noexcept { return word >> passed_shift; }

  // Sets of places: a bit at the top of each one's byte.

  /// Returns the places that may have `tag` (rarely one that has not, because of the next one's
  /// borrow).
  static std::uint64_t match(std::uint64_t word, std::uint64_t tag) noexcept {
    constexpr std::uint64_t ones = 0x0001010101010101U;
    const std::uint64_t x = word ^ (ones * tag);
    return (x - ones) & ~x & tops;
  }
  static std::uint64_t free(std::uint64_t word) noexcept { return ~taken(word) & tops; }
  static std::uint64_t at_home(std::uint64_t word) noexcept { return word & tops; }
  /// Returns the places whose entry is not at home.
  static std::uint64_t away(std::uint64_t word) noexcept { return taken(word) & ~word; }
  /// Returns the first place of a set.
  static std::size_t place_of(std::uint64_t matches) noexcept {
    return static_cast<std::size_t>(std::countr_zero(matches)) / 8;
  }

  // ---- under the lock ---------------------------------------------------------------------------

  std::uint64_t read() const noexcept { return word.load(memory_order_relaxed); }
  /// Returns whether there was a free place.
  bool put(entry_base& e, std::uint64_t tag) noexcept {
    const std::uint64_t places_left = free(read());
    if (places_left == 0) return false;
    const std::size_t i = place_of(places_left);
    const memory_order_t release = platform::order(rule::entry_releases, memory_order_release);
    slots[i].store(&e, release);
    word.store(read() | tag << (8 * i), release);
    return true;
  }
  void clear(std::size_t place) noexcept {
    word.store(read() & ~(std::uint64_t{0xff} << (8 * place)), memory_order_release);
    slots[place].store(nullptr, memory_order_release);
  }
  /// Counts one entry more, and one less, that has passed. A count at its maximum stays there.
  void pass() noexcept {
    if (passed(read()) != most_passed) word.store(read() + one_passed, memory_order_release);
  }
  void unpass() noexcept {
    if (passed(read()) != most_passed) word.store(read() - one_passed, memory_order_release);
  }
  unsigned hits(std::size_t place) const noexcept {
    return slots[place].load(memory_order_relaxed)->hits();
  }

 private:
  static constexpr std::uint64_t tops = 0x0080808080808080U;
  static constexpr std::uint64_t one_passed = std::uint64_t{1} << passed_shift;
  static constexpr std::uint64_t most_passed = 0xff;

  static std::uint64_t taken(std::uint64_t word) noexcept {
    constexpr std::uint64_t rests = 0x007f7f7f7f7f7f7fU;
    return (((word & rests) + rests) | word) & tops;
  }
};

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE
