// SPDX-License-Identifier: Apache-2.0
// expect: singleflight: a loader of many takes a std::span<const Key> and returns
#include <span>
#include <vector>

#include <singleflight/flight.hpp>

singleflight::group<int, int> flights;
auto all = flights.run_many(std::vector<int>{7},
                            [](std::span<const int>) { return std::vector<long>{1}; });
