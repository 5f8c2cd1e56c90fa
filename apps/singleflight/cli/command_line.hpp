// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

namespace CLI {
class App;
class Option;
}  // namespace CLI

namespace singleflight::cli {

/// How an option is shown: under which heading, what its argument is called, what it does.
struct option_help {
  const char* group;
  const char* type;
  const char* text;
};

/// Declares an option that is kept as it was typed. An empty argument is refused, so empty means
/// not given.
CLI::Option* add_text_option(CLI::App& command, const char* name, std::string& target,
                             const option_help& help);

/// Throws usage_error(message) when `wrong`.
void refuse_if(bool wrong, const char* message);

/// Refuses outputs that are no files, or that would overwrite one another or an input. Empty: not
/// given.
void check_outputs(const std::string& json, const std::string& report,
                   const std::vector<std::string>& inputs);

}  // namespace singleflight::cli
