// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <string_view>
#include <vector>

#include "lab/log/timestamp.hpp"

namespace singleflight::lab {

/// trace_shape: a kind of trace that research publishes, in columns without a header.
struct trace_shape {
  const char* name;
  char separator;
  /// A letter for each column: n a whole number, f any number, w a word of letters, r the word for
  /// a read or a write, * anything.
  std::string_view columns;
  std::size_t key_columns[3];  // from 1; 0: none. The key is their values, joined by colons
  std::size_t time_column;     // from 1; 0: none
  time_unit unit;
  std::size_t bytes_column;  // from 1; 0: none
};

/// Whether a record in columns has this shape.
bool has_shape(const std::vector<std::string_view>& columns, const trace_shape& shape);

/// The known shapes.
const std::vector<trace_shape>& trace_shapes();

}  // namespace singleflight::lab
