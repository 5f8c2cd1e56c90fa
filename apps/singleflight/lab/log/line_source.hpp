// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "lab/log/byte_source.hpp"

namespace singleflight::lab {

/// line_source: the lines of a text, one after the other, as views into a buffer that is as large
/// as the longest line needs, up to `longest_line`.
///
/// The records of a binary trace (see oracle_general.hpp) are its lines.
///
/// A UTF-8 byte order mark at the start of the text and a carriage return at the end of a line are
/// not part of a line. Errors are those of byte_source.
class line_source {
 public:
  static constexpr std::size_t longest_line = 1U << 24U;

  struct line {
    std::string_view text;  // valid until the next call
    std::uint64_t number;   // from 1
    bool too_long;          // `text` is then only its beginning
    bool cut;               // the text ended before the line did: it has no line break
  };

  /// "-" is standard input. After a stop request nothing more is read.
  explicit line_source(const std::string& path, std::stop_token stop = {});

  /// Returns false at the end of the text.
  bool next(line& out);

  /// Whether the compressed data ended before it was complete. The lines up to that point were
  /// returned, except for a partial last one.
  bool truncated() const { return source_.truncated(); }
  bool interrupted() const { return source_.interrupted() || stop_.stop_requested(); }
  const std::string& name() const { return source_.name(); }

 private:
  bool fill();
  void begin();
  bool next_record(line& out);
  void skip_rest_of_line();
  void give(line& out, std::size_t size, bool too_long, bool cut);

  byte_source source_;
  std::stop_token stop_;
  std::vector<char> buffer_;
  std::string beginning_;  // of a line that is too long
  std::size_t at_ = 0;
  std::size_t end_ = 0;
  std::uint64_t number_ = 0;
  std::size_t record_size_ = 0;  // of a binary trace; 0: the text has lines
  bool at_start_ = true;
};

}  // namespace singleflight::lab
