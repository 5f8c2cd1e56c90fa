// SPDX-License-Identifier: Apache-2.0
#include "cli/text_table.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace singleflight::cli {

std::string aligned(const std::vector<cells>& rows) {
  std::vector<std::size_t> widths(rows.front().size());
  for (const auto& row : rows) {
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  std::string text;
  for (const auto& row : rows) {
    std::string line;
    for (std::size_t i = 0; i < row.size(); ++i) {
      line += i == 0 ? fmt::format("{:<{}}", row[i], widths[i])
                     : fmt::format("  {:>{}}", row[i], widths[i]);
    }
    text += line + "\n";
  }
  return text;
}

}  // namespace singleflight::cli
