// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <exception>
#include <string>

#include "lab/lab.hpp"
#include "lab/options.hpp"
#include "lab/usage_error.hpp"
#include "lab/version.hpp"

namespace {

constexpr int usage_exit_code = 2;

int complain(std::string_view what, int exit_code) {
  fmt::print(stderr, "singleflight: {}\n", singleflight::lab::one_line(what, 1000));
  return exit_code;
}

}  // namespace

int main(int argc, char** argv) {
  namespace lab = singleflight::lab;
  try {
    CLI::App app(
        "Singleflight for C++: many callers ask for the same thing, the work happens once.",
        "singleflight");
    app.set_version_flag("--version", std::string("singleflight ") + lab::program_version);
    app.require_subcommand(1);
    auto& lab_command = *app.add_subcommand(
        "lab",
        "Replay a workload against a backend, once per protection, and show what each costs");
    lab::lab_arguments arguments;
    lab::declare_options(lab_command, arguments);
    try {
      app.parse(argc, argv);
    } catch (const CLI::Success& help_or_version) {
      return app.exit(help_or_version);
    } catch (const CLI::RequiredError&) {
      return complain("say what to do; try singleflight lab, or singleflight --help",
                      usage_exit_code);
    } catch (const CLI::ParseError& error) {
      return complain(fmt::format("{}; singleflight lab --help lists the options", error.what()),
                      usage_exit_code);
    }
    return lab::run_lab(lab::check_options(arguments));
  } catch (const lab::usage_error& error) {
    return complain(error.what(), usage_exit_code);
  } catch (const std::exception& error) {
    return complain(error.what(), 1);
  }
}
