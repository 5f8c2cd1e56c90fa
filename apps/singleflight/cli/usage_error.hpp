// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stdexcept>
#include <string>
#include <string_view>

namespace singleflight::cli {

/// usage_error: what the user asked for cannot be done. Its text is one line that says what is
/// wrong and how to mend it; the program prints it and exits with 2 before it has written anything.
class usage_error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// Text from outside (a query, a file name, a log line), fit for one line on a terminal: control
/// characters become spaces and what is longer than `max_bytes` is cut.
std::string one_line(std::string_view text, std::size_t max_bytes = 160);

}  // namespace singleflight::cli
