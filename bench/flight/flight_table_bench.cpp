// SPDX-License-Identifier: Apache-2.0

// Question   How long do single calls of start take as a group gets to a million flights, and how
//            long does it take to close it?
// Baseline   The worst gap between two looks at the clock in a loop that does nothing else, in the
//            same process, for as long.
// Reading    start_ns: the mean; worst_start_ms: the longest; worst_gap_ms: the baseline. close_ms:
//            close with all of these flights; close_tenth_ms: with a tenth of them. The executor
//            keeps the tasks; flights, tasks and handles have their memory from the beginning.

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "bench/support/figures.hpp"
#include "bench/support/pauses.hpp"
#include "singleflight/flight/group.hpp"

namespace {

using bench::clock_type;
using bench::ms_between;
using bench::ms_since;
using group_type = singleflight::group<std::uint64_t, std::uint64_t>;

/// Keeps its tasks; one thread.
struct keeper {
  std::vector<singleflight::task>* tasks;
  void execute(singleflight::task work) const { tasks->push_back(std::move(work)); }
};

struct costs {
  double mean_ns = 0;
  double worst_ms = 0;
  double close_ms = 0;
};

costs start_and_close(std::size_t flights) {
  costs found;
  std::vector<singleflight::task> tasks;
  std::vector<singleflight::flight<std::uint64_t>> handles;
  tasks.resize(flights);  // touches the pages
  tasks.clear();
  handles.reserve(flights);
  group_type all({.executor = keeper{&tasks}});
  const auto begin = clock_type::now();
  auto before = begin;
  for (std::uint64_t key = 0; key < flights; ++key) {
    handles.push_back(all.start(key, [key] { return key; }));
    const auto now = clock_type::now();
    found.worst_ms = std::max(found.worst_ms, ms_between(before, now));
    before = now;
  }
  found.mean_ns = ms_since(begin) * 1e6 / static_cast<double>(flights);
  if (tasks.size() != flights) bench::fail("not every flight is in the group");
  const auto closing = clock_type::now();
  all.close();
  found.close_ms = ms_since(closing);
  return found;
}

}  // namespace

int main(int argc, char** argv) {
  const auto flights = static_cast<std::size_t>(bench::argument(argc, argv, "flights", 1'000'000));
  const costs many = start_and_close(flights);
  bench::figures figures;
  figures.add("start_ns", many.mean_ns);
  figures.add("worst_start_ms", many.worst_ms);
  figures.add("worst_gap_ms",
              bench::worst_gap_ms(many.mean_ns * static_cast<double>(flights) / 1e6));
  figures.add("close_ms", many.close_ms);
  figures.add("close_tenth_ms", start_and_close(flights / 10).close_ms);
  figures.print();
  return 0;
}
