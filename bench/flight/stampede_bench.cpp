// SPDX-License-Identifier: Apache-2.0

// Question   Requests arrive at random times, whether or not earlier ones are done; each has a
//            popular or an unpopular key, and a load takes 1 ms: how long does a request take, and
//            how many per second can be sustained?
// Baseline   bench/peers/go/stampede.go: a goroutine per request,
//            golang.org/x/sync/singleflight.Do, time.Sleep for the load; the same arrivals from the
//            same seed.
// Reading    Latency counts from when a request was due. completed: the share of the due requests
//            that was answered before arrivals ended; a rate is sustained when that is 0.99 or more
//            and p99 is 100 ms or less.

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <limits>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "bench/support/coroutines.hpp"
#include "bench/support/event_loop.hpp"
#include "bench/support/process.hpp"
#include "bench/support/workload.hpp"
#include "singleflight/flight.hpp"

namespace {

using namespace std::chrono_literals;
using bench::steady;
using group_type = singleflight::group<std::string, std::string_view>;

constexpr auto load_time = 1ms;
constexpr auto grace = 2s;                     // stragglers count as late, not as lost
constexpr std::int64_t latency_unit_ns = 100;  // 32 bits of it reach seven minutes
constexpr std::uint32_t unanswered = std::numeric_limits<std::uint32_t>::max();

bench::lazy<std::string_view> load(bench::event_loop& loop) {
  co_await bench::event_loop::sleep(loop, load_time);
  co_return "value:0123456789";
}

struct scene {
  group_type group{{.executor = singleflight::inline_executor}};
  std::vector<std::string> keys;
  bench::arrivals requests;
  std::vector<std::uint32_t> latency;  // per request; no two threads write to the same one
  steady::time_point begin;
  std::atomic<bool> over{false};

  std::int64_t elapsed_ns() const {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(steady::now() - begin).count();
  }
};

bench::detached request(scene& s, bench::event_loop& loop, std::size_t i) {
  auto flight =
      s.group.start(std::string_view(s.keys[s.requests.key[i]]), [&loop] { return load(loop); });
  const auto result = co_await flight;
  if (result->size() != 16) bench::fail("a request got a wrong answer");
  std::atomic_ref(s.latency[i])
      .store(static_cast<std::uint32_t>((s.elapsed_ns() - s.requests.due_ns[i]) / latency_unit_ns),
             std::memory_order_relaxed);
}

/// One of `loops` threads: starts each request of its share when it is due, and runs its loop.
void work(scene& s, std::size_t first, std::size_t loops) {
  // A burst is started in pieces, so that answers need not wait for all of it.
  constexpr int piece = 64;
  bench::event_loop loop;
  const auto& due = s.requests.due_ns;
  std::size_t next = first;
  while (!s.over.load(std::memory_order_acquire)) {
    bool busy = loop.turn();
    const std::int64_t now = s.elapsed_ns();
    for (int n = 0; n < piece && next < due.size() && due[next] <= now; ++n, next += loops) {
      request(s, loop, next);
      busy = true;
    }
    if (!busy) sched_yield();
  }
}

/// Returns once all requests have been answered, or the grace period is over.
void watch(scene& s, steady::duration window) {
  std::this_thread::sleep_until(s.begin + window);
  std::size_t open = s.latency.size();
  while (steady::now() < s.begin + window + grace) {
    while (open > 0 &&
           std::atomic_ref(s.latency[open - 1]).load(std::memory_order_relaxed) != unanswered) {
      --open;
    }
    if (open == 0) break;
    std::this_thread::sleep_for(10ms);
  }
  s.over.store(true, std::memory_order_release);
}

double quantile_ms(const std::vector<std::uint32_t>& sorted, double quantile) {
  const auto at = static_cast<std::size_t>(quantile * static_cast<double>(sorted.size() - 1));
  return static_cast<double>(sorted[at]) * static_cast<double>(latency_unit_ns) / 1e6;
}

}  // namespace

int main(int argc, char** argv) {
  const double rate = bench::argument(argc, argv, "rate", 100'000);
  const double seconds = bench::argument(argc, argv, "seconds", 5);
  const auto seed = static_cast<std::uint64_t>(bench::argument(argc, argv, "seed", 42));
  const auto loops = static_cast<std::size_t>(bench::argument(argc, argv, "loops", 1));
  if (!(rate > 0) || !(seconds > 0) || loops < 1)
    bench::fail("rate, seconds and loops are above 0");

  scene s;
  s.requests = bench::draw_arrivals(
      {.rate = rate, .seconds = seconds, .seed = seed, .keys = 10'000, .skew = 0.99});
  if (s.requests.due_ns.empty()) bench::fail("no request is due at this rate in this time");
  s.keys = bench::make_keys("key:", 10'000);
  s.latency.assign(s.requests.due_ns.size(), unanswered);  // this touches its pages, too

  s.begin = steady::now();
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < loops; ++i) threads.emplace_back(work, std::ref(s), i, loops);
  watch(s, std::chrono::duration_cast<steady::duration>(std::chrono::duration<double>(seconds)));
  for (std::thread& thread : threads) thread.join();

  std::size_t in_time = 0;
  for (std::size_t i = 0; i < s.latency.size(); ++i) {
    if (s.latency[i] == unanswered) continue;
    const std::int64_t answered = s.requests.due_ns[i] + s.latency[i] * latency_unit_ns;
    in_time += static_cast<double>(answered) <= seconds * 1e9 ? 1 : 0;
  }
  std::sort(s.latency.begin(), s.latency.end());
  bench::figures figures;
  const auto due = static_cast<double>(s.latency.size());
  figures.add("due", due);
  figures.add("completed", static_cast<double>(in_time) / due);
  figures.add("loads", static_cast<double>(s.group.stats().loads));
  figures.add("p50_ms", quantile_ms(s.latency, 0.50));
  figures.add("p99_ms", quantile_ms(s.latency, 0.99));
  figures.add("p999_ms", quantile_ms(s.latency, 0.999));
  figures.add("max_ms", quantile_ms(s.latency, 1));
  figures.print();
  // Requests that were never answered still exist and use the group: no destructor may run.
  std::fflush(stdout);
  std::_Exit(0);
}
