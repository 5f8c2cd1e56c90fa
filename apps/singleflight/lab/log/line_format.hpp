// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "lab/log/timestamp.hpp"

namespace singleflight::lab {

/// line_format: reads the lines of one log.
class line_format {
 public:
  enum class verdict {
    request,    // `key` is set, and `time` if the format has it
    malformed,  // `reason` is set
    no_key      // a valid line without a request, such as "-"; `reason` is set
  };
  struct reading {
    verdict what = verdict::malformed;
    std::string_view key;  // valid until the next call
    std::optional<stamp> time;
    const char* reason = nullptr;

    static reading malformed(const char* why) { return {verdict::malformed, {}, {}, why}; }
    static reading no_key(const char* why) { return {verdict::no_key, {}, {}, why}; }
  };

  virtual ~line_format() = default;

  virtual reading read(std::string_view line) = 0;
  virtual bool has_time() const = 0;
  /// A description for people: "access log, key: path".
  virtual std::string describe() const = 0;
  /// Whether the first line is a header and not a request.
  virtual bool has_header() const { return false; }
};

}  // namespace singleflight::lab
