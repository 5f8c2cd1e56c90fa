// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <optional>
#include <string_view>

namespace singleflight::lab {

/// A moment in a log, since the epoch or since the log's own beginning.
using stamp = std::chrono::nanoseconds;

/// The time of an access log: "10/Oct/2000:13:55:36 -0700".
std::optional<stamp> parse_access_log_time(std::string_view text);

/// The time of a CSV trace: ISO 8601 ("2024-03-01T12:00:00.25Z", a space for the T, an offset or
/// none) or a number that is not negative. Numbers count seconds; from 10^11 on milliseconds, from
/// 10^14 microseconds, from 10^17 nanoseconds, for these are what today's clocks show in those
/// units.
std::optional<stamp> parse_trace_time(std::string_view text);

}  // namespace singleflight::lab
