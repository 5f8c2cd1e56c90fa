// SPDX-License-Identifier: Apache-2.0
// expect: singleflight: the argument is no key and does not become one without loss
#include <cstdint>
#include <utility>

#include <singleflight/flight.hpp>

struct cell : std::pair<std::int64_t, std::int64_t> {
  using pair::pair;
};
singleflight::group<std::pair<int, int>, int> flights;
bool forgotten = flights.forget(cell(7, 1));
