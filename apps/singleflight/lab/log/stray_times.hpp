// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

#include "lab/log/timestamp.hpp"

namespace singleflight::lab {

/// Replaces the times that are far from all others, such as one of 1970 in a log of today, by those
/// of their predecessors. At most a hundredth of the times are taken for stray, and only if a gap
/// of a month and of ten times the length of the rest separates them from it. Returns how many.
std::uint64_t replace_stray_times(std::vector<stamp>& times);

}  // namespace singleflight::lab
