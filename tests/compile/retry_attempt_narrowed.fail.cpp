// SPDX-License-Identifier: Apache-2.0
// expect: singleflight: a function takes a number that does not hold every key or value
#include <cstdint>

#include <singleflight/sync.hpp>

int got = singleflight::retry({}, [](std::uint8_t attempt) { return static_cast<int>(attempt); });
