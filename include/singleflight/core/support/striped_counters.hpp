// SPDX-License-Identifier: Apache-2.0
#pragma once

// striped_counters: counters in per-thread stripes, so that counting costs a load and a store.
//
// A stripe is written only by the thread that owns its index, and read by stats(). It is made when
// that thread counts for the first time, so that counters that few threads use are small. Threads
// without an index of their own, or without memory, share one stripe, with read-modify-writes.

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>

#include "singleflight/core/support/thread_state.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

class striped_counters {
 public:
  striped_counters() noexcept = default;
  striped_counters(const striped_counters&) = delete;
  striped_counters& operator=(const striped_counters&) = delete;
  ~striped_counters();

  static constexpr std::size_t most = 16;

  /// `which` is an enumerator of the owner's, below `most`.
  template <class Counter>
  void add(Counter which, std::uint64_t n = 1) noexcept {
    const std::uint32_t index = this_thread().index;
    // Relaxed: made by this thread, or by one that had this index before.
    stripe* const own = index < single ? chunks_[index].load(memory_order_relaxed) : nullptr;
    if (own != nullptr) [[likely]] {
      bump(own->counters[static_cast<std::size_t>(which)], n);
    } else {
      add_at(static_cast<std::size_t>(which), n);
    }
  }
  std::array<std::uint64_t, most> totals() const noexcept;

 private:
  static constexpr std::uint32_t single = 8;
  struct alignas(64) stripe {
    std::array<atomic<std::uint64_t>, most> counters{};
  };
  using cell = atomic<std::uint64_t>;

  static void bump(cell& c, std::uint64_t n) noexcept {
    c.store(c.load(memory_order_relaxed) + n, memory_order_relaxed);
  }
  // Each of the first eight chunks has the stripe of one index; the c-th of the others has those of
  // the indexes [8 << c, 16 << c).
  static constexpr std::size_t chunk_of(std::uint32_t index) noexcept {
    return index < single
               ? index
               : single + static_cast<std::size_t>(std::bit_width(index) - std::bit_width(single));
  }
  static constexpr std::size_t chunk_size(std::size_t c) noexcept {
    return c < single ? 1 : std::size_t{single} << (c - single);
  }

  void add_at(std::size_t which, std::uint64_t n) noexcept;
  stripe* make_chunk(std::size_t c) noexcept;

  std::array<cell, most> shared_{};
  std::array<atomic<stripe*>, single + 9> chunks_{};  // up to index 4,095
};

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE

#if !defined(SINGLEFLIGHT_COMPILED)
#include "singleflight/core/impl/striped_counters.hpp"
#endif
