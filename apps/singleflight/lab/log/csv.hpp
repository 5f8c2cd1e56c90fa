// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace singleflight::lab {

/// csv_splitter: splits records of CSV (RFC 4180) with any separator: quoted fields may contain
/// separators, line breaks and doubled quotes. Blanks around a field or its quotes do not belong
/// to it. A space as separator means any number of spaces and no quotes.
class csv_splitter {
 public:
  explicit csv_splitter(char separator = ',') : separator_(separator) {}

  /// Returns false, with `fields()` unspecified, if a quoted field does not end or text follows its
  /// closing quote.
  bool split(std::string_view record);
  /// The fields of the last record, valid as long as it and until the next one.
  const std::vector<std::string_view>& fields() const { return fields_; }
  char separator() const { return separator_; }

  /// Whether a line that begins inside quotes (`open`) or not ends inside quotes: then the record
  /// goes on in the next line.
  bool open_after(std::string_view line, bool open) const;

 private:
  bool take_quoted(std::string_view record, std::size_t& at);
  void split_words(std::string_view record);

  char separator_;
  std::vector<std::string_view> fields_;
  std::string unquoted_;  // the fields that contain doubled quotes
};

/// open_quotes: whether a record that grows line by line is still inside quotes. Each line is
/// looked at once.
class open_quotes {
 public:
  bool open_after(const csv_splitter& splitter, std::string_view record) {
    const auto added = seen_ == 0 ? record : record.substr(seen_ + 1);
    open_ = splitter.open_after(added, open_);
    seen_ = record.size();
    return open_;
  }

 private:
  std::size_t seen_ = 0;
  bool open_ = false;
};

/// Joins the lines of a log's beginning whose quotes go on in the next line.
std::vector<std::string> joined_records(const std::vector<std::string>& lines,
                                        const csv_splitter& splitter);

}  // namespace singleflight::lab
