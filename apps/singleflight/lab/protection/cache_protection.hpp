// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "lab/protection/cache_settings.hpp"
#include "lab/protection/protection.hpp"
#include <singleflight/core/default_timer.hpp>

namespace singleflight::lab {

/// At most one load per key at a time, whose answer is stored for later requests. It takes the time
/// from `clock`; the clock and the backend must outlive it.
std::unique_ptr<protection> make_cache_protection(backend& asked, const cache_settings& settings,
                                                  timer& clock = default_timer());

/// The same cache, but each miss loads: nothing coalesces. Without refreshes and stale answers.
std::unique_ptr<protection> make_cache_alone_protection(backend& asked,
                                                        const cache_settings& settings,
                                                        timer& clock = default_timer());

}  // namespace singleflight::lab
