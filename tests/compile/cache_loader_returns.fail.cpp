// SPDX-License-Identifier: Apache-2.0
// expect: a cache's loader returns a Value, a std::optional<Value>
#include <string>

#include <singleflight/cache.hpp>

singleflight::loading_cache<int, std::string> cache([](int) { return 1; });
