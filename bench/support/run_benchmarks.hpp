// SPDX-License-Identifier: Apache-2.0
#pragma once

// The body of main() in programs whose calls are timed by Google Benchmark.

#include <benchmark/benchmark.h>

#include "bench/support/process.hpp"

namespace bench {

/// Runs the registered benchmarks while a second thread is idle; returns main()'s exit code.
inline int run_benchmarks(int argc, char** argv) {
  const idle_thread other;
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}

}  // namespace bench
