// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "cli/usage_error.hpp"
#include "lab/log/csv.hpp"
#include "lab/log/fields.hpp"
#include "lab/log/formats.hpp"
#include "lab/log/words.hpp"

namespace singleflight::lab {

namespace {

using part = key_choice::part;
using names = std::vector<std::string>;

std::string listed(const names& header) {
  return cli::one_line(fmt::format("{}", fmt::join(header, ", ")), 300);
}

// Refuses a table of statements with how often each was executed: it does not say when.
void refuse_statistics(const std::string& log, const names& header) {
  const bool counts = index_of_name(header, "calls") || index_of_name(header, "count_star") ||
                      index_of_name(header, "execution_count");
  const bool statements = index_of_name(header, "query") || index_of_name(header, "queryid") ||
                          index_of_name(header, "digest_text");
  if (!counts || !statements) return;
  throw cli::usage_error(fmt::format(
      "--log: {} is a table of statements with their counts, no log of requests: it does not say "
      "when each was made; log the statements, for example with log_min_duration_statement = 0, "
      "and give that log",
      log));
}

// Whether a text contains control characters; a key in quotes may contain line breaks.
bool is_binary(std::string_view text) {
  return std::any_of(text.begin(), text.end(), [](char c) {
    return static_cast<unsigned char>(c) < 0x20 && c != '\t' && c != '\n' && c != '\r';
  });
}

/// columns_format: records in columns that a header names, the first line or "#Fields" lines.
class columns_format : public line_format {
 public:
  columns_format(std::string log, reading_choice choice, char separator, bool directives)
      : log_(std::move(log)),
        choice_(std::move(choice)),
        splitter_(separator),
        directives_(directives) {}

  reading read(std::string_view record) override {
    quotes_ = {};
    if (directives_) {
      if (record.starts_with('#')) return read_directive(record);
      if (splitter_.separator() != '\t' && record.find('\t') != std::string_view::npos) {
        splitter_ = csv_splitter('\t');
      }
    }
    if (!reader_) return reading::malformed("no #Fields line precedes it");
    if (!splitter_.split(record)) {
      return reading::malformed("a quoted field does not end, or text follows it");
    }
    const auto& columns = splitter_.fields();
    if (!directives_ &&
        std::equal(columns.begin(), columns.end(), header_.begin(), header_.end())) {
      return reading::no_record();
    }
    if (columns.size() > header_.size() || columns.size() < needed_) {
      return reading::malformed("the number of fields differs from the header");
    }
    field_reader::values values;
    for (std::size_t i = 0; i < number_of_fields; ++i) {
      const auto index = fields_.places[i].index;
      if (index && *index < columns.size()) values[i] = columns[*index];
    }
    const std::string_view chosen = chosen_ ? columns[*chosen_] : std::string_view{};
    auto made = reader_->read(values, chosen_ ? &chosen : nullptr);
    if (is_binary(made.key)) return reading::malformed("the key contains control characters");
    return made;
  }
  bool joins_lines() const override { return !directives_; }
  bool continues(std::string_view record, std::string_view) override {
    return quotes_.open_after(splitter_, record);
  }

  bool has_time() const override { return has_time_; }
  bool counts_seconds() const override { return counts_seconds_; }
  bool http() const override { return fields_.http(); }
  std::string describe() const override {
    const auto key = chosen_ ? fmt::format("column {}", cli::one_line(header_[*chosen_], 40))
                             : reader_->describe();
    return fmt::format("{}, key: {}", directives_ ? "columns named by #Fields" : "CSV", key);
  }

  /// Sets the columns. Throws usage_error.
  void set_header(names header);
  /// Reads the records of a head for what their times are like.
  void look_at(const std::vector<std::string>& lines);

 private:
  reading read_directive(std::string_view line) {
    constexpr std::string_view fields = "#fields";
    std::string_view begin = line.substr(0, fields.size());
    if (index_of_name({std::string(fields)}, begin)) {
      line.remove_prefix(fields.size());
      if (line.starts_with(':')) line.remove_prefix(1);
      names header;
      word_list words(line);
      for (auto word = words.next(); !word.empty(); word = words.next()) header.emplace_back(word);
      splitter_ = csv_splitter(line.find('\t') != std::string_view::npos ? '\t' : ' ');
      set_header(std::move(header));
    }
    return reading::no_record();
  }
  std::optional<std::size_t> chosen_column() const;

