// SPDX-License-Identifier: Apache-2.0
#include "lab/log/trace_shapes.hpp"

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>

#include "lab/log/words.hpp"

namespace singleflight::lab {

namespace {

bool is_number(std::string_view text) {
  double number = 0;
  const auto got = std::from_chars(text.data(), text.data() + text.size(), number);
  return got.ec == std::errc{} && got.ptr == text.data() + text.size();
}

bool is_word(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](unsigned char c) {
    return std::isalpha(c) != 0 || c == '_';
  });
}

bool is_read_or_write(std::string_view text) {
  constexpr std::array<std::string_view, 8> words{"r",    "w",     "R",    "W",
                                                  "Read", "Write", "read", "write"};
  return std::find(words.begin(), words.end(), text) != words.end();
}

bool fits(std::string_view text, char kind) {
  switch (kind) {
    case 'n': return whole_number(text).has_value();
    case 'f': return is_number(text);
    case 'w': return is_word(text);
    case 'r': return is_read_or_write(text);
    default: return !text.empty();
  }
}

}  // namespace

bool has_shape(const std::vector<std::string_view>& columns, const trace_shape& shape) {
  if (columns.size() != shape.columns.size()) return false;
  for (std::size_t i = 0; i < columns.size(); ++i) {
    if (!fits(columns[i], shape.columns[i])) return false;
  }
  return true;
}

const std::vector<trace_shape>& trace_shapes() {
  static const std::vector<trace_shape> shapes{
      // Twitter: time, key, size of key, size of value, client, operation, ttl
      {"Twitter trace", ',', "n*nnnwn", {2}, 1, time_unit::s, 4},
      // SPC: application, block, size, operation, time
      {"SPC trace", ',', "nnnrf", {1, 2}, 5, time_unit::s, 3},
      // MSR Cambridge: time, machine, disk, operation, offset, size, response time
      {"MSR trace", ',', "n*nrnnn", {2, 3, 5}, 1, time_unit::windows, 6},
      // Alibaba: device, operation, offset, length, time
      {"Alibaba trace", ',', "nrnnn", {1, 3}, 5, time_unit::us, 4},
      // ARC: first block, number of blocks, 0, number of the request
      {"ARC trace", ' ', "nnnn", {1}, 0, time_unit::by_size, 0},
  };
  return shapes;
}

}  // namespace singleflight::lab
