// SPDX-License-Identifier: Apache-2.0

// Question   What does a call cost that no other call shares (alone, distinct), and when two
//            threads call with the same key all the time (hot)? What does start + co_await cost
//            when the load is a coroutine (awaited), and when it is an awaitable without a frame
//            (awaited_in_place)?
// Baseline   The same calls of golang.org/x/sync/singleflight.Do and of the usual mutex,
//            unordered_map and shared_future.
// Reading    Nanoseconds of wall time per call, over all threads together; allocations and loads
//            per call. A hot call that joined ran no load.

#include <benchmark/benchmark.h>

#include <array>
#include <coroutine>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "bench/support/call_cycle.hpp"
#include "bench/support/coroutines.hpp"
#include "bench/support/run_benchmarks.hpp"
#include "singleflight/flight.hpp"

namespace {

using group_type = singleflight::group<std::string, std::string_view>;

void report_loads(benchmark::State& state, const group_type& group) {
  if (state.thread_index() != 0) return;
  const singleflight::group_stats stats = group.stats();
  state.counters["loads"] = static_cast<double>(stats.loads) / static_cast<double>(stats.calls);
}

void cycle(benchmark::State& state, group_type& group, const std::vector<std::string>& keys) {
  bench::call_cycle(state, keys, [&group](const std::string& key) {
    benchmark::DoNotOptimize(*group.run(key, bench::view_of_16_bytes{}));
  });
  report_loads(state, group);
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

bench::lazy<std::string_view> load_in_coroutine() { co_return bench::view_of_16_bytes{}(); }

/// The smallest awaitable: it is always ready.
struct ready_view {
  bool await_ready() const noexcept { return true; }
  void await_suspend(std::coroutine_handle<>) const noexcept {}
  std::string_view await_resume() const noexcept { return bench::view_of_16_bytes{}(); }
};
ready_view load_in_place() { return {}; }

/// Makes passes over all keys. The address of a flight changes its cost by a sixth, and freed
/// memory is reused: the last few flights are held, so that each pass gets another address.
template <class Load>
bench::detached await_in_turn(benchmark::State& state, group_type& group,
                              const std::vector<std::string>& keys, Load load, bool& done) {
  std::array<std::optional<singleflight::flight<std::string_view>>, 16> held;
  std::size_t pass = 0;
  const std::size_t allocations_before = support::allocations_of_this_thread();
  while (state.KeepRunningBatch(static_cast<benchmark::IterationCount>(keys.size()))) {
    held[pass++ % held.size()] = group.start(keys.front(), load);
    for (const std::string& key : keys) {
      auto flight = group.start(key, load);
      auto result = co_await flight;
      benchmark::DoNotOptimize(*result);
    }
  }
  state.counters["allocations"] = benchmark::Counter(
      static_cast<double>(support::allocations_of_this_thread() - allocations_before),
      benchmark::Counter::kAvgIterations);
  done = true;
}

template <class Load>
void await_alone(benchmark::State& state, Load load) {
  group_type group({.executor = singleflight::inline_executor});
  const auto keys = bench::make_keys("key:", bench::distinct_keys);
  bool done = false;
  await_in_turn(state, group, keys, load, done);
  if (!done) state.SkipWithError("an awaited call did not resume on its own thread");
  report_loads(state, group);
}

void awaited(benchmark::State& state) { await_alone(state, &load_in_coroutine); }
void awaited_in_place(benchmark::State& state) { await_alone(state, &load_in_place); }

BENCHMARK(alone);
BENCHMARK(distinct)->Threads(2)->UseRealTime();
BENCHMARK(hot)->Threads(2)->UseRealTime();
BENCHMARK(awaited);
BENCHMARK(awaited_in_place);

}  // namespace

int main(int argc, char** argv) { return bench::run_benchmarks(argc, argv); }
