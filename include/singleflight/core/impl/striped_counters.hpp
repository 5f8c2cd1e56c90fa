// SPDX-License-Identifier: Apache-2.0
#pragma once

// striped_counters: the totals, and how stripes are made.

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <new>

#include "singleflight/core/support/striped_counters.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

SINGLEFLIGHT_BODY striped_counters::~striped_counters() {
  for (auto& chunk : chunks_) delete[] chunk.load(memory_order_relaxed);
}

SINGLEFLIGHT_BODY std::array<std::uint64_t, striped_counters::most> striped_counters::totals()
    const noexcept {
  std::array<std::uint64_t, most> sum{};
  const auto take = [&sum](const std::array<cell, most>& counters) {
    for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += counters[i].load(memory_order_relaxed);
  };
  take(shared_);
  for (std::size_t c = 0; c < chunks_.size(); ++c) {
    if (const stripe* chunk =
            chunks_[c].load(platform::order(rule::stripes_acquire, memory_order_acquire))) {
      for (std::size_t i = 0; i < chunk_size(c); ++i) take(chunk[i].counters);
    }
  }
  return sum;
}

SINGLEFLIGHT_NOINLINE SINGLEFLIGHT_BODY void striped_counters::add_at(std::size_t which,
                                                                      std::uint64_t n) noexcept {
  const std::uint32_t index = thread_index(this_thread());
  const std::size_t c = chunk_of(index);
  if (c < chunks_.size()) {
    stripe* chunk = chunks_[c].load(platform::order(rule::stripes_acquire, memory_order_acquire));
    if (chunk == nullptr) chunk = make_chunk(c);
    if (chunk != nullptr) return bump(chunk[index & (chunk_size(c) - 1)].counters[which], n);
  }
  shared_[which].fetch_add(n, memory_order_relaxed);
}

SINGLEFLIGHT_COLD SINGLEFLIGHT_BODY striped_counters::stripe* striped_counters::make_chunk(
    std::size_t c) noexcept {
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

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE
