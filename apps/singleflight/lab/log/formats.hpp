// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "lab/log/key_choice.hpp"
#include "lab/log/line_format.hpp"

namespace singleflight::lab {

// The log formats. To add one:
//   1. write <name>_format.cpp: a class derived from line_format, and a function recognize_<name>;
//   2. declare that function here;
//   3. add it to known_formats in formats.cpp, before recognize_key_per_line, which accepts every
//      log that is left;
//   4. name it where the formats are listed for users: the help of --log (lab/options.cpp,
//      lab/hit_ratio_command.cpp), the error for a log with malformed lines (log_reader.cpp), and
//      docs/lab.md.

/// log_head: the beginning of a log, from which its format is recognized.
struct log_head {
  std::string name;                // for messages
  std::vector<std::string> lines;  // the first lines that are not blank
};

// Each function returns null if the log is not in its format. It throws usage_error if the log is,
// but lines of that format do not have the chosen key.

/// Recognizes an access log: at least one of the lines is a line of it.
std::unique_ptr<line_format> recognize_access_log(const log_head& head, const key_choice& choice);

/// Recognizes CSV: the first line is a header that names the chosen column, a column "key" or a
/// time column.
std::unique_ptr<line_format> recognize_csv(const log_head& head, const key_choice& choice);

/// Recognizes one key per line: any text.
std::unique_ptr<line_format> recognize_key_per_line(const log_head& head, const key_choice& choice);

/// Returns the first known format that recognizes the log. Throws usage_error.
std::unique_ptr<line_format> detect_format(const log_head& head, const key_choice& choice);

/// Returns whether the text contains control characters other than a tab; such a line is not text.
bool has_control_characters(std::string_view text);

}  // namespace singleflight::lab
