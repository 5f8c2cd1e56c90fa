// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string_view>

#include "lab/log/timestamp.hpp"

namespace singleflight::lab {

/// One line of an access log in Common or Combined Log Format:
///   host ident user [time] "request" status bytes ["referer" "agent" ...]
/// A quote inside a quoted field is escaped with a backslash. The members are views into the line.
struct access_log_entry {
  stamp time;
  std::string_view request;  // "-" if the client sent none
  std::string_view method;   // empty if the request is "-"
  std::string_view url;      // as the client sent it, without scheme and host
};

struct access_log_result {
  std::optional<access_log_entry> entry;
  const char* problem = nullptr;  // set if there is no entry
};

access_log_result parse_access_log_line(std::string_view line);

/// Returns the n-th field of an access-log line, counted from 1. "[...]" and "..." are one field
/// each and are returned without their delimiters.
std::optional<std::string_view> access_log_field(std::string_view line, std::size_t n);

}  // namespace singleflight::lab
