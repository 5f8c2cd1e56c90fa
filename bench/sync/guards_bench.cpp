// SPDX-License-Identifier: Apache-2.0

// Question   What do retry and circuit_breaker add to a call that succeeds at once? What does the
//            breaker add when two threads call at the same time (shared), when it looks for slow
//            calls (timed), and when it is open (rejected)?
// Baseline   The bare call of the same function, which is not inlined anywhere.
// Reading    Nanoseconds of wall time per call; the overhead is the difference to `bare`.
//            Allocations per call.

#include <benchmark/benchmark.h>

#include <chrono>

#include "bench/support/run_benchmarks.hpp"
#include "singleflight/sync.hpp"
#include "support/allocation_count.hpp"

namespace {

using namespace std::chrono_literals;

[[gnu::noinline]] int backend() {
  int answer = 5;
  benchmark::DoNotOptimize(answer);
  return answer;
}

template <class Call>
void calls(benchmark::State& state, Call&& call) {
  for (int i = 0; i < 1000; ++i) call();  // warm-up: per-thread state, the ticking clock
  const std::size_t allocations_before = support::allocations_of_this_thread();
  for (auto _ : state) call();
  state.counters["allocations"] = benchmark::Counter(
      static_cast<double>(support::allocations_of_this_thread() - allocations_before),
      benchmark::Counter::kAvgIterations);
}

void bare(benchmark::State& state) {
  calls(state, [] { benchmark::DoNotOptimize(backend()); });
}

void through(benchmark::State& state, singleflight::circuit_breaker& breaker) {
  calls(state, [&breaker] { benchmark::DoNotOptimize(breaker.call(backend)); });
}
void breaker(benchmark::State& state) {
  singleflight::circuit_breaker closed;
  through(state, closed);
}
void breaker_timed(benchmark::State& state) {
  singleflight::circuit_breaker closed({.slow_call_rate = 0.5, .slow_call = 1s});
  through(state, closed);
}
void breaker_shared(benchmark::State& state) {
  static singleflight::circuit_breaker closed;
  through(state, closed);
}
void breaker_rejected(benchmark::State& state) {
  singleflight::circuit_breaker open({.open_for = 1h});
  open.force_open();
  calls(state, [&open] {
    benchmark::DoNotOptimize(open.call(singleflight::as_outcome, backend).has_value());
  });
}

void retry(benchmark::State& state) {
  singleflight::retry_policy policy;
  benchmark::DoNotOptimize(policy);  // hides its values from the optimiser
  calls(state, [&policy] { benchmark::DoNotOptimize(singleflight::retry(policy, backend)); });
}

BENCHMARK(bare);
BENCHMARK(breaker);
BENCHMARK(breaker_timed);
BENCHMARK(breaker_shared)->Threads(2)->UseRealTime();
BENCHMARK(breaker_rejected);
BENCHMARK(retry);

}  // namespace

int main(int argc, char** argv) { return bench::run_benchmarks(argc, argv); }
