// SPDX-License-Identifier: Apache-2.0
// expect: singleflight: memoize keeps copies of the arguments, and this takes a view within
#include <cstddef>
#include <string_view>
#include <vector>

#include <singleflight/cache.hpp>

auto count = singleflight::memoize(
    [](int, const std::vector<std::string_view>& names) { return names.size(); });
