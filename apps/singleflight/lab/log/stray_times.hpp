// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <stop_token>

#include "lab/log/timestamp.hpp"
#include "lab/workload/spool.hpp"
#include "lab/workload/timed_trace.hpp"

namespace singleflight::lab {

/// The time of a request whose time is not known.
inline constexpr stamp no_time = stamp::min();

/// Replaces the times that are far from all others, such as one of 1970 in a log of today, and
/// those that are not known, by those of their predecessors. At most a hundredth of the times are
/// taken for stray, and only if a gap of a month and of ten times the length of the rest separates
/// them from it. Returns how many. Throws `interrupted` soon after a stop request.
std::uint64_t replace_stray_times(spool<timed_request>& requests, const std::stop_token& stop);

}  // namespace singleflight::lab
