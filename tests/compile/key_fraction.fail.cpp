// SPDX-License-Identifier: Apache-2.0
// expect: singleflight: the argument is no key and does not become one without loss
#include <cstdint>

#include <singleflight/flight.hpp>

singleflight::group<int, int> flights;
bool forgotten = flights.forget(7.9);
