// SPDX-License-Identifier: Apache-2.0
// expect: singleflight: what is returned or given for a value does not become one without
#include <singleflight/cache.hpp>

singleflight::cache_options<int, int> options{.weigher = [](int, int) { return 0.9; }};
