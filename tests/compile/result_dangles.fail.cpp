// SPDX-License-Identifier: Apache-2.0
// expect: without loss
#include <string>
#include <string_view>

#include <singleflight/flight.hpp>

singleflight::group<int, std::string_view> flights;
auto kept = flights.run(1, [] { return std::string("a temporary of the call"); });
