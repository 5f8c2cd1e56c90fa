// SPDX-License-Identifier: Apache-2.0

// The bodies of cache, for programs that link singleflight::compiled.

#include "singleflight/cache.hpp"

#include "singleflight/cache/impl/hazard.hpp"
