// SPDX-License-Identifier: Apache-2.0
// expect: singleflight: what is returned or given for a value does not become one without
#include <cstdint>
#include <vector>

#include <singleflight/sync.hpp>

auto all = singleflight::collect<int>(std::vector{[] { return std::int64_t{5}; }});
