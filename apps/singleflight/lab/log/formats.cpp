// SPDX-License-Identifier: Apache-2.0
#include "lab/log/formats.hpp"

#include <algorithm>
#include <array>

namespace singleflight::lab {

namespace {

// Tried in this order. The last one accepts every log that is left, so a new one goes before it.
constexpr std::array known_formats{recognize_access_log, recognize_csv, recognize_key_per_line};

}  // namespace

std::unique_ptr<line_format> detect_format(const log_head& head, const key_choice& choice) {
  for (const auto recognize : known_formats) {
    if (auto format = recognize(head, choice)) return format;
  }
  return nullptr;
}

bool has_control_characters(std::string_view text) {
  return std::any_of(text.begin(), text.end(), [](char c) {
    const auto byte = static_cast<unsigned char>(c);
    return (byte < 0x20 && byte != '\t') || byte == 0x7f;
  });
}

}  // namespace singleflight::lab
