// SPDX-License-Identifier: Apache-2.0
#include "lab/log/csv.hpp"

#include <algorithm>

#include "lab/log/words.hpp"

namespace singleflight::lab {

namespace {

// The first place from `at` on that has no blank, or the end. A separator is not passed over,
// though a tab is a blank.
std::size_t after_blanks(std::string_view line, std::size_t at, char separator) {
  while (at < line.size() && (line[at] == ' ' || line[at] == '\t') && line[at] != separator) ++at;
  return at;
}

}  // namespace

void csv_splitter::split_words(std::string_view record) {
  word_list words(record);
  for (auto word = words.next(); !word.empty(); word = words.next()) fields_.push_back(word);
}

// Adds the quoted field that begins before `at`, and moves `at` behind its closing quote.
bool csv_splitter::take_quoted(std::string_view record, std::size_t& at) {
  const auto begin = at;
  const auto first = unquoted_.size();
  bool doubled = false;
  while (true) {
    const auto quote = record.find('"', at);
    if (quote == std::string_view::npos) return false;
    const bool another = quote + 1 < record.size() && record[quote + 1] == '"';
    if (doubled || another) {
      unquoted_ += record.substr(doubled ? at : begin, quote - (doubled ? at : begin));
      doubled = true;
    }
    if (!another) {
      fields_.push_back(doubled ? std::string_view(unquoted_).substr(first)
                                : record.substr(begin, quote - begin));
      at = quote + 1;
      return true;
    }
    unquoted_ += '"';
    at = quote + 2;
  }
}

bool csv_splitter::split(std::string_view record) {
  fields_.clear();
  unquoted_.clear();
  // Views into it stay valid, because it never grows beyond this.
  unquoted_.reserve(record.size());
  if (separator_ == ' ') {
    split_words(record);
    return true;
  }
  std::size_t at = 0;
  while (true) {
    const auto first = after_blanks(record, at, separator_);
    if (first < record.size() && record[first] == '"') {
      at = first + 1;
      if (!take_quoted(record, at)) return false;
      at = after_blanks(record, at, separator_);
      if (at < record.size() && record[at] != separator_) return false;
    } else {
      const auto end = std::min(record.find(separator_, at), record.size());
      fields_.push_back(trimmed(record.substr(at, end - at)));
      at = end;
    }
    if (at >= record.size()) return true;
    ++at;  // skip the separator; a field follows, though it may be empty
  }
}

bool csv_splitter::open_after(std::string_view line, bool open) const {
  if (separator_ == ' ') return false;
  for (std::size_t at = 0; at <= line.size();) {
    if (!open) {
      const auto first = after_blanks(line, at, separator_);
      if (first < line.size() && line[first] == '"') {
        open = true;
        at = first + 1;
        continue;
      }
      const auto end = line.find(separator_, at);
      if (end == std::string_view::npos) return false;
      at = end + 1;
      continue;
    }
    const auto quote = line.find('"', at);
    if (quote == std::string_view::npos) return true;
    at = quote + 1;
    if (at < line.size() && line[at] == '"') {
      ++at;
      continue;
    }
    open = false;
    // The field is closed: what follows is its separator.
    const auto end = line.find(separator_, at);
    if (end == std::string_view::npos) return false;
    at = end + 1;
  }
  return open;
}

std::vector<std::string> joined_records(const std::vector<std::string>& lines,
                                        const csv_splitter& splitter) {
  std::vector<std::string> records;
  bool open = false;
  for (const auto& line : lines) {
    const bool goes_on = open;
    open = splitter.open_after(line, open);
    if (goes_on) {
      records.back() += '\n';
      records.back() += line;
    } else {
      records.push_back(line);
    }
  }
  return records;
}

}  // namespace singleflight::lab
