// SPDX-License-Identifier: Apache-2.0
// expect: singleflight: what is returned or given for a value does not become one without
#include <vector>

#include <singleflight/flight.hpp>

using numbers = std::vector<int>;
singleflight::group<int, numbers> flights;
auto got = flights.start(
    7, [](singleflight::flight_promise<numbers> p) { p.set_value(2, 7'000'000'000); });
