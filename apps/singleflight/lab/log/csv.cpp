// SPDX-License-Identifier: Apache-2.0
#include "lab/log/csv.hpp"

namespace singleflight::lab {

bool split_csv(std::string_view line, std::vector<std::string>& fields) {
  fields.clear();
  std::size_t at = 0;
  while (true) {
    auto& field = fields.emplace_back();
    if (at < line.size() && line[at] == '"') {
      ++at;
      while (true) {
        const auto quote = line.find('"', at);
        if (quote == std::string_view::npos) return false;
        field += line.substr(at, quote - at);
        at = quote + 1;
        if (at >= line.size() || line[at] != '"') break;
        field += '"';
        ++at;
      }
      if (at < line.size() && line[at] != ',') return false;
    } else {
      const auto comma = line.find(',', at);
      field = line.substr(at, comma == std::string_view::npos ? comma : comma - at);
      at = comma == std::string_view::npos ? line.size() : comma;
    }
    if (at >= line.size()) return true;
    ++at;  // skip the comma; a field follows, though it may be empty
  }
}

}  // namespace singleflight::lab
