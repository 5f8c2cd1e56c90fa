// SPDX-License-Identifier: Apache-2.0

// Question   Ten thousand coroutines wait for a permit each; how long after one release that admits
//            them all does the last one have its permit?
// Baseline   As many goroutines blocked in golang.org/x/sync/semaphore.Weighted.Acquire.
// Reading    Nanoseconds per waiter; the median of many turns in one process. Each waiter returns
//            its permit as soon as it has it, on our side as on Go's.

#include <algorithm>
#include <vector>

#include "bench/support/coroutines.hpp"
#include "bench/support/process.hpp"
#include "singleflight/sync/semaphore.hpp"

namespace {

struct scene {
  explicit scene(std::size_t count)
      : waiters(count),
        all(static_cast<std::ptrdiff_t>(count), {.executor = singleflight::inline_executor}) {}
  std::size_t waiters;
  singleflight::semaphore all;
  std::size_t admitted = 0;
  bench::steady::time_point last;
};

bench::detached wait(scene& s) {
  auto place = s.all.start_acquire();
  const singleflight::permit mine = co_await place;
  if (++s.admitted == s.waiters) s.last = bench::steady::now();
}

}  // namespace

int main(int argc, char** argv) {
  const bench::idle_thread other;
  const auto waiters = static_cast<std::size_t>(bench::argument(argc, argv, "waiters", 10'000));
  const auto turns = static_cast<std::size_t>(bench::argument(argc, argv, "turns", 51));
  std::vector<double> found;
  for (std::size_t turn = 0; turn < turns; ++turn) {
    scene s(waiters);
    singleflight::permit held = s.all.acquire(static_cast<std::ptrdiff_t>(waiters));
    for (std::size_t i = 0; i < waiters; ++i) wait(s);
    if (s.admitted != 0) bench::fail("a waiter did not wait");
    const auto begin = bench::steady::now();
    held.release();
    if (s.admitted != waiters) bench::fail("not every waiter was admitted");
    found.push_back(bench::nanoseconds(s.last - begin) / static_cast<double>(waiters));
  }
  const auto middle = found.begin() + static_cast<std::ptrdiff_t>(found.size() / 2);
  std::nth_element(found.begin(), middle, found.end());
  bench::figures figures;
  figures.add("wake_ns", *middle);
  figures.print();
  return 0;
}
