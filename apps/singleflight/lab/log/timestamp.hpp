// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <optional>
#include <string_view>

namespace singleflight::lab {

/// A point in time, since the epoch or since the beginning of the log.
using stamp = std::chrono::nanoseconds;

/// Parses the time of an access log: "10/Oct/2000:13:55:36 -0700".
std::optional<stamp> parse_access_log_time(std::string_view text);

/// Parses the time of a CSV trace: ISO 8601 ("2024-03-01T12:00:00.25Z"; a space may replace the T,
/// and the offset is optional) or a non-negative number. A number is in seconds; from 10^11 on in
/// milliseconds, from 10^14 in microseconds, from 10^17 in nanoseconds, because the current time
/// has about that size in those units.
std::optional<stamp> parse_trace_time(std::string_view text);

}  // namespace singleflight::lab
