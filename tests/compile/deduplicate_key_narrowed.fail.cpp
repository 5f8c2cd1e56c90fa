// SPDX-License-Identifier: Apache-2.0
// expect: singleflight: a function takes a number that does not hold every key or value
#include <cstdint>

#include <singleflight/flight.hpp>

auto load =
    singleflight::deduplicate([](std::int64_t id) { return id; }, [](int id) { return id; });
auto got = load(std::int64_t{5});
