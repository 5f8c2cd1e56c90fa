// SPDX-License-Identifier: Apache-2.0
// expect: singleflight: a key is kept
#include <singleflight/flight.hpp>

singleflight::group<const int, int> flights;
