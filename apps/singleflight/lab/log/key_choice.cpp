// SPDX-License-Identifier: Apache-2.0
#include "lab/log/key_choice.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <utility>

#include "cli/units.hpp"
#include "cli/usage_error.hpp"

namespace singleflight::lab {

namespace {

// Removes "prefix=" from the front of a text that goes on after it.
bool take_prefix(std::string_view& text, std::string_view prefix) {
  if (!text.starts_with(prefix) || text.size() == prefix.size()) return false;
  text.remove_prefix(prefix.size());
  return true;
}

// Reads "field=N", "column=NAME" or "member=a.b". Returns false if it is none of these.
template <class Choice>
bool take_place(std::string_view text, const char* option, const char* example, Choice& choice) {
  using part = typename Choice::part;
  if (take_prefix(text, "field=")) {
    choice.from = part::field;
    choice.field = cli::parse_count(option, text, {1, 1000, example});
  } else if (take_prefix(text, "column=")) {
    choice.from = part::column;
    choice.name = text;
  } else if (take_prefix(text, "member=")) {
    choice.from = part::member;
    choice.name = text;
  } else {
    return false;
  }
  return true;
}

}  // namespace

key_choice key_choice::parse(std::string_view text) {
  constexpr std::array<std::pair<std::string_view, part>, 4> words{{{"path", part::path},
                                                                    {"url", part::url},
                                                                    {"host+path", part::host_path},
                                                                    {"query", part::query}}};
  key_choice choice;
  const auto* const word = std::find_if(words.begin(), words.end(),
                                        [&](const auto& each) { return each.first == text; });
  if (word != words.end()) {
    choice.from = word->second;
  } else if (!take_place(text, "--key-from field", "field=1", choice)) {
    throw cli::usage_error(fmt::format(
        "--key-from: '{}' is not path, url, host+path, query, field=N, column=NAME or member=a.b; "
        "for example --key-from path",
        cli::one_line(text, 40)));
  }
  return choice;
}

time_choice time_choice::parse(std::string_view text) {
  constexpr std::array<std::pair<std::string_view, time_unit>, 4> units{{{":s", time_unit::s},
                                                                         {":ms", time_unit::ms},
                                                                         {":us", time_unit::us},
                                                                         {":ns", time_unit::ns}}};
  time_choice choice;
  auto rest = text;
  for (const auto& [suffix, unit] : units) {
    if (!rest.ends_with(suffix)) continue;
    choice.unit = unit;
    rest.remove_suffix(suffix.size());
    break;
  }
  if (!take_place(rest, "--time-from field", "field=1:ms", choice)) {
    throw cli::usage_error(
        fmt::format("--time-from: '{}' is not field=N, column=NAME or member=a.b, with :s, :ms, "
                    ":us or :ns after it if it is a number; for example --time-from field=1:ms",
                    cli::one_line(text, 40)));
  }
  return choice;
}

char reading_choice::parse_separator(std::string_view text) {
  if (text == "tab" || text == "\\t") return '\t';
  if (text == "space") return ' ';
  if (text.size() == 1 && text != "\"" && text != "\n") return text.front();
  throw cli::usage_error(
      fmt::format("--separator: '{}' is not one character, tab or space; for example --separator "
                  "';'",
                  cli::one_line(text, 40)));
}

std::vector<std::string> parse_names(const char* option, std::string_view text) {
  std::vector<std::string> names;
  while (true) {
    const auto comma = text.find(',');
    names.emplace_back(text.substr(0, comma));
    if (names.back().empty()) {
      throw cli::usage_error(
          fmt::format("{}: a name in the list is empty; separate names by single commas", option));
    }
    if (comma == std::string_view::npos) return names;
    text.remove_prefix(comma + 1);
  }
}

}  // namespace singleflight::lab
