// SPDX-License-Identifier: Apache-2.0
// expect: singleflight: a random source returns 64 random bits
#include <singleflight/cache.hpp>

const singleflight::cache_options<int, int> how{.random = [] { return 0.5; }};
