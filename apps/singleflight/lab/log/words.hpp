// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <optional>
#include <string_view>

namespace singleflight::lab {

/// word_list: the words of a text, which spaces and tabs separate.
class word_list {
 public:
  explicit word_list(std::string_view text) : rest_(text) {}

  /// Returns the next word; empty at the end.
  std::string_view next() {
    rest_.remove_prefix(std::min(rest_.find_first_not_of(" \t"), rest_.size()));
    std::size_t size = 0;
    while (size < rest_.size() && rest_[size] != ' ' && rest_[size] != '\t') ++size;
    const auto word = rest_.substr(0, size);
    rest_.remove_prefix(size);
    return word;
  }
  std::string_view rest() const { return rest_; }

 private:
  std::string_view rest_;
};

/// Returns the text without the spaces and tabs around it.
inline std::string_view trimmed(std::string_view text) {
  const auto first = text.find_first_not_of(" \t");
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t") - first + 1);
}

/// Returns the whole number that the text is.
inline std::optional<std::uint64_t> whole_number(std::string_view text) {
  std::uint64_t number = 0;
  const char* const end = text.data() + text.size();
  const auto got = std::from_chars(text.data(), end, number);
  if (text.empty() || got.ptr != end || got.ec != std::errc{}) return std::nullopt;
  return number;
}

/// Returns the HTTP status that the text is; 0 if it is none.
inline unsigned http_status(std::string_view text) {
  if (text.size() != 3) return 0;
  const auto number = whole_number(text);
  return number && *number >= 100 && *number <= 599 ? static_cast<unsigned>(*number) : 0;
}

/// Whether a text contains control characters other than a tab; such a line is not text.
inline bool has_control_characters(std::string_view text) {
  return std::any_of(text.begin(), text.end(), [](char c) {
    const auto byte = static_cast<unsigned char>(c);
    return (byte < 0x20 && byte != '\t') || byte == 0x7f;
  });
}

}  // namespace singleflight::lab
