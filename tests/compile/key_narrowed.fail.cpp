// SPDX-License-Identifier: Apache-2.0
// expect: singleflight: the argument is no key and does not become one without loss
#include <cstdint>
#include <string>

#include <singleflight/cache.hpp>

singleflight::loading_cache<int, std::string> cache([](int) { return std::string(); });
auto got = cache.get(std::int64_t{7});
