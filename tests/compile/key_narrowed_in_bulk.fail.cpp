// SPDX-License-Identifier: Apache-2.0
// expect: singleflight: the argument is no key and does not become one without loss
#include <cstdint>
#include <span>
#include <vector>

#include <singleflight/flight.hpp>

singleflight::group<int, int> flights;
auto all = flights.run_many(std::vector<std::int64_t>{7}, [](std::span<const int>) {
  return std::vector<singleflight::outcome<int>>{1};
});
