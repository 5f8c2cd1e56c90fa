// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "lab/log/key_choice.hpp"
#include "lab/log/line_format.hpp"

namespace singleflight::lab {

// The formats of logs. To add one: write <name>_format.cpp with a class derived from line_format and
// a function like these that recognizes it, declare the function here, and add it to the list in
// formats.cpp. Nothing else in the program knows which formats there are.

/// log_head: the beginning of a log, by which its format is recognized.
struct log_head {
  std::string name;                // of the log, for messages
  std::vector<std::string> lines;  // the first ones that are not blank
};

// Each returns null when the log is not in its format. Each throws usage_error when it is, but the
// key cannot be taken from that format.

/// An access log: any of the lines reads as one.
std::unique_ptr<line_format> recognize_access_log(const log_head& head, const key_choice& choice);

/// CSV: the first line is a header with the column asked for, or with "key", or with a time column.
std::unique_ptr<line_format> recognize_csv(const log_head& head, const key_choice& choice);

/// One key per line: any text.
std::unique_ptr<line_format> recognize_key_per_line(const log_head& head, const key_choice& choice);

/// The first format in the list that recognizes the log. Throws usage_error as they do.
std::unique_ptr<line_format> detect_format(const log_head& head, const key_choice& choice);

/// No text holds these; a tab is none of them.
bool has_control_characters(std::string_view text);

}  // namespace singleflight::lab
