// SPDX-License-Identifier: Apache-2.0
// expect: singleflight: what is returned or given for a value does not become one without
#include <cstdint>

#include <singleflight/cache.hpp>

singleflight::live_value<int> limit([] { return 1; }, {.initial = std::int64_t{5'000'000'000}});
