// SPDX-License-Identifier: Apache-2.0
#pragma once

// The Google Benchmark body that calls a group in a loop; ours and the peer's share it.

#include <benchmark/benchmark.h>

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "bench/support/workload.hpp"
#include "support/allocation_count.hpp"

namespace bench {

/// The no-op load: returns a view of 16 bytes in static storage.
struct view_of_16_bytes {
  std::string_view operator()() const noexcept {
    std::string_view value = "value:0123456789";
    benchmark::DoNotOptimize(value);  // a compiler cannot know a load's answer
    return value;
  }
};

/// Threads of one benchmark share `group`; each cycles over `keys`, a power of two of them.
/// Google Benchmark starts the threads behind a barrier. Reports allocations per call.
template <class Call>
void call_cycle(benchmark::State& state, const std::vector<std::string>& keys, Call&& call) {
  const std::size_t mask = keys.size() - 1;
  std::size_t i = 0;
  for (; i < keys.size(); ++i) call(keys[i & mask]);  // warm-up: per-thread state, table pages
  const std::size_t allocations_before = support::allocations_of_this_thread();
  for (auto _ : state) call(keys[i++ & mask]);
  state.counters["allocations"] = benchmark::Counter(
      static_cast<double>(support::allocations_of_this_thread() - allocations_before),
      benchmark::Counter::kAvgIterations);
}

}  // namespace bench
