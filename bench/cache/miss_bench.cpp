// SPDX-License-Identifier: Apache-2.0

// Question   What does a miss cost whose load does nothing: to load, store and evict?
// Baseline   Caffeine's LoadingCache.get.
// Reading    Nanoseconds and allocations per call; the cache is full (10,000 entries), and every
//            key is new.

#include <benchmark/benchmark.h>

#include <cstddef>
#include <cstdint>

#include "bench/support/run_benchmarks.hpp"
#include "singleflight/cache/loading_cache.hpp"
#include "support/allocation_count.hpp"

namespace {

constexpr std::size_t capacity = 10'000;

void miss(benchmark::State& state) {
  singleflight::loading_cache<std::uint64_t, std::uint64_t> cache(
      [](const std::uint64_t& key) { return key; }, {.capacity = capacity});
  std::uint64_t next = 0;
  while (next < 10 * capacity) cache.get(next++);
  const std::uint64_t misses_before = cache.stats().misses;
  const std::size_t allocations_before = support::allocations_of_this_thread();
  for (auto _ : state) benchmark::DoNotOptimize(*cache.get(next++));
  state.counters["allocations"] = benchmark::Counter(
      static_cast<double>(support::allocations_of_this_thread() - allocations_before),
      benchmark::Counter::kAvgIterations);
  const singleflight::cache_stats stats = cache.stats();
  const auto calls = static_cast<std::uint64_t>(state.iterations());
  if (stats.misses - misses_before != calls) state.SkipWithError("a miss was a hit");
  if (stats.entries > capacity) state.SkipWithError("the cache holds more than it may");
}

BENCHMARK(miss);

}  // namespace

int main(int argc, char** argv) { return bench::run_benchmarks(argc, argv); }
