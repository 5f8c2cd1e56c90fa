// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <optional>
#include <string_view>

namespace singleflight::lab {

/// A point in time, since the epoch or since the beginning of the log.
using stamp = std::chrono::nanoseconds;

/// The unit of a time that is a number.
enum class time_unit { by_size, s, ms, us, ns, windows };

/// Parses the time of an access log: "10/Oct/2000:13:55:36 -0700". A fraction may follow the
/// seconds, a space may replace the colon before the hour, and the zone is optional.
std::optional<stamp> parse_access_log_time(std::string_view text);

/// Parses a time in any form that logs have: that of an access log, ISO 8601
/// ("2024-03-01T12:00:00.25Z"; a space may replace the T, a comma the point, the name of a zone the
/// offset, and the zone is optional), or a non-negative number. Without a unit a number is in
/// seconds; from 10^11 on in milliseconds, from 10^14 in microseconds, from 10^17 in nanoseconds,
/// because the current time has about that size in those units.
std::optional<stamp> parse_trace_time(std::string_view text, time_unit unit = time_unit::by_size);

/// Parses the time at the front of a text, which may go on after it: ISO 8601 or, if the text is
/// from syslog, "Mar  1 12:00:00", which has no year.
std::optional<stamp> parse_leading_time(std::string_view text);

/// leading_times: parses the times at the front of a log's lines, one after the other. A time of
/// syslog that is more than half a year before its predecessor is of the next year.
class leading_times {
 public:
  std::optional<stamp> parse(std::string_view text);

 private:
  std::optional<stamp> last_;  // of syslog
  int years_ = 0;              // since the first time
};

/// Returns the ISO 8601 time that the text contains, if any.
std::optional<stamp> find_iso_time(std::string_view text);

/// Parses a duration: a number in `unit`, or one with its unit: "13ms", "0.25s".
std::optional<std::chrono::nanoseconds> parse_log_duration(std::string_view text, time_unit unit);

}  // namespace singleflight::lab
