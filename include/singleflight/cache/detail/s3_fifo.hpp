// SPDX-License-Identifier: Apache-2.0
#pragma once

// s3_fifo: which entry is evicted when the cache is over its capacity.
//
//   miss --> [ small ] -- hit there, or main is below its share --> [ main ] --> out: no hit since
//                | no hit                                            ^  |  ^       its last round
//                v                                                   |  v  |
//            ( ghost ) ----- used again soon enough -----------------'  '--' hit: one hit less, and
//                                                                            to the head
//
// A hit changes no queue and waits for no lock: it increments a counter of the entry that saturates
// at 3 (entry_base::touch). All else happens under the cache's lock, in O(1): an eviction passes at
// most `max_steps` entries.
//
// Q1  The small queue's share adapts. An entry that is used again within 5 % of the capacity after
//     a queue evicted it would have been a hit had that queue been 5 % longer: a vote for that
//     queue, worth the entry's weight. In balance one more entry gains either queue the same.
// Q2  The ghost's reach adapts. An entry that the ghost sends to main is on trial until main first
//     passes it: if it has no hit then, the reach shrinks by the entry's weight; with a hit, it
//     grows by three times that. So a loop longer than the cache, whose entries all return from the
//     ghost and none in time, cannot wash main out.
// Q3  Main fills freely while it is below its share (plain S3-FIFO never fills it under a cyclic
//     scan), and its hand moves on once in `aging_period` evictions from the small queue, so that
//     it does not permanently keep the entries of an earlier workload.
//
// Memory: two links and two bytes in the entry; 4 bytes per entry for the ghost, from the first
// eviction on.
//
// Sources: S3-FIFO (Yang et al., "FIFO Queues are All You Need for Cache Eviction", SOSP 2023): the
// three queues; CLOCK (Corbato, 1968): the second chance; ARC (Megiddo and Modha, FAST 2003): that
// ghosts show which queue is too short. What was measured, and rejected: docs/design/eviction.md.

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <utility>

#include "singleflight/cache/detail/entry.hpp"
#include "singleflight/core/support/zeroed_array.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

/// The recently evicted entries: a table of lines, each of fifteen ghosts and a hand: 16 bits of
/// the hash, the queue it was evicted from, and 15 bits of that queue's clock. The clock counts the
/// weight that the queue has evicted, in 2,048ths of the capacity, so that an age tells how much
/// longer the queue should have been; it wraps after 16 capacities, when the line has long been
/// overwritten. A false match (1 miss in 4,000) admits one entry to main early, no more.
class ghost_queue {
 public:
  enum class from : std::uint8_t { small, main };
  struct sighting {
    bool seen = false;
    from left{};
    std::uint64_t age = 0;  ///< in weight evicted by that queue since then
  };

  /// The unit of the clocks, in weight.
  void set_step(std::uint64_t step) noexcept { step_ = step; }

  /// Records an eviction; `entries` is how many are in the cache.
  void remember(std::uint32_t hash, from left, std::uint64_t weight, std::size_t entries) noexcept;
  /// Returns whether the entry is here, and how old it is; forgets it.
  sighting recall(std::uint32_t hash) noexcept;
  /// Places are overwritten in turn, the oldest first. A print of 0 is a free place.
  struct alignas(64) line {
    static constexpr std::size_t places = 15;
    static constexpr std::size_t hand_at = 15;  ///< the place after the last one stores the hand

    std::uint64_t prints[4];  // four per word
    std::uint16_t stamps[16];

    std::size_t hand() const noexcept { return stamps[hand_at]; }
    void set_print(std::size_t place, std::uint16_t print) noexcept {
      const auto shift = 16 * (place % 4);
      std::uint64_t& word = prints[place / 4];
      word = (word & ~(std::uint64_t{0xffff} << shift)) | std::uint64_t{print} << shift;
    }
    /// Returns its place, or `places` if it is not here.
    std::size_t find(std::uint16_t print) const noexcept {
      constexpr std::uint64_t ones = 0x0001000100010001U;
      for (std::size_t i = 0; i < 4; ++i) {
        const std::uint64_t x = prints[i] ^ (ones * print);
        const std::uint64_t hit = (x - ones) & ~x & (ones << 15);  // its lowest bit is exact
        if (hit != 0) {
          return i * 4 + static_cast<std::size_t>(std::countr_zero(hit)) / 16;
        }
      }
      return places;
    }
  };
  using memory = zeroed_array<line>;
  /// Forgets all; returns the memory, whose end takes time.
  memory let_go() noexcept { return std::exchange(lines_, memory()); }

 private:
  static constexpr std::uint16_t main_bit = 0x8000;
  static constexpr std::uint16_t time_mask = 0x7fff;

  struct clock {
    std::uint64_t rest = 0;
    std::uint16_t ticks = 0;
  };

  static std::uint16_t print_of(std::uint32_t hash) noexcept {
    return static_cast<std::uint16_t>(hash | 1);
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
  static constexpr std::uint8_t in_main_on_trial = 3;

  static constexpr int max_steps =
      16;  ///< entries passed in one eviction; then one is evicted, hit or not
  static constexpr int start_percent = 5;  ///< the small queue's share: at first, at least, at most
  static constexpr int min_percent = 1;
  static constexpr int max_percent = 90;
  static constexpr int reach_percent = 50;  ///< how long a ghost is good for main, at most,
  static constexpr int shadow_percent = 5;  ///< and how long it votes, in capacity evicted since
  static constexpr int trial_reward = 3;    ///< how much a passed trial adds to the reach
  static constexpr std::size_t trial_entries = 64;  ///< with fewer entries, trials prove nothing
  static constexpr std::uint32_t aging_period = 128;
  static constexpr std::uint64_t steps_per_capacity = 2048;

  struct queue {
    reclaimable* first = nullptr;  // the newest
    reclaimable* last = nullptr;
    std::uint64_t weight = 0;
  };

  std::uint64_t part(int percent) const noexcept {
    const auto p = static_cast<std::uint64_t>(percent);
    return std::max<std::uint64_t>(1, capacity_ / 100 * p + capacity_ % 100 * p / 100);
  }
  void start() noexcept;

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
  /// Main's second chance: one hit moves it back to the head. Returns false if it has none.
  bool pass(entry_base& e) noexcept;
  void end_trial(entry_base& e, bool passed) noexcept;

  const bool extras_;
  const std::uint64_t capacity_;
  std::uint64_t small_target_ = 0, small_min_ = 0, small_max_ = 0;
  std::uint64_t step_ = 1, shadow_ = 1, reach_ = 1, reach_max_ = 1;
  queue small_, main_;
  std::size_t count_ = 0;
  entry_base* newest_ = nullptr;
  std::uint32_t small_evictions_ = 0;
  ghost_queue ghosts_;
};

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE

#if !defined(SINGLEFLIGHT_COMPILED)
#include "singleflight/cache/impl/s3_fifo.hpp"
#endif
