// SPDX-License-Identifier: Apache-2.0
#pragma once

// require: ends a process that has broken a requirement.

#include <cstdio>
#include <cstdlib>

#include "singleflight/core/support/require.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

SINGLEFLIGHT_COLD SINGLEFLIGHT_BODY void end_process(const char* what) noexcept {
  std::fprintf(stderr, "singleflight: %s\n", what);
  std::abort();
}

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE
