// SPDX-License-Identifier: Apache-2.0
// expect: singleflight: what is returned or given for a value does not become one without
#include <cstdint>
#include <optional>
#include <utility>

#include <singleflight/flight.hpp>

using maybe = std::optional<int>;
singleflight::group<int, maybe> flights;
auto got = flights.start(
    7, [](singleflight::flight_promise<maybe> p) { p.set_value(std::in_place, std::int64_t{5}); });
