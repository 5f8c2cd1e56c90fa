// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "lab/protection/cache_settings.hpp"
#include "lab/protection/protection.hpp"
#include <singleflight/core/default_timer.hpp>

namespace singleflight::lab {

/// One load per key at a time, whose answer is kept for those who ask later.
/// Its times are by `clock`, which outlives it, as the backend does.
std::unique_ptr<protection> make_cache_protection(backend& asked, const cache_settings& settings,
                                                  timer& clock = default_timer());

}  // namespace singleflight::lab
