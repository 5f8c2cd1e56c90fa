// SPDX-License-Identifier: Apache-2.0
#include "lab/log/formats.hpp"

#include <fmt/format.h>

#include <array>

#include "cli/usage_error.hpp"

namespace singleflight::lab {

namespace {

// Tried in this order, and then recognize_key_per_line, which accepts or refuses every log that is
// left.
constexpr std::array known_formats{recognize_oracle_general, recognize_statements,
                                   recognize_members,        recognize_columns,
                                   recognize_access_log,     recognize_unnamed_columns};

}  // namespace

void refuse_column_options(const log_head& head, const reading_choice& choice,
                           std::string_view kind) {
  if (choice.separator == '\0' && !choice.no_header) return;
  throw cli::usage_error(
      fmt::format("{} belongs to columns, and {} is read as: {}; omit the option",
                  choice.separator != '\0' ? "--separator" : "--no-header", head.name, kind));
}

void refuse_named_time(const log_head& head, const reading_choice& choice, std::string_view kind) {
  if (choice.time.from != time_choice::part::column &&
      choice.time.from != time_choice::part::member) {
    return;
  }
  throw cli::usage_error(
      fmt::format("--time-from: {} is read as: {}; that has no part named '{}'; use field=N",
                  head.name, kind, cli::one_line(choice.time.name, 40)));
}

std::unique_ptr<line_format> find_format(const log_head& head, const reading_choice& choice) {
  for (const auto recognize : known_formats) {
    if (auto format = recognize(head, choice)) return format;
  }
  return nullptr;
}

std::unique_ptr<line_format> detect_format(const log_head& head, const reading_choice& choice) {
  if (auto format = find_format(head, choice)) return format;
  return recognize_key_per_line(head, choice);
}

}  // namespace singleflight::lab
