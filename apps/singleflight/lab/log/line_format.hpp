// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "lab/log/timestamp.hpp"

namespace singleflight::lab {

/// reading: what a record of a log says. The views are valid until the next record is read.
struct reading {
  enum class verdict {
    request,    // `key` is set, and the rest as far as the log has it
    malformed,  // `reason` is set
    no_key,     // a valid record that asks for nothing, such as "-"; `reason` is set
    no_record   // a header or a comment
  };
  verdict what = verdict::malformed;
  const char* reason = nullptr;
  std::string_view key;
  std::optional<stamp> time;
  std::string_view method;
  std::string_view host;
  unsigned status = 0;  // 0: the log has none
  std::optional<std::chrono::nanoseconds> duration;
  std::optional<std::uint64_t> bytes;
  std::uint64_t count = 1;  // how many requests the record stands for

  static reading malformed(const char* why) { return with(verdict::malformed, why); }
  static reading no_key(const char* why) { return with(verdict::no_key, why); }
  static reading no_record() { return with(verdict::no_record, nullptr); }

 private:
  static reading with(verdict what, const char* why) {
    reading made;
    made.what = what;
    made.reason = why;
    return made;
  }
};

/// line_format: reads the records of one log. A record is a line, and those after it that it
/// continues on.
class line_format {
 public:
  virtual ~line_format() = default;

  virtual reading read(std::string_view record) = 0;
  /// Whether a record may be several lines. If so, continues() is asked before each read().
  virtual bool joins_lines() const { return false; }
  /// Whether the record goes on in the line `next`.
  virtual bool continues(std::string_view /*record*/, std::string_view /*next*/) { return false; }

  virtual bool has_time() const = 0;
  /// Whether the times are counts of whole seconds, so that the requests of one second are spread
  /// over it.
  virtual bool counts_seconds() const { return false; }
  /// Whether the requests are HTTP requests, of which only some methods can be shared.
  virtual bool http() const { return false; }
  /// A description for people: "access log, key: path".
  virtual std::string describe() const = 0;
};

}  // namespace singleflight::lab
