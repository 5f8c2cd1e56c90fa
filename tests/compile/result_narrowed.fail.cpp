// SPDX-License-Identifier: Apache-2.0
// expect: singleflight: what is returned or given for a value does not become one without
#include <cstdint>

#include <singleflight/flight.hpp>

singleflight::group<int, int> flights;
auto got = flights.run(7, [] { return std::int64_t{5}; });
