// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string_view>

#include "lab/log/timestamp.hpp"

namespace singleflight::lab {

/// One line of an access log in Common or Combined Log Format:
///   host ident user [time] "request" status bytes ["referer" "agent" ...]
/// A quote inside a quoted part is escaped with a backslash. The parts are views into the line.
struct access_log_entry {
  stamp time;
  std::string_view request;  // "-" when the client sent none
  std::string_view method;   // empty when the request is "-"
  std::string_view url;      // as the client sent it, the scheme and host cut off
};

struct access_log_result {
  std::optional<access_log_entry> entry;
  const char* problem = nullptr;  // set when there is no entry
};

access_log_result parse_access_log_line(std::string_view line);

/// The n-th field of an access-log line, from 1: "[...]" and "..." are one field each, without
/// their marks.
std::optional<std::string_view> access_log_field(std::string_view line, std::size_t n);

}  // namespace singleflight::lab
