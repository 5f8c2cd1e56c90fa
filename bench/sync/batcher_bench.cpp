// SPDX-License-Identifier: Apache-2.0

// Question   A thousand coroutines load a key each, all at once, through a batcher with a window of
//            100 microseconds; a call of the backend takes 1 ms. How many calls does the backend
//            get, and how much longer than such a call does a caller wait for its answer?
// Baseline   None: without a batcher, 1,000 calls and no added time. The targets are 20 calls, and
//            the window and 1 ms at p99.
// Reading    calls: backend calls for 1,000 callers, the mean over the rounds. added_p99_ms: from a
//            caller's own call to its next line, less 1 ms, over all callers of all rounds; the
//            overshoot of the backend's sleep is included. Callers resume on the answering thread.

#include <algorithm>
#include <atomic>
#include <barrier>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>
#include <thread>
#include <vector>

#include "bench/support/coroutines.hpp"
#include "bench/support/process.hpp"
#include "singleflight/sync/batcher.hpp"

namespace {

using namespace std::chrono_literals;
using bench::steady;
using batcher_type = singleflight::batcher<int, int>;

constexpr auto backend_time = 1ms;
constexpr auto window = 100us;
constexpr std::size_t threads = 2;

std::vector<singleflight::outcome<int>> backend(std::span<const int> keys) {
  std::this_thread::sleep_for(backend_time);
  std::vector<singleflight::outcome<int>> values;
  values.reserve(keys.size());
  for (const int key : keys) values.emplace_back(key + 1);
  return values;
}

struct scene {
  explicit scene(std::size_t callers) : latency(callers) {}
  singleflight::thread_pool pool{{.max_threads = threads}};
  batcher_type batcher{&backend, {.max_batch = 1'000, .max_delay = window, .executor = pool}};
  std::vector<steady::duration> latency;  // of each caller, in this round
  std::atomic<std::size_t> answered{0};
};

bench::detached call(scene& s, std::size_t caller) {
  const int key = static_cast<int>(caller);
  const auto begin = steady::now();
  auto answer = s.batcher.start(key);
  if (*co_await answer.on(singleflight::inline_executor) != key + 1)
    bench::fail("a caller got a wrong answer");
  s.latency[caller] = steady::now() - begin;
  s.answered.fetch_add(1, std::memory_order_release);
}

}  // namespace

int main(int argc, char** argv) {
  const auto callers = static_cast<std::size_t>(bench::argument(argc, argv, "callers", 1'000));
  const auto rounds = static_cast<std::size_t>(bench::argument(argc, argv, "rounds", 300));
  constexpr std::size_t warm_up = 10;

  scene s(callers);
  std::vector<double> added;
  added.reserve(callers * rounds);
  std::uint64_t calls_before = 0;
  std::size_t round = 0;
  const auto next_round = [&]() noexcept {
    while (s.answered.load(std::memory_order_acquire) != callers) {
      std::this_thread::sleep_for(100us);
    }
    s.answered.store(0, std::memory_order_relaxed);
    if (++round == warm_up) calls_before = s.batcher.stats().batches;
    if (round <= warm_up) return;
    for (const auto each : s.latency) {
      added.push_back((bench::nanoseconds(each) - bench::nanoseconds(backend_time)) / 1e6);
    }
  };
  std::barrier released(static_cast<std::ptrdiff_t>(threads));
  std::barrier done(static_cast<std::ptrdiff_t>(threads), next_round);
  const auto work = [&](std::size_t first) {
    for (std::size_t i = 0; i < warm_up + rounds; ++i) {
      released.arrive_and_wait();
      for (std::size_t caller = first; caller < callers; caller += threads) call(s, caller);
      done.arrive_and_wait();
    }
  };
  {
    std::jthread other(work, std::size_t{1});
    work(0);
  }

  const auto batches = static_cast<double>(s.batcher.stats().batches - calls_before);
  const auto p99 = added.begin() + static_cast<std::ptrdiff_t>(added.size() * 99 / 100);
  std::nth_element(added.begin(), p99, added.end());
  bench::figures figures;
  figures.add("calls",
              batches / static_cast<double>(rounds) * 1'000 / static_cast<double>(callers));
  figures.add("added_p99_ms", *p99);
  figures.print();
  return 0;
}
