// SPDX-License-Identifier: Apache-2.0
// expect: singleflight: memoize keeps copies of the arguments, and this takes a view within
#include <cstddef>
#include <optional>
#include <string_view>

#include <singleflight/cache.hpp>

auto length = singleflight::memoize(
    [](std::optional<std::string_view> text) { return text ? text->size() : std::size_t{0}; });
