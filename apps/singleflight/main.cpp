// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <exception>
#include <string>

#include "cli/usage_error.hpp"
#include "cli/version.hpp"
#include "lab/hit_ratio_command.hpp"
#include "lab/lab.hpp"
#include "lab/options.hpp"
#include "lab/read_command.hpp"

namespace {

constexpr int usage_exit_code = 2;

int complain(std::string_view what, int exit_code) {
  fmt::print(stderr, "singleflight: {}\n", singleflight::cli::one_line(what, 1000));
  return exit_code;
}

int run(int argc, char** argv) {
  namespace cli = singleflight::cli;
  namespace lab = singleflight::lab;
  try {
    CLI::App app(
        "Singleflight for C++: many callers request the same thing, and the work is done once.",
        "singleflight");
    app.set_version_flag("--version", std::string("singleflight ") + cli::program_version);
    app.require_subcommand(1);
    auto& lab_command = *app.add_subcommand(
        "lab",
        "Show what coalescing or a cache would save: simulate a log at its own times, or replay a "
        "workload against a backend");
    lab::lab_arguments arguments;
    lab::declare_options(lab_command, arguments);
    auto& hit_ratio_command = *lab_command.add_subcommand(
        "hit-ratio", "Show the hit ratio that a cache would have on a log, by its capacity");
    lab::hit_ratio_arguments hit_ratio_arguments;
    lab::declare_options(hit_ratio_command, hit_ratio_arguments);
    auto& read_command =
        *lab_command.add_subcommand("read", "Show how a log is read: counts, times and keys");
    lab::read_arguments read_arguments;
    lab::declare_options(read_command, read_arguments);
    try {
      app.parse(argc, argv);
    } catch (const CLI::Success& help_or_version) {
      return app.exit(help_or_version);
    } catch (const CLI::RequiredError&) {
      return complain("a command is required; try singleflight lab, or singleflight --help",
                      usage_exit_code);
    } catch (const CLI::ParseError& error) {
      const std::string command = hit_ratio_command.count() > 0 ? "hit-ratio "
                                  : read_command.count() > 0    ? "read "
                                                                : "";
      return complain(
          fmt::format("{}; singleflight lab {}--help lists the options", error.what(), command),
          usage_exit_code);
    }
    for (const auto* command : {&hit_ratio_command, &read_command}) {
      if (!command->parsed()) continue;
      for (const auto* option : lab_command.get_options()) {
        if (option->count() == 0) continue;
        return complain(fmt::format("{0} precedes {1}; options of {1} must follow it, see "
                                    "singleflight lab {1} --help",
                                    option->get_name(), command->get_name()),
                        usage_exit_code);
      }
    }
    if (hit_ratio_command.parsed()) {
      return lab::run_hit_ratio(lab::check_options(hit_ratio_arguments));
    }
    if (read_command.parsed()) return lab::run_read(lab::check_options(read_arguments));
    return lab::run_lab(lab::check_options(arguments));
  } catch (const cli::usage_error& error) {
    return complain(error.what(), usage_exit_code);
  } catch (const std::exception& error) {
    return complain(error.what(), 1);
  }
}

}  // namespace

int main(int argc, char** argv) {
  // A file that would exceed a limit (ulimit -f) is then an error of its write.
  std::signal(SIGXFSZ, SIG_IGN);
  const int code = run(argc, argv);
  if (std::fflush(stdout) == 0 && std::ferror(stdout) == 0) return code;
  return code != 0 ? code
                   : complain(fmt::format("cannot write to standard output: {}; the output is "
                                          "incomplete",
                                          std::strerror(errno)),
                              1);
}
