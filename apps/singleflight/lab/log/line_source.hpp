// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <zlib.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace singleflight::lab {

/// line_source: reads a text line by line in bounded memory; the text is plain or gzip, which its
/// content decides.
///
/// A UTF-8 byte order mark at the start of the text and a carriage return at the end of a line are
/// not part of a line.
///
/// Errors      usage_error: the file cannot be opened or read, or its gzip data is damaged.
class line_source {
 public:
  static constexpr std::size_t longest_line = 65536;

  struct line {
    std::string_view text;  // valid until the next call
    std::uint64_t number;   // from 1
    bool too_long;          // `text` is then only its beginning
  };

  /// "-" is standard input.
  explicit line_source(std::string path);

  /// Returns false at the end of the text.
  bool next(line& out);

  /// Whether the gzip data ended before it was complete. The lines up to that point were returned,
  /// except for a partial last one.
  bool truncated() const { return truncated_; }
  /// Whether a signal interrupted the reading.
  bool interrupted() const { return interrupted_; }
  const std::string& name() const { return name_; }

 private:
  struct closer {
    void operator()(gzFile file) const { gzclose_r(file); }
  };

  bool fill();
  /// Returns the next piece of the current line; sets `ends` if it is the last one.
  std::string_view piece(bool& ends);

  std::string name_;
  std::unique_ptr<gzFile_s, closer> file_;
  std::vector<char> buffer_;
  std::size_t at_ = 0;
  std::size_t end_ = 0;
  std::string text_;
  std::uint64_t number_ = 0;
  bool at_start_ = true;
  bool truncated_ = false;
  bool interrupted_ = false;
};

}  // namespace singleflight::lab
