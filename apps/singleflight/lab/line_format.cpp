// SPDX-License-Identifier: Apache-2.0
#include "lab/line_format.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cctype>
#include <utility>

#include "lab/access_log.hpp"
#include "lab/csv.hpp"
#include "lab/units.hpp"
#include "lab/usage_error.hpp"

namespace singleflight::lab {

namespace {

using reading = line_format::reading;
using verdict = line_format::verdict;
using part = key_choice::part;

bool has_control_characters(std::string_view text) {
  return std::any_of(text.begin(), text.end(), [](char c) {
    const auto byte = static_cast<unsigned char>(c);
    return (byte < 0x20 && byte != '\t') || byte == 0x7f;
  });
}

reading malformed(const char* reason) { return {verdict::malformed, {}, {}, reason}; }
reading no_key(const char* reason) { return {verdict::no_key, {}, {}, reason}; }

class access_log_format : public line_format {
 public:
  explicit access_log_format(key_choice choice) : choice_(std::move(choice)) {}

  reading read(std::string_view line) override {
    const auto parsed = parse_access_log_line(line);
    if (!parsed.entry) return malformed(parsed.problem);
    const auto& entry = *parsed.entry;
    std::string_view key;
    if (choice_.from == part::field) {
      const auto field = access_log_field(line, choice_.field);
      if (!field || field->empty()) return no_key("the line has no such field");
      key = *field;
    } else {
      if (entry.url.empty()) return no_key("the client sent no request");
      const auto url = entry.url.substr(0, entry.url.find('#'));
      const auto question = url.find('?');
      if (choice_.from == part::url) {
        key = url;
      } else if (choice_.from == part::query) {
        if (question == std::string_view::npos || question + 1 == url.size()) {
          return no_key("the URL has no query");
        }
        key = url.substr(question + 1);
      } else {
        key = url.substr(0, question);
      }
      if (key.empty()) return no_key("the URL has no path");
    }
    return {verdict::request, key, entry.time, nullptr};
  }
  bool has_time() const override { return true; }
  std::string describe() const override {
    switch (choice_.from) {
      case part::field: return fmt::format("access log, key: field {}", choice_.field);
      case part::url: return "access log, key: URL";
      case part::query: return "access log, key: query";
      default: return "access log, key: path";
    }
  }

 private:
  key_choice choice_;
};

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
      return malformed("a quoted field does not end, or text follows it");
    if (fields_.size() != header_.size()) return malformed("not as many fields as the header has");
    reading result{verdict::request, fields_[key_column_], {}, nullptr};
    if (has_control_characters(result.key)) return malformed("control characters in the key");
    if (time_column_) {
      result.time = parse_trace_time(fields_[*time_column_]);
      if (!result.time)
        return malformed("the time is not a number from 0 on nor like 2024-03-01T12:00:00Z");
    }
    if (result.key.empty()) return no_key("the key is empty");
    return result;
  }
  bool has_time() const override { return time_column_.has_value(); }
  std::string describe() const override {
    return fmt::format("CSV, key: column {}", one_line(header_[key_column_], 40));
  }
  bool has_header() const override { return true; }

 private:
  std::vector<std::string> header_;
  std::size_t key_column_;
  std::optional<std::size_t> time_column_;
  std::vector<std::string> fields_;
};

class key_per_line_format : public line_format {
 public:
  explicit key_per_line_format(std::size_t field) : field_(field) {}

  reading read(std::string_view line) override {
    if (has_control_characters(line)) return malformed("control characters: this is no text");
    if (field_ == 0) return {verdict::request, line, {}, nullptr};
    std::size_t at = 0;
    for (std::size_t n = 1;; ++n) {
      at = line.find_first_not_of(" \t", at);
      if (at == std::string_view::npos) return malformed("not that many fields");
      const auto end = std::min(line.find_first_of(" \t", at), line.size());
      if (n == field_) return {verdict::request, line.substr(at, end - at), {}, nullptr};
      at = end;
    }
  }
  bool has_time() const override { return false; }
  std::string describe() const override {
    return field_ == 0 ? "one key per line" : fmt::format("text, key: field {}", field_);
  }

