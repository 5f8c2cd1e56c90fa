// SPDX-License-Identifier: Apache-2.0
#pragma once

// striped_counters: counters in per-thread stripes, so that counting costs a load and a store.
//
// A stripe is written only by the thread that owns its index, and read by stats(). Threads without
// an index of their own share the last stripe, with read-modify-writes.

#include <array>
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
    if (index < inline_stripes) [[likely]] {
      bump(stripes_[index].counters[static_cast<std::size_t>(which)], n);
    } else {
      add_at(static_cast<std::size_t>(which), n);
    }
  }
  std::array<std::uint64_t, most> totals() const noexcept;

 private:
  static constexpr std::uint32_t inline_stripes = 8;
  struct alignas(64) stripe {
    std::array<atomic<std::uint64_t>, most> counters{};
  };
  using cell = atomic<std::uint64_t>;

  static void bump(cell& c, std::uint64_t n) noexcept {
    c.store(c.load(memory_order_relaxed) + n, memory_order_relaxed);
  }
  // Chunk c holds the stripes of the indexes [8 << c, 16 << c).
  static constexpr std::size_t chunk_size(std::size_t c) noexcept { return inline_stripes << c; }

  void add_at(std::size_t which, std::uint64_t n) noexcept;
  stripe* make_chunk(std::size_t c) noexcept;

  stripe stripes_[inline_stripes];
  stripe shared_;
  std::array<atomic<stripe*>, 9> chunks_{};  // up to index 4,095
};

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE

#if !defined(SINGLEFLIGHT_COMPILED)
#include "singleflight/core/impl/striped_counters.hpp"
#endif