  std::string log_;
  reading_choice choice_;
  csv_splitter splitter_;
  bool directives_;
  names header_;
  field_map fields_;
  std::optional<std::size_t> chosen_;
  std::optional<field_reader> reader_;
  std::size_t needed_ = 0;  // the columns that a record must have
  bool has_time_ = false;
  bool counts_seconds_ = false;
  open_quotes quotes_;
};

std::optional<std::size_t> columns_format::chosen_column() const {
  const auto& key = choice_.key;
  if (key.from == part::member) {
    throw cli::usage_error(fmt::format(
        "--key-from: {} has columns and no members; use column=NAME with one of these: {}", log_,
        listed(header_)));
  }
  if (key.from == part::field) {
    if (key.field <= header_.size()) return key.field - 1;
    throw cli::usage_error(fmt::format("--key-from field={}: {} has only {} columns: {}", key.field,
                                       log_, header_.size(), listed(header_)));
  }
  if (key.from == part::column) {
    if (const auto index = index_of_name(header_, key.name)) return index;
    throw cli::usage_error(
        fmt::format("--key-from: {} has no column '{}'; choose one of its columns ({}) with "
                    "--key-from column=NAME",
                    log_, cli::one_line(key.name, 40), listed(header_)));
  }
  if (key.of_url() && !fields_.http()) {
    throw cli::usage_error(
        fmt::format("--key-from: {} is a CSV without a column for the URL; use column=NAME or "
                    "field=N with one of these: {}",
                    log_, listed(header_)));
  }
  if (!fields_.has_key()) {
    throw cli::usage_error(
        fmt::format("--key-from: {} has no column 'key' or 'url'; choose one of its columns ({}) "
                    "with --key-from column=NAME",
                    log_, listed(header_)));
  }
  return std::nullopt;
}

void columns_format::set_header(names header) {
  header_ = std::move(header);
  fields_ = find_fields(header_);
  choose_time(choice_.time, header_, log_, "column", fields_);
  chosen_ = chosen_column();
  reader_.emplace(fields_, choice_);
  // A record that was cut has the columns of the key and of the time, and one more.
  std::size_t last = chosen_.value_or(0);
  const field needed[] = {field::time,  field::date, field::request,  field::url,
                          field::query, field::key,  field::statement};
  for (const auto each : needed) last = std::max(last, fields_.of(each).index.value_or(0));
  needed_ = std::min(last + 2, header_.size());
}

void columns_format::look_at(const std::vector<std::string>& lines) {
  bool counts = true;
  const auto time = fields_.of(field::time);
  const auto records = directives_ ? lines : joined_records(lines, splitter_);
  for (const auto& record : records) {
    const auto made = read(record);
    if (made.what != reading::verdict::request || !made.time) continue;
    has_time_ = true;
    counts = counts && time.index && whole_number(splitter_.fields()[*time.index]) &&
             *made.time % std::chrono::seconds(1) == std::chrono::nanoseconds(0);
  }
  counts_seconds_ = has_time_ && counts;
}

// The separator with which the line has the most columns with known names, or just the most.
char separator_of(const std::string& line) {
  char best = ',';
  std::size_t most = 0;
  for (const char separator : {',', '\t', ';', '|'}) {
    csv_splitter splitter(separator);
    if (!splitter.split(line) || splitter.fields().size() <= most) continue;
    most = splitter.fields().size();
    best = separator;
  }
  return best;
}

bool is_fields_line(const std::string& line) {
  return line.starts_with("#Fields:") || line.starts_with("#fields\t") ||
         line.starts_with("#fields ") || line.starts_with("#fields:");
}

}  // namespace

std::unique_ptr<line_format> recognize_columns(const log_head& head, const reading_choice& choice) {
  if (head.lines.empty() || choice.no_header) return nullptr;
  const auto fields_line = std::find_if(head.lines.begin(), head.lines.end(), is_fields_line);
  const bool directives = fields_line != head.lines.end() && head.lines.front().starts_with('#');
  if (directives) {
    auto format = std::make_unique<columns_format>(head.name, choice, ' ', true);
    format->look_at(head.lines);
    return format;
  }
  const auto& first = head.lines.front();
  if (has_control_characters(first)) return nullptr;
  csv_splitter splitter(choice.separator != '\0' ? choice.separator : separator_of(first));
  if (!splitter.split(first)) return nullptr;
  const names header(splitter.fields().begin(), splitter.fields().end());
  const auto fields = find_fields(header);
  const bool named =
      choice.key.from == part::column && index_of_name(header, choice.key.name).has_value();
  const bool timed = fields.has(field::time) || fields.has(field::date);
  bool known = index_of_name(header, "key").has_value();
  if (header.size() > 1) known = timed || fields.has_key();
  // A text that contains the name of a field is no header, if no columns follow it.
  if (head.lines.size() > 1 && splitter.split(head.lines[1])) {
    known = known && (splitter.fields().size() > 1 || header.size() == 1);
  }
  if (!known && !named) {
    if (header.size() > 1) refuse_statistics(head.name, header);
    return nullptr;
  }
  if (!timed) refuse_statistics(head.name, header);
  auto format = std::make_unique<columns_format>(head.name, choice, splitter.separator(), false);
  format->set_header(header);
  format->look_at(head.lines);
  return format;
}

}  // namespace singleflight::lab
