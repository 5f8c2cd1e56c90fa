// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <deque>
#include <stop_token>
#include <string>
#include <string_view>

#include "lab/log/formats.hpp"
#include "lab/log/line_format.hpp"
#include "lab/log/line_source.hpp"

namespace singleflight::lab {

/// record_source: the records of a log. A record is a line that is not blank, and the lines after
/// it that it goes on in.
class record_source {
 public:
  struct record {
    std::string_view text;  // valid until the next call
    std::uint64_t number;   // of its first line, from 1
    const char* problem;    // why it cannot be read; null if it can
    bool joined;            // it is several lines
  };

  /// After a stop request nothing more is read.
  explicit record_source(const std::string& path, std::stop_token stop = {});

  /// Returns the beginning of the log; its lines are returned by next() again.
  log_head read_head();
  /// Returns false at the end.
  bool next(line_format& format, record& out);
  /// Takes all lines but the first from the record that was returned last, because it is malformed:
  /// the quote that joined them does not end. They are returned again.
  void split(const record& last);
  const line_source& source() const { return source_; }

 private:
  struct held_line {
    std::string text;
    std::uint64_t number;
    bool too_long;
  };

  bool next_line(line_source::line& out, bool blank_too);
  void join_lines(line_format& format, record& out);

  line_source source_;
  std::deque<held_line> held_;  // lines that were read ahead
  held_line current_;           // the held line that was returned last
  std::string joined_;
  std::size_t most_lines_;     // of a record: fewer after each that had to be split
  line_source::line ahead_{};  // the line after a record, if has_ahead_
  bool has_ahead_ = false;
};

}  // namespace singleflight::lab
