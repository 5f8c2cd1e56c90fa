// SPDX-License-Identifier: Apache-2.0
// expect: singleflight: a function takes a number that does not hold every key or value
#include <cstdint>
#include <functional>

#include <singleflight/flight.hpp>

using hash = singleflight::key_hash<std::int64_t>;
singleflight::group<std::int64_t, int, hash, std::equal_to<int>> flights;
auto got = flights.run(std::int64_t{5}, [] { return 1; });
