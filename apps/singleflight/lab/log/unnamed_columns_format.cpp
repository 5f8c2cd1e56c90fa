// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "cli/usage_error.hpp"
#include "lab/log/csv.hpp"
#include "lab/log/formats.hpp"
#include "lab/log/trace_shapes.hpp"
#include "lab/log/words.hpp"

namespace singleflight::lab {

namespace {

using part = key_choice::part;

/// What is known of columns without a header; columns are counted from 1, 0 is none.
struct unnamed_columns {
  std::string name;
  char separator = ',';
  std::size_t number = 0;
  std::vector<std::size_t> key{};
  std::size_t time = 0;
  time_unit unit = time_unit::by_size;
  std::size_t bytes = 0;
  bool has_time = false;
  bool counts_seconds = false;
};

class unnamed_columns_format : public line_format {
 public:
  explicit unnamed_columns_format(unnamed_columns what)
      : what_(std::move(what)), splitter_(what_.separator) {}

  reading read(std::string_view record) override {
    if (!splitter_.split(record)) {
      return reading::malformed("a quoted field does not end, or text follows it");
    }
    const auto& columns = splitter_.fields();
    const auto last = *std::max_element(what_.key.begin(), what_.key.end());
    if (columns.size() < last) return reading::malformed("the line has fewer fields");
    reading made;
    made.what = reading::verdict::request;
    made.key = key_of(columns);
    if (made.key.empty()) return reading::no_key("the key is empty");
    if (has_control_characters(made.key)) {
      return reading::malformed("the key contains control characters");
    }
    if (what_.time > 0 && what_.time <= columns.size()) {
      made.time = parse_trace_time(columns[what_.time - 1], what_.unit);
    }
    if (what_.bytes > 0 && what_.bytes <= columns.size()) {
      made.bytes = whole_number(columns[what_.bytes - 1]);
    }
    return made;
  }
  bool has_time() const override { return what_.has_time; }
  bool counts_seconds() const override { return what_.counts_seconds; }
  std::string describe() const override {
    return fmt::format("{}, key: field {}", what_.name, fmt::join(what_.key, " and "));
  }

 private:
  std::string_view key_of(const std::vector<std::string_view>& columns) {
    if (what_.key.size() == 1) return columns[what_.key.front() - 1];
    key_.clear();
    for (const auto column : what_.key) {
      if (!key_.empty()) key_ += ':';
      key_ += columns[column - 1];
    }
    return key_;
  }

  unnamed_columns what_;
  csv_splitter splitter_;
  std::string key_;
};

std::optional<unnamed_columns> known_trace(const log_head& head, const reading_choice& choice) {
  for (const auto& shape : trace_shapes()) {
    csv_splitter splitter(choice.separator != '\0' ? choice.separator : shape.separator);
    const bool all = std::all_of(head.lines.begin(), head.lines.end(), [&](const auto& line) {
      return splitter.split(line) && has_shape(splitter.fields(), shape);
    });
    if (!all) continue;
    unnamed_columns made{.name = shape.name,
                         .separator = splitter.separator(),
                         .number = shape.columns.size(),
                         .key = {},
                         .time = shape.time_column,
                         .unit = shape.unit,
                         .bytes = shape.bytes_column};
    for (const auto column : shape.key_columns) {
      if (column > 0) made.key.push_back(column);
    }
    return made;
  }
  return std::nullopt;
}

// Columns that nothing is known of but that each line has as many of them.
std::optional<unnamed_columns> same_columns(const log_head& head, const reading_choice& choice) {
  for (const char separator : {',', '\t', ';', '|'}) {
    if (choice.separator != '\0' && separator != ',') break;
    csv_splitter splitter(choice.separator != '\0' ? choice.separator : separator);
    std::size_t number = 0;
    const bool same = std::all_of(head.lines.begin(), head.lines.end(), [&](const auto& line) {
      if (!splitter.split(line)) return false;
      if (number == 0) number = splitter.fields().size();
      return number > 1 && splitter.fields().size() == number;
    });
    if (same && number > 1) {
      return unnamed_columns{
          .name = "columns without a header", .separator = splitter.separator(), .number = number};
    }
  }
  return std::nullopt;
}

// The words of a text, if the user chose the key and the time among them.
unnamed_columns words_of(const log_head& head) {
  csv_splitter splitter(' ');
  std::size_t most = 0;
  for (const auto& line : head.lines) {
    if (splitter.split(line)) most = std::max(most, splitter.fields().size());
  }
  return {.name = "text", .separator = ' ', .number = most};
}

// The first column whose values are times that only an epoch or a date can be.
std::size_t time_column_of(const log_head& head, const unnamed_columns& what) {
  csv_splitter splitter(what.separator);
  for (std::size_t column = 1; column <= what.number; ++column) {
    const bool times = std::all_of(head.lines.begin(), head.lines.end(), [&](const auto& line) {
      splitter.split(line);
      const auto time = parse_trace_time(splitter.fields()[column - 1]);
      return time && *time > std::chrono::hours(24 * 365 * 20);
    });
    if (times) return column;
  }
  return 0;
}

void look_at_times(const log_head& head, unnamed_columns& what) {
  if (what.time == 0) return;
  csv_splitter splitter(what.separator);
  what.counts_seconds = true;
  for (const auto& line : head.lines) {
    if (!splitter.split(line) || splitter.fields().size() < what.time) continue;
    const auto text = splitter.fields()[what.time - 1];
    const auto time = parse_trace_time(text, what.unit);
    if (!time) continue;
    what.has_time = true;
    what.counts_seconds = what.counts_seconds && whole_number(text) &&
                          *time % std::chrono::seconds(1) == std::chrono::nanoseconds(0);
  }
  what.counts_seconds = what.counts_seconds && what.has_time;
}

void check_column(const char* option, std::size_t column, const log_head& head,
                  const unnamed_columns& what) {
  if (column <= what.number) return;
  throw cli::usage_error(fmt::format("{} field={}: {} has only {} columns; its first line is {}",
                                     option, column, head.name, what.number,
                                     cli::one_line(head.lines.front(), 100)));
}

}  // namespace

std::unique_ptr<line_format> recognize_unnamed_columns(const log_head& head,
                                                       const reading_choice& choice) {
  if (head.lines.empty()) return nullptr;
  auto what = known_trace(head, choice);
  const bool known = what.has_value();
  const bool chosen = choice.key.from == part::field;
  if (!known) what = same_columns(head, choice);
  const bool time_chosen = choice.time.from == time_choice::part::field;
  if (!what && chosen && time_chosen && choice.separator == '\0') what = words_of(head);
  if (!what || (!known && !chosen && !choice.no_header)) return nullptr;
  if (chosen) {
    check_column("--key-from", choice.key.field, head, *what);
    what->key = {choice.key.field};
  } else if (!known || choice.key.from != part::automatic) {
    throw cli::usage_error(
        fmt::format("--key-from: {} has {} columns without a header; name the column of the key: "
                    "--key-from field=N; its first line is {}",
                    head.name, what->number, cli::one_line(head.lines.front(), 100)));
  }
  refuse_named_time(head, choice, what->name);
  if (time_chosen) {
    check_column("--time-from", choice.time.field, head, *what);
    what->time = choice.time.field;
    what->unit = choice.time.unit;
  } else if (!known) {
    what->time = time_column_of(head, *what);
  }
  look_at_times(head, *what);
  return std::make_unique<unnamed_columns_format>(std::move(*what));
}

}  // namespace singleflight::lab
