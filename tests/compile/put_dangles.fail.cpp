// SPDX-License-Identifier: Apache-2.0
// expect: without loss
#include <string>
#include <string_view>

#include <singleflight/cache.hpp>

singleflight::loading_cache<int, std::string_view> cache([](int) { return "a literal stays"; }, {});
bool kept = (cache.put(1, std::string("a temporary of the call")), true);
