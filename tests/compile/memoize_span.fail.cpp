// SPDX-License-Identifier: Apache-2.0
// expect: singleflight: memoize keeps copies of the arguments, and this takes a view within
#include <cstddef>
#include <span>

#include <singleflight/cache.hpp>

auto count = singleflight::memoize([](std::span<const int> all) { return all.size(); });
