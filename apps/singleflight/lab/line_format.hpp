// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "lab/timestamp.hpp"

namespace singleflight::lab {

/// key_choice: what of a log line is the key.
struct key_choice {
  enum class part { automatic, path, url, query, field, column };
  part from = part::automatic;
  std::size_t field = 0;  // from 1
  std::string column;

  /// "path", "url", "query", "field=3", "column=user_id". Throws usage_error.
  static key_choice parse(std::string_view text);
};

/// line_format: how the lines of one log are read.
class line_format {
 public:
  enum class verdict {
    request,    // `key` is set, and `time` if the format knows it
    malformed,  // `reason` is set
    no_key      // a line in order that asks for nothing, such as "-"; `reason` is set
  };
  struct reading {
    verdict what = verdict::malformed;
    std::string_view key;  // valid until the next call
    std::optional<stamp> time;
    const char* reason = nullptr;
  };

  virtual ~line_format() = default;

  virtual reading read(std::string_view line) = 0;
  virtual bool has_time() const = 0;
  /// "access log, key: path".
  virtual std::string describe() const = 0;
  /// The first line is a header, not a request.
  virtual bool has_header() const { return false; }
};

/// Chooses the format from a log's first lines: an access log if any of them reads as one, CSV if
/// the first is a header with the column asked for, or with "key", or with a time column; else one
/// key per line. Throws usage_error if the key cannot be taken from that format, or if this is no
/// text.
std::unique_ptr<line_format> detect_format(const std::string& log_name,
                                           const std::vector<std::string>& first_lines,
                                           const key_choice& choice);

}  // namespace singleflight::lab
