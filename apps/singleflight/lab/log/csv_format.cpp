// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cctype>
#include <optional>
#include <utility>

#include "cli/usage_error.hpp"
#include "lab/log/csv.hpp"
#include "lab/log/formats.hpp"

namespace singleflight::lab {

namespace {

using part = key_choice::part;

std::string lower(std::string_view text) {
  std::string result(text);
  std::transform(result.begin(), result.end(), result.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  const auto first = result.find_first_not_of(' ');
  if (first == std::string::npos) return {};
  return result.substr(first, result.find_last_not_of(' ') - first + 1);
}

std::optional<std::size_t> column_named(const std::vector<std::string>& header,
                                        std::string_view name) {
  for (std::size_t i = 0; i < header.size(); ++i) {
    if (lower(header[i]) == lower(name)) return i;
  }
  return std::nullopt;
}

std::optional<std::size_t> time_column(const std::vector<std::string>& header) {
  for (const char* name : {"time", "timestamp", "ts", "datetime", "date"}) {
    if (const auto column = column_named(header, name)) return column;
  }
  return std::nullopt;
}

class csv_format : public line_format {
 public:
  csv_format(std::vector<std::string> header, std::size_t key_column)
      : header_(std::move(header)),
        key_column_(key_column),
        time_column_(lab::time_column(header_)) {}

  reading read(std::string_view line) override {
    if (!split_csv(line, fields_))
      return reading::malformed("a quoted field does not end, or text follows it");
    if (fields_.size() != header_.size())
      return reading::malformed("the number of fields differs from the header");
    reading result{verdict::request, fields_[key_column_], {}, nullptr};
    if (has_control_characters(result.key))
      return reading::malformed("the key contains control characters");
    if (time_column_) {
      result.time = parse_trace_time(fields_[*time_column_]);
      if (!result.time)
        return reading::malformed(
            "the time is neither a non-negative number nor like 2024-03-01T12:00:00Z");
    }
    if (result.key.empty()) return reading::no_key("the key is empty");
    return result;
  }
  bool has_time() const override { return time_column_.has_value(); }
  std::string describe() const override {
    return fmt::format("CSV, key: column {}", cli::one_line(header_[key_column_], 40));
  }
  bool has_header() const override { return true; }

 private:
  std::vector<std::string> header_;
  std::size_t key_column_;
  std::optional<std::size_t> time_column_;
  std::vector<std::string> fields_;
};

std::unique_ptr<line_format> csv_from_header(const std::string& log_name,
                                             std::vector<std::string> header,
                                             const key_choice& choice) {
  if (choice.from == part::field) {
    if (choice.field > header.size()) {
      throw cli::usage_error(
          fmt::format("--key-from field={}: {} has only {} columns: {}", choice.field, log_name,
                      header.size(), cli::one_line(fmt::format("{}", fmt::join(header, ", ")))));
    }
    return std::make_unique<csv_format>(std::move(header), choice.field - 1);
  }
  const std::string wanted = choice.from == part::column ? choice.column : "key";
  const auto key_column = column_named(header, wanted);
  if (!key_column) {
    throw cli::usage_error(fmt::format(
        "--key-from: {} has no column '{}'; choose one of its columns ({}) with --key-from "
        "column=NAME",
        log_name, cli::one_line(wanted, 40),
        cli::one_line(fmt::format("{}", fmt::join(header, ", ")))));
  }
  return std::make_unique<csv_format>(std::move(header), *key_column);
}

}  // namespace

std::unique_ptr<line_format> recognize_csv(const log_head& head, const key_choice& choice) {
  std::vector<std::string> header;
  const bool splits = !head.lines.empty() && !has_control_characters(head.lines.front()) &&
                      split_csv(head.lines.front(), header);
  const bool names_key =
      splits && (column_named(header, "key") ||
                 (choice.from == part::column && column_named(header, choice.column)));
  if (names_key || (splits && header.size() > 1 && time_column(header))) {
    if (choice.from == part::path || choice.from == part::url || choice.from == part::query) {
      throw cli::usage_error(fmt::format(
          "--key-from: {} is a CSV, not an access log; use column=NAME or field=N", head.name));
    }
    return csv_from_header(head.name, std::move(header), choice);
  }
  if (choice.from != part::column) return nullptr;
  // The user expects a CSV: the message should list the columns of the first line.
  if (splits && header.size() > 1) return csv_from_header(head.name, std::move(header), choice);
  throw cli::usage_error(fmt::format(
      "--key-from: {} has no CSV header, so no column '{}'; its first line must name the columns",
      head.name, cli::one_line(choice.column, 40)));
}

}  // namespace singleflight::lab
