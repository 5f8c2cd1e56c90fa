// SPDX-License-Identifier: Apache-2.0
// expect: a cache's loader takes the key, or the key and a flight_context& or a std::stop_token
#include <singleflight/cache.hpp>

singleflight::loading_cache<int, int> cache([](int, int) { return 1; });
