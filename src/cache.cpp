// SPDX-License-Identifier: Apache-2.0

// The bodies of cache, for programs that link singleflight::compiled.

#include "singleflight/cache.hpp"

#include "singleflight/cache/impl/cache_core.hpp"
#include "singleflight/cache/impl/entry_table.hpp"
#include "singleflight/cache/impl/expiry_sweep.hpp"
#include "singleflight/cache/impl/hazard.hpp"
#include "singleflight/cache/impl/lifetimes.hpp"
#include "singleflight/cache/impl/s3_fifo.hpp"
#include "singleflight/cache/impl/store_core.hpp"
