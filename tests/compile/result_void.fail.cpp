// SPDX-License-Identifier: Apache-2.0
// expect: singleflight: what is returned or given for a value does not become one without
#include <singleflight/flight.hpp>

singleflight::group<int, int> flights;
auto started = flights.start(1, [] {});
