// SPDX-License-Identifier: Apache-2.0
#pragma once

// s3_fifo: which entry is evicted when the cache is over its capacity.
//
//   miss --> [ small ] -- hit there, or main is below its share --> [ main ] --> out: no hit since
//                | no hit                                            ^  |  ^       its last round
//                v                                                   |  v  |
//            ( ghost ) --- main's oldest entry was used less lately -'  '--' hit: half of its hits,
//                                                                            and to the head
//
// A hit changes no queue and waits for no lock: it increments a counter of the entry that saturates
// at 3 (entry_base::touch). All else happens under the cache's lock, in O(1): an eviction passes at
// most `max_steps` entries.
//
// Q1  A place in main must be won. A key that returns while its ghost is remembered goes to main if
//     main's oldest entry has had no hit for at least as long as that key was away; an entry that
//     has waited as long and had a hit is passed. A key that loses starts again in the small queue.
//     So a loop longer than the cache does not wash main out, and entries that are used no more do
//     not stay in it. An entry that was hit in the small queue wins if main's oldest entry has had
//     no hit in its round.
// Q2  The small queue's share adapts. A key that returns from the ghosts would have been a hit if
//     the queue that evicted it had been longer by its age: a vote for that queue, and the further
//     it would have had to be longer, the less it counts. The small queue gets the vote only if
//     main's oldest entry had no hit; if it had one, main gets a part of that vote.
// Q3  Main fills freely while it is below its share (plain S3-FIFO never fills it under a cyclic
//     scan), but for a place that is left for a key that returns. Its hand moves on once in
//     `aging_period` evictions from the small queue, so that it does not permanently keep the
//     entries of an earlier workload.
//
// Memory: two links and two bytes in the entry; 3.2 bytes per entry for the ghosts, from the first
// eviction on.
//
// Sources: S3-FIFO (Yang et al., "FIFO Queues are All You Need for Cache Eviction", SOSP 2023): the
// three queues; CLOCK (Corbato, 1968): the second chance; ARC (Megiddo and Modha, FAST 2003): that
// ghosts show which queue is too short; LIRS (Jiang and Zhang, SIGMETRICS 2002): that the time
// between two uses, compared with how long the coldest entry has been unused, tells who deserves a
// place. What was measured, and rejected: docs/design/eviction.md.

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "singleflight/cache/detail/entry.hpp"
#include "singleflight/core/support/zeroed_array.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

/// The recently evicted entries: a table of lines, each of 23 ghosts and a hand: 12 bits of the
/// hash, the queue it was evicted from, and 7 bits of that queue's clock. The clock counts the
/// weight that the queue has evicted, in 32nds of the capacity, so that an age tells how much
/// longer the queue should have been; it wraps after four capacities, when the line has been
/// overwritten. A false match (1 miss in 180) can admit one entry to main early, and moves the
/// share by a few entries at most.
class ghost_queue {
 public:
  enum class from : std::uint8_t { small, main };
  struct sighting {
    bool seen = false;
    from left{};
    double age = 0;  ///< in weight evicted by that queue since then
  };

  /// The unit of the clocks, in weight.
  void set_step(std::uint64_t step) noexcept { step_ = step; }

  /// Records an eviction; `entries` is how many are in the cache.
  void remember(std::uint32_t hash, from left, std::uint64_t weight, std::size_t entries) noexcept;
  /// Returns whether the entry is here, and how old it is; forgets it.
  sighting recall(std::uint32_t hash) noexcept;
  /// Places are overwritten in turn, the oldest first. A print of 0 is a free place.
  struct alignas(64) line {
    static constexpr std::size_t places = 23;
    static constexpr std::size_t hand_at = 23;  ///< the place after the last one stores the hand
    static constexpr std::size_t print_bits = 12;
    static constexpr std::size_t per_word = 5;

    std::uint64_t prints[5];  // two of these places are never used
    std::uint8_t stamps[24];

    std::size_t hand() const noexcept { return stamps[hand_at]; }
    void set_print(std::size_t place, std::uint64_t print) noexcept {
      const auto shift = print_bits * (place % per_word);
      std::uint64_t& word = prints[place / per_word];
      word = (word & ~(print_mask << shift)) | print << shift;
    }
    /// Returns its place, or `places` if it is not here.
    std::size_t find(std::uint64_t print) const noexcept {
      constexpr std::uint64_t ones = 0x0001'0010'0100'1001U;
      for (std::size_t i = 0; i < 5; ++i) {
        const std::uint64_t x = prints[i] ^ (ones * print);
        const std::uint64_t hit = (x - ones) & ~x & (ones << (print_bits - 1));
        if (hit != 0) {  // its lowest bit is exact
          return i * per_word + static_cast<std::size_t>(std::countr_zero(hit)) / print_bits;
        }
      }
      return places;
    }
  };
  static_assert(sizeof(line) == 64);
  using memory = zeroed_array<line>;
  /// Forgets all; returns the memory, whose end takes time.
  memory let_go() noexcept { return std::exchange(lines_, memory()); }

 private:
  static constexpr std::uint64_t print_mask = (std::uint64_t{1} << line::print_bits) - 1;
  static constexpr std::uint8_t main_bit = 0x80;
  static constexpr std::uint8_t time_mask = 0x7f;
  /// There are lines for one entry in 20, and new ones if there is only one for 25.
  static constexpr std::size_t entries_per_line = 20;
  static constexpr std::size_t most_per_line = 25;

