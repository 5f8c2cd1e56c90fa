// SPDX-License-Identifier: Apache-2.0
// expect: singleflight: a key is copied
#include <memory>

#include <singleflight/flight.hpp>

singleflight::group<std::unique_ptr<int>, int> flights;
