// SPDX-License-Identifier: Apache-2.0
// expect: singleflight: a cache keeps values
#include <mutex>

#include <singleflight/cache.hpp>

singleflight::loading_cache<int, std::mutex>* cache = nullptr;
std::size_t size = sizeof(*cache);
