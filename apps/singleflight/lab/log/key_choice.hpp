// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "lab/log/timestamp.hpp"

namespace singleflight::lab {

/// key_choice: which part of a log line is the key.
struct key_choice {
  enum class part { automatic, path, url, host_path, query, field, column, member };
  part from = part::automatic;
  std::size_t field = 0;  // from 1
  std::string name;       // of the column or of the member

  /// "path", "url", "host+path", "query", "field=3", "column=user_id", "member=request.uri".
  /// Throws usage_error.
  static key_choice parse(std::string_view text);

  /// Whether the key is a part of a URL.
  bool of_url() const {
    return from == part::path || from == part::url || from == part::host_path ||
           from == part::query;
  }
};

/// time_choice: which part of a log line is its time.
struct time_choice {
  enum class part { automatic, field, column, member };
  part from = part::automatic;
  std::size_t field = 0;  // from 1
  std::string name;
  time_unit unit = time_unit::by_size;

  /// "field=1", "column=ts", "member=event.start", each with a unit if it is a number:
  /// "field=1:ms". Throws usage_error.
  static time_choice parse(std::string_view text);
};

/// reading_choice: how a log is read, as far as the user said so.
struct reading_choice {
  key_choice key;
  time_choice time;
  char separator = '\0';  // of columns; 0: not said
  bool no_header = false;
  std::vector<std::string> ignored_query;  // names of parameters; a * at the end is for any rest

  /// ",", ";", "tab", "space", "|". Throws usage_error.
  static char parse_separator(std::string_view text);
};

/// "a,b" -> {"a", "b"}. Throws usage_error, which names the option, if one of them is empty.
std::vector<std::string> parse_names(const char* option, std::string_view text);

}  // namespace singleflight::lab
