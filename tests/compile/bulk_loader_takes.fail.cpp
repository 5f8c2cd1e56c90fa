// SPDX-License-Identifier: Apache-2.0
// expect: singleflight: a loader of many takes a std::span<const Key> and returns
#include <vector>

#include <singleflight/flight.hpp>

singleflight::group<int, int> flights;
auto all = flights.start_many(std::vector<int>{7}, [](int key) { return key; });
