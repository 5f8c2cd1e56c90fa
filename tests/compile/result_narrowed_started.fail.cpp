// SPDX-License-Identifier: Apache-2.0
// expect: singleflight: what is returned or given for a value does not become one without
#include <cstdint>

#include <singleflight/flight.hpp>

singleflight::group<int, int> flights;
auto got = flights.start(7, [](singleflight::flight_promise<int> p) { p.set_value(2.5); });
