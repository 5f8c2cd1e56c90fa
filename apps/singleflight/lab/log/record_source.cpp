// SPDX-License-Identifier: Apache-2.0
#include "lab/log/record_source.hpp"

#include <algorithm>
#include <iterator>
#include <utility>
#include <vector>

namespace singleflight::lab {

namespace {

constexpr std::size_t most_lines_of_head = 100;
constexpr std::size_t most_bytes_of_head = 1U << 20U;
// A record that goes on for longer has a quote that does not end.
constexpr std::size_t most_lines_of_record = 1024;
constexpr std::size_t fewest_lines_of_record = 8;
constexpr std::size_t most_bytes_of_record = 1U << 18U;

constexpr const char* too_long = "the line is longer than 16 MiB";

bool is_blank(std::string_view text) {
  return text.find_first_not_of(" \t") == std::string_view::npos;
}

}  // namespace

record_source::record_source(const std::string& path, std::stop_token stop)
    : source_(path, std::move(stop)), most_lines_(most_lines_of_record) {}

bool record_source::next_line(line_source::line& out, bool blank_too) {
  while (true) {
    if (std::exchange(has_ahead_, false)) {
      out = ahead_;
    } else if (!held_.empty()) {
      current_ = std::move(held_.front());
      held_.pop_front();
      out = {current_.text, current_.number, current_.too_long, false};
    } else if (!source_.next(out)) {
      return false;
    }
    if (blank_too || out.too_long || !is_blank(out.text)) return true;
  }
}

log_head record_source::read_head() {
  log_head head{source_.name(), {}};
  std::size_t bytes = 0;
  line_source::line line{};
  while (head.lines.size() < most_lines_of_head && bytes < most_bytes_of_head &&
         source_.next(line)) {
    held_.push_back({std::string(line.text), line.number, line.too_long});
    if (is_blank(line.text) || line.too_long) continue;
    bytes += line.text.size();
    head.lines.emplace_back(line.text);
  }
  return head;
}

bool record_source::next(line_format& format, record& out) {
  line_source::line line{};
  if (!next_line(line, false)) return false;
  out = {line.text, line.number, line.too_long ? too_long : nullptr, false};
  if (!line.too_long && format.joins_lines()) join_lines(format, out);
  return true;
}

void record_source::join_lines(line_format& format, record& out) {
  joined_.assign(out.text);
  for (std::size_t lines = 1; lines < most_lines_ && joined_.size() < most_bytes_of_record;
       ++lines) {
    // The next line is a view into the buffer or into a held line, and is kept there.
    has_ahead_ = next_line(ahead_, true);
    const bool usable = has_ahead_ && !ahead_.too_long;
    if (!format.continues(joined_, usable ? ahead_.text : std::string_view{}) || !usable) break;
    has_ahead_ = false;
    joined_ += '\n';
    joined_ += ahead_.text;
    out.joined = true;
  }
  out.text = joined_;
}

void record_source::split(const record& last) {
  // A log whose quotes hardly ever end is not read again and again.
  most_lines_ = std::max(most_lines_ / 2, fewest_lines_of_record);
  if (std::exchange(has_ahead_, false)) {
    held_.push_front({std::string(ahead_.text), ahead_.number, ahead_.too_long});
  }
  std::vector<held_line> lines;
  auto number = last.number;
  for (auto begin = joined_.find('\n') + 1; begin <= joined_.size();) {
    const auto end = std::min(joined_.find('\n', begin), joined_.size());
    lines.push_back({joined_.substr(begin, end - begin), ++number, false});
    begin = end + 1;
  }
  held_.insert(held_.begin(), std::make_move_iterator(lines.begin()),
               std::make_move_iterator(lines.end()));
}

}  // namespace singleflight::lab
