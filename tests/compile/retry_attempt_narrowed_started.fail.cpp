// SPDX-License-Identifier: Apache-2.0
// expect: singleflight: a function takes a number that does not hold every key or value
#include <cstdint>

#include <singleflight/sync.hpp>

auto handle =
    singleflight::start_retry({}, [](std::int16_t attempt) { return static_cast<int>(attempt); });
