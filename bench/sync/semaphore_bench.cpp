// SPDX-License-Identifier: Apache-2.0

// Question   What do acquire and release cost together while permits are available?
// Baseline   golang.org/x/sync/semaphore.Weighted, Acquire and Release.
// Reading    Nanoseconds per pair on one thread (alone), and of wall time per pair over two threads
//            that never run out of permits (two_threads); allocations per pair.

#include <benchmark/benchmark.h>

#include "bench/support/run_benchmarks.hpp"
#include "singleflight/sync/semaphore.hpp"
#include "support/allocation_count.hpp"

namespace {

void pairs(benchmark::State& state, singleflight::semaphore& all) {
  const std::size_t before = support::allocations_of_this_thread();
  for (auto _ : state) {
    const singleflight::permit mine = all.acquire();
    benchmark::DoNotOptimize(mine.size());
  }
  state.counters["allocations"] =
      benchmark::Counter(static_cast<double>(support::allocations_of_this_thread() - before),
                         benchmark::Counter::kAvgIterations);
}

void alone(benchmark::State& state) {
  singleflight::semaphore all(10);
  pairs(state, all);
}
void two_threads(benchmark::State& state) {
  static singleflight::semaphore all(10);
  pairs(state, all);
}

BENCHMARK(alone);
BENCHMARK(two_threads)->Threads(2)->UseRealTime();

}  // namespace

int main(int argc, char** argv) { return bench::run_benchmarks(argc, argv); }