 private:
  std::size_t field_;
};

std::unique_ptr<line_format> csv_from_header(const std::string& log_name,
                                             std::vector<std::string> header,
                                             const key_choice& choice) {
  if (choice.from == part::field) {
    if (choice.field > header.size()) {
      throw usage_error(fmt::format("--key-from field={}: {} has only {} columns: {}", choice.field,
                                    log_name, header.size(),
                                    one_line(fmt::format("{}", fmt::join(header, ", ")))));
    }
    return std::make_unique<csv_format>(std::move(header), choice.field - 1);
  }
  const std::string wanted = choice.from == part::column ? choice.column : "key";
  const auto key_column = column_named(header, wanted);
  if (!key_column) {
    throw usage_error(fmt::format(
        "--key-from: {} has no column '{}'; choose one of its columns ({}) with --key-from "
        "column=NAME",
        log_name, one_line(wanted, 40), one_line(fmt::format("{}", fmt::join(header, ", ")))));
  }
  return std::make_unique<csv_format>(std::move(header), *key_column);
}

}  // namespace

key_choice key_choice::parse(std::string_view text) {
  key_choice choice;
  if (text == "path") {
    choice.from = part::path;
  } else if (text == "url") {
    choice.from = part::url;
  } else if (text == "query") {
    choice.from = part::query;
  } else if (text.starts_with("field=")) {
    choice.from = part::field;
    choice.field = parse_count("--key-from field", text.substr(6), {1, 1000, "field=1"});
  } else if (text.starts_with("column=") && text.size() > 7) {
    choice.from = part::column;
    choice.column = text.substr(7);
  } else {
    throw usage_error(
        fmt::format("--key-from: '{}' is not path, url, query, field=N or column=NAME; for example "
                    "--key-from path",
                    one_line(text, 40)));
  }
  return choice;
}

std::unique_ptr<line_format> detect_format(const std::string& log_name,
                                           const std::vector<std::string>& first_lines,
                                           const key_choice& choice) {
  const bool is_access_log = std::any_of(
      first_lines.begin(), first_lines.end(),
      [](const std::string& line) { return parse_access_log_line(line).entry.has_value(); });
  if (is_access_log) {
    if (choice.from == part::column) {
      throw usage_error(fmt::format(
          "--key-from: {} is an access log and has no columns; use path, url, query or field=N",
          log_name));
    }
    return std::make_unique<access_log_format>(choice);
  }

  std::vector<std::string> header;
  const bool splits = !first_lines.empty() && !has_control_characters(first_lines.front()) &&
                      split_csv(first_lines.front(), header);
  const bool names_key =
      splits && (column_named(header, "key") ||
                 (choice.from == part::column && column_named(header, choice.column)));
  if (names_key || (splits && header.size() > 1 && time_column(header))) {
    if (choice.from == part::path || choice.from == part::url || choice.from == part::query) {
      throw usage_error(fmt::format(
          "--key-from: {} is CSV, not an access log; use column=NAME or field=N", log_name));
    }
    return csv_from_header(log_name, std::move(header), choice);
  }

  if (choice.from == part::column) {
    // Whoever names a column has a CSV in mind: say what its first line holds.
    if (splits && header.size() > 1) return csv_from_header(log_name, std::move(header), choice);
    throw usage_error(fmt::format(
        "--key-from: {} has no CSV header, so no column '{}'; its first line must name the columns",
        log_name, one_line(choice.column, 40)));
  }
  if (choice.from == part::path || choice.from == part::url || choice.from == part::query) {
    throw usage_error(
        fmt::format("--key-from: {} is not an access log (none of its first {} lines is in Common "
                    "or Combined Log Format); "
                    "use field=N, or leave --key-from out for one key per line",
                    log_name, first_lines.size()));
  }
  return std::make_unique<key_per_line_format>(choice.field);
}

}  // namespace singleflight::lab
