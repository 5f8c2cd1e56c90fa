// SPDX-License-Identifier: Apache-2.0
// expect: singleflight: a char. as a key is the address of a text
#include <utility>

#include <singleflight/flight.hpp>

auto count = singleflight::deduplicate([](const char* text, int n) { return text[n]; },
                                       [](const char* text, int n) { return std::pair(text, n); });
