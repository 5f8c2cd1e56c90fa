// SPDX-License-Identifier: Apache-2.0
// expect: singleflight: a function takes a number that does not hold every key or value
#include <cstdint>
#include <string>

#include <singleflight/cache.hpp>

singleflight::loading_cache<std::int64_t, std::string> cache([](int) { return std::string(); });
