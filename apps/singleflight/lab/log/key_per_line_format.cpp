// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "cli/usage_error.hpp"
#include "lab/log/formats.hpp"
#include "lab/log/words.hpp"

namespace singleflight::lab {

namespace {

using part = key_choice::part;

class key_per_line_format : public line_format {
 public:
  key_per_line_format(std::size_t field, bool numbers) : field_(field), numbers_(numbers) {}

  reading read(std::string_view line) override {
    constexpr std::size_t longest_key = 65536;
    if (has_control_characters(line))
      return reading::malformed("the line contains control characters; it is not text");
    if (line.size() > longest_key) return reading::malformed("the key is longer than 65536 bytes");
    reading made;
    made.what = reading::verdict::request;
    made.key = line;
    if (field_ == 0) {
      // LIRS traces mark places between the blocks.
      return numbers_ && line == "*" ? reading::no_key("a mark, no block") : made;
    }
    word_list words(line);
    for (std::size_t n = 1; n <= field_; ++n) made.key = words.next();
    if (made.key.empty()) return reading::malformed("the line has fewer fields");
    return made;
  }
  bool has_time() const override { return false; }
  std::string describe() const override {
    return field_ == 0 ? "one key per line" : fmt::format("text, key: field {}", field_);
  }

 private:
  std::size_t field_;
  bool numbers_;
};

template <class Matches>
bool most(const log_head& head, Matches matches) {
  const auto count = std::count_if(head.lines.begin(), head.lines.end(), matches);
  return count > 0 && static_cast<std::size_t>(count) * 2 >= head.lines.size();
}

std::size_t words_of(const std::string& line) {
  std::size_t count = 0;
  for (word_list words(line); !words.next().empty();) ++count;
  return count;
}

bool same_number_of(char separator, const log_head& head) {
  const auto count = [&](const std::string& line) {
    return std::count(line.begin(), line.end(), separator);
  };
  const auto first = count(head.lines.front());
  return first > 0 && std::all_of(head.lines.begin(), head.lines.end(),
                                  [&](const auto& line) { return count(line) == first; });
}

// Whether the lines are numbers of blocks, or the marks of LIRS traces between them.
bool all_numbers(const log_head& head) {
  return std::all_of(head.lines.begin(), head.lines.end(),
                     [](const auto& line) { return line == "*" || whole_number(line); });
}

// What the lines look like, if they do not look like keys; null if they do.
const char* not_keys(const log_head& head) {
  constexpr std::size_t enough = 20;
  if (head.lines.empty()) return nullptr;
  const auto some_have = [&](char c) {
    return std::any_of(head.lines.begin(), head.lines.end(),
                       [&](const auto& line) { return line.find(c) != line.npos; });
  };
  if (some_have('{')) return "some of its lines have braces, but they are not JSON";
  if (some_have('"')) return "some of its lines have quotes, but no request METHOD URL";
  if (most(head, [](const auto& line) {
        return find_iso_time(line) || parse_leading_time(line) ||
               (line.size() > 2 && line.find('[') != line.npos &&
                parse_access_log_time(
                    line.substr(line.find('[') + 1, line.find(']') - line.find('[') - 1)));
      })) {
    return "its lines have times, but no request METHOD URL";
  }
  if (head.lines.size() > 1) {
    if (same_number_of('\t', head)) return "its lines have columns with tabs between them";
    if (same_number_of(';', head)) return "its lines have columns with semicolons between them";
    if (same_number_of(',', head)) return "its lines have columns with commas between them";
  }
  const auto words = words_of(head.lines.front());
  if (head.lines.size() < enough) return nullptr;
  const bool columns = std::all_of(head.lines.begin(), head.lines.end(),
                                   [&](const auto& line) { return words_of(line) == words; });
  const std::set<std::string> distinct(head.lines.begin(), head.lines.end());
  if (words < 2) {
    // Traces of blocks often begin with a run of them; names that are requested come again.
    constexpr std::size_t enough_words = 100;
    const bool all_differ = distinct.size() == head.lines.size();
    return all_differ && distinct.size() >= enough_words && !all_numbers(head)
               ? "all of its first lines differ (if they are keys: --key-from field=1)"
               : nullptr;
  }
  if (distinct.size() * 20 < head.lines.size() * 19) return nullptr;
  return columns ? "nearly all of its lines differ, and they have columns with spaces between them"
                 : "nearly all of its lines differ, and they have several words";
}

}  // namespace

std::unique_ptr<line_format> recognize_key_per_line(const log_head& head,
                                                    const reading_choice& choice) {
  if (choice.key.of_url()) {
    throw cli::usage_error(
        fmt::format("--key-from: {} is not an access log: none of its first {} lines has a request "
                    "METHOD URL; use field=N, or omit --key-from for one key per line",
                    head.name, head.lines.size()));
  }
  if (choice.key.from == part::column || choice.key.from == part::member) {
    throw cli::usage_error(fmt::format(
        "--key-from: {} has no {}, so none named '{}'; its first line is {}; use field=N for a "
        "column without a name, or omit --key-from for one key per line",
        head.name, choice.key.from == part::column ? "CSV header" : "members",
        cli::one_line(choice.key.name, 40),
        head.lines.empty() ? "missing" : cli::one_line(head.lines.front(), 120)));
  }
  const bool whole_line = choice.key.from == part::automatic;
  const bool text = std::none_of(head.lines.begin(), head.lines.end(), has_control_characters);
  if (most(head, has_control_characters)) {
    throw cli::usage_error(
        fmt::format("--log: {} is binary data of a kind that the lab does not know, and malformed "
                    "as text; convert it",
                    head.name));
  }
  if (const char* seen = whole_line && text ? not_keys(head) : nullptr) {
    throw cli::usage_error(fmt::format(
        "--log: {} is no log that the lab knows, and not one key per line: {}; its first line is "
        "{}; name the parts: --key-from field=N (words or columns; --separator, --no-header), "
        "column=NAME or member=a.b, and --time-from",
        head.name, seen, cli::one_line(head.lines.front(), 120)));
  }
  refuse_named_time(head, choice, whole_line ? "one key per line" : "text");
  if (choice.time.from == time_choice::part::field) {
    throw cli::usage_error(fmt::format(
        "--time-from: {} is read as one key per line, which has no time; name the key "
        "too: --key-from field=N; its first line is {}",
        head.name, head.lines.empty() ? "missing" : cli::one_line(head.lines.front(), 120)));
  }
  if (choice.separator != '\0' && choice.separator != ' ') {
    throw cli::usage_error(fmt::format(
        "--separator: the lines of {} do not have the same number of columns with it; choose "
        "another one, or omit the option to read words",
        head.name));
  }
  return std::make_unique<key_per_line_format>(choice.key.field, all_numbers(head));
}

}  // namespace singleflight::lab
