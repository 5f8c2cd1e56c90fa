// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stdexcept>
#include <string>
#include <string_view>

namespace singleflight::cli {

/// usage_error: the user's request cannot be carried out. Its text is one line that says what is
/// wrong and how to fix it; the program prints it and exits with 2 before it has written anything.
class usage_error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// Makes text from outside (a query, a file name, a log line) safe to print as one line on a
/// terminal: control characters become spaces, and the text is cut after `max_bytes`.
std::string one_line(std::string_view text, std::size_t max_bytes = 160);

}  // namespace singleflight::cli
