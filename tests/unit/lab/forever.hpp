// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "lab/backend/backend.hpp"

namespace singleflight::lab {

/// The patience of a caller without a deadline.
inline steady_time forever() { return steady_time::max(); }

}  // namespace singleflight::lab
