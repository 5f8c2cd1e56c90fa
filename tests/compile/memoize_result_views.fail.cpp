// SPDX-License-Identifier: Apache-2.0
// expect: singleflight: this function may return a view of its argument
#include <string_view>

#include <singleflight/cache.hpp>

auto first_word =
    singleflight::memoize([](std::string_view s) { return s.substr(0, s.find(' ')); });
