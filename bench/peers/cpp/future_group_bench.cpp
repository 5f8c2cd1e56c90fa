// SPDX-License-Identifier: Apache-2.0

// Question   What does a call cost with the usual mutex, unordered_map and shared_future?
// Baseline   This is one; bench/flight/group_bench.cpp measures ours under the same names.
// Reading    Nanoseconds of wall time per call, over all threads together.

#include <benchmark/benchmark.h>

#include <string>
#include <string_view>

#include "bench/peers/cpp/future_group.hpp"
#include "bench/support/call_cycle.hpp"
#include "bench/support/run_benchmarks.hpp"

namespace {

using group_type = bench::future_group<std::string_view>;

void cycle(benchmark::State& state, group_type& group, const std::vector<std::string>& keys) {
  bench::call_cycle(state, keys, [&group](const std::string& key) {
    benchmark::DoNotOptimize(group.run(key, bench::view_of_16_bytes{}));
  });
}

void alone(benchmark::State& state) {
  group_type group;
  cycle(state, group, bench::make_keys("key:", bench::distinct_keys));
}

void distinct(benchmark::State& state) {
  static group_type group;
  const char* const prefix = state.thread_index() == 0 ? "key:" : "kez:";
  cycle(state, group, bench::make_keys(prefix, bench::distinct_keys));
}

void hot(benchmark::State& state) {
  static group_type group;
  cycle(state, group, bench::make_keys("key:", 1));
}

BENCHMARK(alone);
BENCHMARK(distinct)->Threads(2)->UseRealTime();
BENCHMARK(hot)->Threads(2)->UseRealTime();

}  // namespace

int main(int argc, char** argv) { return bench::run_benchmarks(argc, argv); }
