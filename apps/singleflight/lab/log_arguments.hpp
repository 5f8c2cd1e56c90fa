// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "lab/log/log_reader.hpp"

namespace CLI {
class App;
}

namespace singleflight::lab {

/// log_arguments: the options of each command that reads a log, as they were typed.
struct log_arguments {
  std::string log, key_from, time_from, separator, methods, ignore_query;
  bool no_header = false;
};

/// Declares the options that say how a log is read. The log itself is declared by the command.
void declare_reading_options(CLI::App& command, log_arguments& arguments, const char* group);

/// The description of the logs that can be read, for help texts.
extern const char* const log_help;

/// Checks the arguments. Throws usage_error.
log_request check_log(const log_arguments& arguments);

}  // namespace singleflight::lab
