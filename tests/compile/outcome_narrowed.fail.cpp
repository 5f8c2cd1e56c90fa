// SPDX-License-Identifier: Apache-2.0
// expect: singleflight: what is returned or given for a value does not become one without
#include <cstdint>

#include <singleflight/core/outcome.hpp>

singleflight::outcome<int> of = std::int64_t{5};
