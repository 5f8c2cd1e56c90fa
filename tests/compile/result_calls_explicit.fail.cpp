// SPDX-License-Identifier: Apache-2.0
// expect: singleflight: what is returned or given for a value does not become one without
#include <vector>

#include <singleflight/flight.hpp>

singleflight::group<int, std::vector<int>> flights;
auto got = flights.run(7, [] { return 5; });
