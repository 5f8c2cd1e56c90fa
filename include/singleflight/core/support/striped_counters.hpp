// SPDX-License-Identifier: Apache-2.0
#pragma once

// striped_counters: counters in per-thread stripes, so that counting costs a load and a store.
//
// A stripe is written by the one thread that owns its index, and read by stats(). Threads beyond
// the indexes share the last stripe with read-modify-writes.

#include <array>
#include <bit>
#include <cstdint>
#include <new>

#include "singleflight/core/support/thread_state.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

class striped_counters {
 public:
  striped_counters() noexcept = default;
  striped_counters(const striped_counters&) = delete;
  striped_counters& operator=(const striped_counters&) = delete;
  ~striped_counters() {
    for (auto& chunk : chunks_) delete[] chunk.load(memory_order_relaxed);
  }

  static constexpr std::size_t most = 16;

  /// `what`: whatever its owner counts, as a number below `most`.
  template <class Figure>
  void add(Figure what, std::uint64_t n = 1) noexcept {
    const std::uint32_t index = this_thread().index;
    if (index < inline_stripes) [[likely]] {
      bump(stripes_[index].figures[static_cast<std::size_t>(what)], n);
    } else {
      add_at(static_cast<std::size_t>(what), n);
    }
  }
  std::array<std::uint64_t, most> totals() const noexcept {
    std::array<std::uint64_t, most> sum{};
    const auto take = [&sum](const stripe& s) {
      for (std::size_t i = 0; i < sum.size(); ++i)
        sum[i] += s.figures[i].load(memory_order_relaxed);
    };
    for (const stripe& s : stripes_) take(s);
    take(shared_);
    for (std::size_t c = 0; c < chunks_.size(); ++c) {
      if (const stripe* chunk =
              chunks_[c].load(platform::order(rule::stripes_acquire, memory_order_acquire))) {
        for (std::size_t i = 0; i < chunk_size(c); ++i) take(chunk[i]);
      }
    }
    return sum;
  }

 private:
  static constexpr std::uint32_t inline_stripes = 8;
  struct alignas(64) stripe {
    std::array<atomic<std::uint64_t>, most> figures{};
  };
  using cell = atomic<std::uint64_t>;

  static void bump(cell& c, std::uint64_t n) noexcept {
    c.store(c.load(memory_order_relaxed) + n, memory_order_relaxed);
  }
  // Chunk c holds the stripes of indexes [8 << c, 16 << c).
  static constexpr std::size_t chunk_size(std::size_t c) noexcept { return inline_stripes << c; }

  SINGLEFLIGHT_NOINLINE void add_at(std::size_t what, std::uint64_t n) noexcept {
    const std::uint32_t index = thread_index(this_thread());
    if (index < inline_stripes) return bump(stripes_[index].figures[what], n);
    const auto c = static_cast<std::size_t>(std::bit_width(index) - std::bit_width(inline_stripes));
    if (c < chunks_.size()) {
      stripe* chunk = chunks_[c].load(platform::order(rule::stripes_acquire, memory_order_acquire));
      if (chunk == nullptr) chunk = make_chunk(c);
      if (chunk != nullptr) return bump(chunk[index - chunk_size(c)].figures[what], n);
    }
    shared_.figures[what].fetch_add(n, memory_order_relaxed);
  }
  SINGLEFLIGHT_COLD stripe* make_chunk(std::size_t c) noexcept {
    auto* const fresh = new (std::nothrow) stripe[chunk_size(c)];
    stripe* present = nullptr;
    if (fresh != nullptr &&
        !chunks_[c].compare_exchange_strong(
            present, fresh, platform::order(rule::stripes_release, memory_order_acq_rel),
            platform::order(rule::stripes_acquire, memory_order_acquire))) {
      delete[] fresh;
      return present;
    }
    return fresh;
  }

  stripe stripes_[inline_stripes];
  stripe shared_;
  std::array<atomic<stripe*>, 9> chunks_{};  // up to index 4,095
};

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE
