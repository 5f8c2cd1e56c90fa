// SPDX-License-Identifier: Apache-2.0
// expect: singleflight: callers share a value
#include <singleflight/flight.hpp>

singleflight::group<int, int[3]> flights;
