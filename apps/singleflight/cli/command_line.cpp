// SPDX-License-Identifier: Apache-2.0
#include "cli/command_line.hpp"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <filesystem>

#include "cli/usage_error.hpp"

namespace singleflight::cli {

namespace {

bool same_file(const std::string& a, const std::string& b) {
  if (a.empty() || b.empty()) return false;
  namespace fs = std::filesystem;
  std::error_code error;
  if (fs::exists(a, error) && fs::exists(b, error)) {
    // Both outputs may go to the null device.
    return fs::is_regular_file(a, error) && fs::equivalent(a, b, error);
  }
  return fs::weakly_canonical(a, error) == fs::weakly_canonical(b, error);
}

}  // namespace

CLI::Option* add_text_option(CLI::App& command, const char* name, std::string& target,
                             const option_help& help) {
  return command.add_option(name, target, help.text)
      ->group(help.group)
      ->type_name(help.type)
      ->each([name](const std::string& text) {
        if (text.empty())
          throw usage_error(
              fmt::format("{}: the value is empty; give one or omit the option", name));
      });
}

void refuse_if(bool wrong, const char* message) {
  if (wrong) throw usage_error(message);
}

void check_outputs(const std::string& json, const std::string& report,
                   const std::vector<std::string>& inputs) {
  refuse_if(json == "-", "--json: '-' is not a file; name one, for example --json results.json");
  refuse_if(report == "-", "--report: '-' is not a file; name one, for example --report lab.html");
  refuse_if(same_file(json, report),
            "--json and --report name the same file; use two different files");
  for (const auto& input : inputs) {
    refuse_if(same_file(json, input), "--json would overwrite an input; choose another file");
    refuse_if(same_file(report, input), "--report would overwrite an input; choose another file");
  }
}

}  // namespace singleflight::cli
