// SPDX-License-Identifier: Apache-2.0
// expect: singleflight: this function may return a view of its argument
#include <string>
#include <string_view>

#include <singleflight/flight.hpp>

auto first_letter =
    singleflight::deduplicate([](const std::string& s) { return std::string_view(s).substr(0, 1); },
                              [](const std::string& s) { return s; });
