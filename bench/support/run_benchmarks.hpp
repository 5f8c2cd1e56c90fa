// SPDX-License-Identifier: Apache-2.0
#pragma once

// What main() is where Google Benchmark times the calls.

#include <benchmark/benchmark.h>

#include "bench/support/process.hpp"

namespace bench {

/// Runs what BENCHMARK has named, beside an idle thread; returns what main() does.
inline int run_benchmarks(int argc, char** argv) {
  const idle_thread other;
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}

}  // namespace bench
