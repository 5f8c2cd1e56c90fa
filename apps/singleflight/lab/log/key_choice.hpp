// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace singleflight::lab {

/// key_choice: which part of a log line is the key.
struct key_choice {
  enum class part { automatic, path, url, query, field, column };
  part from = part::automatic;
  std::size_t field = 0;  // from 1
  std::string column;

  /// "path", "url", "query", "field=3", "column=user_id". Throws usage_error.
  static key_choice parse(std::string_view text);
};

}  // namespace singleflight::lab
