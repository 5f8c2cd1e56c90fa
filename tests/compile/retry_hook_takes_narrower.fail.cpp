// SPDX-License-Identifier: Apache-2.0
// expect: singleflight: a function takes a number that does not hold every key or value
#include <chrono>
#include <cstdint>
#include <exception>

#include <singleflight/sync.hpp>

singleflight::retry_policy policy{
    .on_retry = [](std::uint8_t, const std::exception_ptr&, std::chrono::nanoseconds) {}};
