// SPDX-License-Identifier: Apache-2.0
#include "cli/usage_error.hpp"

namespace singleflight::cli {

std::string one_line(std::string_view text, std::size_t max_bytes) {
  std::string line;
  for (const char c : text.substr(0, max_bytes)) {
    const auto byte = static_cast<unsigned char>(c);
    line.push_back(byte < 0x20 || byte == 0x7f ? ' ' : c);
  }
  if (text.size() > max_bytes) {
    // Do not cut in the middle of a UTF-8 sequence.
    while (!line.empty() && (static_cast<unsigned char>(line.back()) & 0xc0U) == 0x80U) {
      line.pop_back();
    }
    if (!line.empty() && (static_cast<unsigned char>(line.back()) & 0x80U) != 0) line.pop_back();
    line += "...";
  }
  return line;
}

}  // namespace singleflight::cli