  struct clock {
    std::uint64_t rest = 0;
    std::uint8_t ticks = 0;
  };

  static std::uint64_t print_of(std::uint32_t hash) noexcept {
    return std::max<std::uint64_t>(hash & print_mask, 1);
  }
  line& line_of(std::uint32_t hash) const noexcept {
    return lines_[static_cast<std::size_t>((std::uint64_t{hash} * lines_.size()) >> 32)];
  }
  /// Makes a place for each entry; the table starts empty. Called at the first eviction, and later
  /// only if lighter entries raise their number a lot. Without memory there are no ghosts.
  void grow(std::size_t entries) noexcept;

  memory lines_;
  std::uint64_t step_ = 1;
  clock clocks_[2];
};

class s3_fifo {
 public:
  /// If the entries have extras, these contain their weights; otherwise each weighs 1.
  s3_fifo(std::uint64_t capacity, bool extras) noexcept : extras_(extras), capacity_(capacity) {
    start();
  }
  s3_fifo(const s3_fifo&) = delete;
  s3_fifo& operator=(const s3_fifo&) = delete;

  std::size_t weight_of(entry_base& e) const noexcept { return extras_ ? e.extras().weight : 1; }
  std::uint64_t weight() const noexcept { return small_.weight + main_.weight; }
  bool over() const noexcept { return weight() > capacity_; }

  /// Adds a new entry. The caller then calls evict() while over().
  void insert(entry_base& e) noexcept;
  /// Removes the entry to evict from its queue. Requires that there is one. The entry inserted last
  /// is returned only if it is the only one.
  entry_base* evict() noexcept;
  /// Removes an entry that was invalidated or has expired from its queue, without a ghost.
  void remove(entry_base& e) noexcept { unlink(e); }
  /// `fresh` takes the place of `old`, with its hits.
  void replace(entry_base& old, entry_base& fresh) noexcept;
  /// What the queues had: the entries, in two lists linked by `next`, and the ghosts.
  struct contents {
    reclaimable* entries[2]{};
    ghost_queue::memory ghosts{};
  };
  contents let_go() noexcept;

 private:
  // The values of an entry's `place`.
  static constexpr std::uint8_t in_small = 1;
  static constexpr std::uint8_t in_main = 2;

  /// Entries passed in one eviction; then one is evicted, hit or not.
  static constexpr int max_steps = 16;
  // The small queue's share of the capacity: at first, at least, at most.
  static constexpr double start_share = 0.03, min_share = 0.01, max_share = 0.98;
  /// An age up to this share of the capacity has a full vote, twice the age three eighths of one,
  /// and a much greater age a part that falls with its square.
  static constexpr double near_share = 0.04;
  /// A full vote moves the share by four times the entry's weight, or an eighth of the capacity.
  static constexpr double vote_weights = 4, vote_share = 0.125;
  static constexpr double hot_vote = 0.15;  ///< what main gets if its oldest entry was hit
  /// A vote for main counts up to four times as much where main is small: it leaves few ghosts.
  static constexpr double scarcity = 3;
  /// How much longer than a returning key main's oldest entry must have been without a hit: the
  /// times are estimates, and in a loop they are equal.
  static constexpr double idle_margin = 1.25;
  static constexpr int contest_steps = 3;  ///< entries of main passed for a returning key
  static constexpr std::uint32_t aging_period = 128;
  static constexpr std::uint64_t steps_per_capacity = 32;

  struct queue {
    reclaimable* first = nullptr;  // the newest
    reclaimable* last = nullptr;
    std::uint64_t weight = 0;
  };

  void start() noexcept;
  void set_share(double share) noexcept;

  queue& queue_of(const entry_base& e) noexcept {
    return e.place.load(memory_order_relaxed) == in_small ? small_ : main_;
  }
  void push(queue& q, entry_base& e, std::uint8_t place) noexcept;
  void unlink(entry_base& e) noexcept;
  entry_base* take(entry_base& e) noexcept;
  /// Returns the next entry to evict, which is not the newest.
  entry_base* oldest(const queue& q) const noexcept {
    return static_cast<entry_base*>(q.last != nullptr && q.last == newest_ ? q.last->prev : q.last);
  }
  void push_main(entry_base& e) noexcept;
  /// Main's second chance: a hit moves it back to the head. Returns false if it has none.
  bool pass(entry_base& e) noexcept;
  /// Returns whether an entry that is back from the ghosts goes to main, and lets it vote.
  bool wins(entry_base& e, const ghost_queue::sighting& seen) noexcept;
  void vote(double part, entry_base& e, double age) noexcept;
  /// Returns how long ago main's oldest entry came to its head, in weight evicted from the small
  /// queue since then: as if entries had come at an even rate in the last round.
  double idle_time() const noexcept;

  const bool extras_;
  const std::uint64_t capacity_;
  double share_ = 0;                ///< of the small queue, in weight
  std::uint64_t small_target_ = 0;  ///< the share, rounded down
  queue small_, main_;
  std::size_t count_ = 0;
  entry_base* newest_ = nullptr;
  std::uint32_t small_evictions_ = 0;
  // A round of main: as much weight has come to its head as there is in it.
  std::uint64_t now_ = 0;  ///< the weight evicted from the small queue; it may wrap
  std::uint64_t round_began_ = 0, last_round_ = 0;
  std::uint64_t round_weight_ = 0;
  ghost_queue ghosts_;
};

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE

#if !defined(SINGLEFLIGHT_COMPILED)
#include "singleflight/cache/impl/s3_fifo.hpp"
#endif
