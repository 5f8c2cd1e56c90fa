// SPDX-License-Identifier: Apache-2.0

// Question   10,000 coroutines get a hot key, before and after the moment at which it is old enough
//            to be refreshed; a load takes 1 ms. How many loads does that cause, and how many
//            callers wait?
// Baseline   None: one load, and no caller.
// Reading    loads: those after the first one. suspended: callers whose co_await did not continue
//            at once. Both are the worst of the repetitions. Two threads begin behind a barrier.

#include <algorithm>
#include <atomic>
#include <barrier>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <thread>

#include "bench/support/coroutines.hpp"
#include "bench/support/process.hpp"
#include "singleflight/cache/loading_cache.hpp"

namespace {

using namespace std::chrono_literals;
using bench::steady;

constexpr auto refresh_after = 100ms;
constexpr auto arrivals_take = 50ms;  // half of the callers arrive before the moment
constexpr auto load_time = 1ms;
constexpr std::size_t threads = 2;

struct scene {
  std::atomic<std::uint64_t> loads{0};
  std::atomic<std::size_t> answered{0};
  std::atomic<std::size_t> suspended{0};
  std::atomic<std::size_t> of_first_load{0};
  singleflight::loading_cache<int, std::uint64_t> cache{
      [this](const int&) {
        std::this_thread::sleep_for(load_time);
        return loads.fetch_add(1, std::memory_order_relaxed) + 1;
      },
      {.capacity = 10, .ttl = 1h, .jitter = 0, .refresh_after = refresh_after}};
};

// The caller that this thread has started and that has not returned to it. A coroutine that finds
// another one here was suspended by its co_await. Not inlined: a coroutine may change threads.
thread_local std::size_t called = SIZE_MAX;
[[gnu::noinline]] bool is_called(std::size_t caller) noexcept { return called == caller; }

bench::detached get(scene& s, std::size_t caller) {
  auto answer = s.cache.start_get(1);
  const auto value = co_await answer;
  if (!is_called(caller)) s.suspended.fetch_add(1, std::memory_order_relaxed);
  if (*value == 1) s.of_first_load.fetch_add(1, std::memory_order_relaxed);
  s.answered.fetch_add(1, std::memory_order_release);
}

struct counts {
  std::uint64_t loads;
  std::size_t suspended;
};

/// Returns false if the machine was so slow that the callers were not on both sides of the moment.
bool cross(std::size_t callers, counts& found) {
  scene s;
  if (*s.cache.get(1) != 1) bench::fail("the first load was not the first");
  const auto loaded = steady::now();
  const auto begin = loaded + refresh_after - arrivals_take / 2;
  const auto apart = std::chrono::nanoseconds(arrivals_take) / static_cast<std::int64_t>(callers);
  std::atomic<bool> late = false;
  std::barrier start(static_cast<std::ptrdiff_t>(threads));
  const auto work = [&](std::size_t first) {
    start.arrive_and_wait();
    for (std::size_t i = first; i < callers; i += threads) {
      const auto due = begin + apart * static_cast<std::int64_t>(i);
      while (steady::now() < due) {
      }
      called = i;
      get(s, i);
      called = SIZE_MAX;
    }
    if (steady::now() > loaded + refresh_after + refresh_after / 2) late = true;
  };
  {
    std::jthread other(work, std::size_t{1});
    work(0);
  }
  while (s.answered.load(std::memory_order_acquire) != callers) std::this_thread::sleep_for(1ms);
  std::this_thread::sleep_for(10 * load_time);  // for a load in progress
  const std::size_t before = s.of_first_load.load();
  if (late || before == 0 || before == callers) return false;
  found.loads = std::max(found.loads, s.loads.load() - 1);
  found.suspended = std::max(found.suspended, s.suspended.load());
  return true;
}

}  // namespace

int main(int argc, char** argv) {
  const auto callers = static_cast<std::size_t>(bench::argument(argc, argv, "callers", 10'000));
  const auto repetitions = static_cast<int>(bench::argument(argc, argv, "repetitions", 5));
  counts found{0, 0};
  int tries = 10 * repetitions;
  for (int done = 0; done < repetitions;) {
    if (tries-- == 0) bench::fail("the callers were never on both sides of the moment");
    if (cross(callers, found)) ++done;
  }
  bench::figures figures;
  figures.add("loads", static_cast<double>(found.loads));
  figures.add("suspended", static_cast<double>(found.suspended));
  figures.print();
  return 0;
}
