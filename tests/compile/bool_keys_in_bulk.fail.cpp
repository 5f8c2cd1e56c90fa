// SPDX-License-Identifier: Apache-2.0
// expect: singleflight: keys come to a loader of many as a std::span
#include <span>
#include <vector>

#include <singleflight/flight.hpp>

singleflight::group<bool, int> flights;
auto got = flights.run_many(std::vector<bool>{true}, [](std::span<const bool> keys) {
  return std::vector<singleflight::outcome<int>>(keys.size(), 1);
});
