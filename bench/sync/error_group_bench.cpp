// SPDX-License-Identifier: Apache-2.0

// Question   What does a task of a group cost that does nothing: submitted by one thread, run by a
//            pool of two workers and by the thread that waits at the end?
// Baseline   golang.org/x/sync/errgroup with GOMAXPROCS=2; with --limit=64, its SetLimit(64).
// Reading    Nanoseconds of wall time per task, from the first go to the return of the wait; the
//            median of the repetitions. Allocations are those of the submitting thread: the others
//            make none.

#include <algorithm>
#include <cstddef>
#include <vector>

#include "bench/support/process.hpp"
#include "singleflight/sync.hpp"
#include "support/allocation_count.hpp"

int main(int argc, char** argv) {
  const auto tasks = static_cast<int>(bench::argument(argc, argv, "tasks", 1'000'000));
  const auto limit = static_cast<std::size_t>(bench::argument(argc, argv, "limit", 0));
  const auto repetitions = static_cast<int>(bench::argument(argc, argv, "repetitions", 5));

  singleflight::thread_pool pool({.max_threads = 2});
  singleflight::error_group group(
      {.executor = pool,
       .limit = limit != 0 ? limit : singleflight::error_group_options::no_limit});
  std::vector<double> took;
  std::size_t allocations = 0;
  for (int i = 0; i <= repetitions; ++i) {
    const std::size_t before = support::allocations_of_this_thread();
    const auto begin = bench::steady::now();
    for (int task = 0; task < tasks; ++task) group.go([] {});
    group.wait();
    const auto end = bench::steady::now();
    allocations = support::allocations_of_this_thread() - before;
    if (i > 0) took.push_back(bench::nanoseconds(end - begin) / tasks);  // the first one warms up
  }
  if (group.skipped() != 0) bench::fail("a task was skipped");
  std::sort(took.begin(), took.end());

  bench::figures figures;
  figures.add("task_ns", took.at(took.size() / 2));
  figures.add("allocations", static_cast<double>(allocations) / tasks);
  figures.print();
  return 0;
}
