// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "lab/log/timestamp.hpp"

namespace singleflight::lab {

/// access_log_line: what a line of an access log says. The views are parts of the line.
struct access_log_line {
  enum class content { request, nothing, malformed };
  content what = content::malformed;
  const char* reason = nullptr;  // unless it is a request
  std::optional<stamp> time;
  std::string_view method;
  std::string_view url;  // as the client sent it
  std::string_view host;
  unsigned status = 0;  // 0: there is none
  std::optional<std::uint64_t> bytes;
  std::optional<std::chrono::nanoseconds> duration;
  bool quoted = false;  // the request is in quotes
};

/// access_log_parser: reads lines that contain a request, "METHOD URL" in quotes or bare, and a
/// time, in whatever order: Common and Combined Log Format with or without a host, a prefix of
/// syslog or of a container, fields between time and request; the logs of S3, of AWS's load
/// balancers, HAProxy, Squid, Varnish, Traefik, Envoy, Flask.
///
/// A quote inside a quoted field is escaped with a backslash. A field whose quotes do not end,
/// because the line was cut, ends with the line.
class access_log_parser {
 public:
  access_log_line parse(std::string_view line);

 private:
  struct place {
    std::size_t begin;
    std::size_t end;
  };

  bool find_quoted_request(std::string_view line, access_log_line& made, place& request) const;
  std::optional<stamp> find_time(std::string_view line, const place& request, place& where);
  std::optional<stamp> time_of_some_word(std::string_view line, const place& request, place& where);
  std::optional<stamp> bracket_time(std::string_view text);

  std::string last_text_;  // of the time that was parsed last
  std::optional<stamp> last_time_;
  leading_times prefixes_;  // of syslog
};

/// Returns the n-th field of an access-log line, counted from 1. "[...]" and "..." are one field
/// each and are returned without their delimiters.
std::optional<std::string_view> access_log_field(std::string_view line, std::size_t n);

}  // namespace singleflight::lab
