// SPDX-License-Identifier: Apache-2.0
#include "lab/log_arguments.hpp"

#include <CLI/CLI.hpp>
#include <utility>

#include "cli/command_line.hpp"

namespace singleflight::lab {

const char* const log_help =
    "The log: an access log, JSON lines, logfmt, columns (CSV, W3C, traces), statements of a "
    "database, or one key per line; plain, gzip, zstd, xz or bzip2; - is standard input";

void declare_reading_options(CLI::App& command, log_arguments& arguments, const char* group) {
  const auto add = [&](const char* name, std::string& target, const char* type, const char* text) {
    cli::add_text_option(command, name, target, {group, type, text});
  };
  add("--key-from", arguments.key_from, "PART",
      "The part of a log line that is the key: path, url, host+path, query, field=N, column=NAME "
      "or member=a.b [host and URL; column or member key; the statement; the line]");
  add("--time-from", arguments.time_from, "PART",
      "The part that is the time: field=N, column=NAME or member=a.b; :s, :ms, :us or :ns after it "
      "is the unit of a number [found by its name or its form]");
  add("--separator", arguments.separator, "C",
      "What separates columns: a character, tab or space [found]");
  command
      .add_flag("--no-header", arguments.no_header,
                "The first line of the columns is data, not their names")
      ->group(group);
  add("--methods", arguments.methods, "LIST",
      "Read only the requests with these methods [GET,HEAD,CONNECT of HTTP requests]");
  add("--ignore-query", arguments.ignore_query, "LIST",
      "Leave these parameters of the query out of the key, for example utm_*,fbclid [none]");
}

log_request check_log(const log_arguments& arguments) {
  const auto given = [](const std::string& argument) { return !argument.empty(); };
  const std::pair<const char*, bool> reading_options[] = {
      {"--key-from needs a log; add --log FILE", given(arguments.key_from)},
      {"--time-from needs a log; add --log FILE", given(arguments.time_from)},
      {"--separator needs a log; add --log FILE", given(arguments.separator)},
      {"--no-header needs a log; add --log FILE", arguments.no_header},
      {"--methods needs a log; add --log FILE", given(arguments.methods)},
      {"--ignore-query needs a log; add --log FILE", given(arguments.ignore_query)}};
  for (const auto& [message, present] : reading_options) {
    cli::refuse_if(present && !given(arguments.log), message);
  }
  log_request request;
  request.path = arguments.log;
  auto& how = request.how;
  if (given(arguments.key_from)) how.key = key_choice::parse(arguments.key_from);
  if (given(arguments.time_from)) how.time = time_choice::parse(arguments.time_from);
  if (given(arguments.separator)) {
    how.separator = reading_choice::parse_separator(arguments.separator);
  }
  how.no_header = arguments.no_header;
  if (given(arguments.ignore_query)) {
    how.ignored_query = parse_names("--ignore-query", arguments.ignore_query);
  }
  if (given(arguments.methods)) request.methods = parse_names("--methods", arguments.methods);
  return request;
}

}  // namespace singleflight::lab
