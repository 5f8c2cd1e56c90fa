// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

namespace CLI {
class App;
class Option;
}  // namespace CLI

namespace singleflight::cli {

/// How the help text shows an option: its heading, the name of its argument, its description.
struct option_help {
  const char* group;
  const char* type;
  const char* text;
};

/// Declares an option whose argument is stored as it was typed. An empty argument is rejected, so
/// an empty string means that the option was not given.
CLI::Option* add_text_option(CLI::App& command, const char* name, std::string& target,
                             const option_help& help);

/// Throws usage_error(message) when `wrong`.
void refuse_if(bool wrong, const char* message);

/// Throws usage_error for an output that is not a file, or that would overwrite the other output or
/// an input. An empty string means that the option was not given.
void check_outputs(const std::string& json, const std::string& report,
                   const std::vector<std::string>& inputs);

}  // namespace singleflight::cli
