// SPDX-License-Identifier: Apache-2.0
#include "lab/log/formats.hpp"

#include <array>

namespace singleflight::lab {

namespace {

// Tried in this order. The last one accepts or refuses every log that is left, so a new one goes
// before it.
constexpr std::array known_formats{
    recognize_oracle_general, recognize_statements,      recognize_members,     recognize_columns,
    recognize_access_log,     recognize_unnamed_columns, recognize_key_per_line};

}  // namespace

std::unique_ptr<line_format> detect_format(const log_head& head, const reading_choice& choice) {
  for (const auto recognize : known_formats) {
    if (auto format = recognize(head, choice)) return format;
  }
  return nullptr;
}

}  // namespace singleflight::lab
