// SPDX-License-Identifier: Apache-2.0

// Question   How many instructions does a call of run take that no other call shares?
// Baseline   None: the number is compared with that of earlier commits; tests/counts bounds it.
// Reading    Under callgrind, once with few and once with many calls; the difference counts the
//            calls alone.

#include <string>
#include <string_view>

#include "bench/support/figures.hpp"
#include "bench/support/process.hpp"
#include "bench/support/workload.hpp"
#include "singleflight/flight.hpp"

int main(int argc, char** argv) {
  const bench::idle_thread other;
  const auto calls = static_cast<std::size_t>(bench::argument(argc, argv, "calls", 10'000));
  const auto keys = bench::make_keys("key:", bench::distinct_keys);
  singleflight::group<std::string, std::string_view> group;
  std::size_t bytes = 0;
  for (std::size_t i = 0; i < calls; ++i) {
    bytes += group
                 .run(keys[i % bench::distinct_keys],
                      [] { return std::string_view("value:0123456789"); })
                 ->size();
  }
  if (bytes != calls * 16) bench::fail("a load was lost");
  return 0;
}
