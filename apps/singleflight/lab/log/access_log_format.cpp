// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "cli/usage_error.hpp"
#include "lab/log/access_log.hpp"
#include "lab/log/formats.hpp"
#include "lab/log/http_key.hpp"

namespace singleflight::lab {

namespace {

using part = key_choice::part;

std::optional<stamp> chosen_time(std::string_view line, const time_choice& choice) {
  return parse_trace_time(access_log_field(line, choice.field).value_or(std::string_view{}),
                          choice.unit);
}

class access_log_format : public line_format {
 public:
  access_log_format(const reading_choice& choice, bool has_time)
      : choice_(choice.key), time_(choice.time), key_(choice), has_time_(has_time) {}

  reading read(std::string_view line) override {
    const auto parsed = parser_.parse(line);
    if (parsed.what == access_log_line::content::malformed) {
      return reading::malformed(parsed.reason);
    }
    if (parsed.what == access_log_line::content::nothing) return reading::no_key(parsed.reason);
    reading made;
    made.what = reading::verdict::request;
    if (choice_.from == part::field) {
      made.key = access_log_field(line, choice_.field).value_or(std::string_view{});
      made.reason = "the line has no such field";
    } else {
      made.key = key_.of(parsed.url, parsed.host);
      made.reason = "the URL has no such part";
    }
    if (made.key.empty()) return reading::no_key(made.reason);
    made.time = time_.from == time_choice::part::field ? chosen_time(line, time_) : parsed.time;
    made.method = parsed.method;
    made.host = parsed.host;
    made.status = parsed.status;
    made.bytes = parsed.bytes;
    made.duration = parsed.duration;
    return made;
  }
  bool has_time() const override { return has_time_; }
  bool http() const override { return true; }
  std::string describe() const override {
    return choice_.from == part::field ? fmt::format("access log, key: field {}", choice_.field)
                                       : fmt::format("access log, key: {}", key_.describe());
  }

 private:
  key_choice choice_;
  time_choice time_;
  http_key key_;
  bool has_time_;
  access_log_parser parser_;
};

}  // namespace

std::unique_ptr<line_format> recognize_access_log(const log_head& head,
                                                  const reading_choice& choice) {
  access_log_parser parser;
  std::size_t bare = 0;
  bool certain = false;
  bool has_time = false;
  const bool time_chosen = choice.time.from == time_choice::part::field;
  for (const auto& line : head.lines) {
    const auto parsed = parser.parse(line);
    if (parsed.what != access_log_line::content::request) continue;
    // A word like GET with a path after it may be a part of any text.
    certain = certain || (parsed.quoted && (parsed.time || line.find(" HTTP/") != line.npos));
    bare += 1;
    has_time = has_time || (time_chosen ? chosen_time(line, choice.time) : parsed.time);
  }
  if (!certain && bare * 2 <= head.lines.size()) return nullptr;
  if (choice.key.from == part::column || choice.key.from == part::member) {
    throw cli::usage_error(
        fmt::format("--key-from: {} is an access log and has neither columns nor members; use "
                    "path, url, host+path, query or field=N",
                    head.name));
  }
  refuse_column_options(head, choice, "access log");
  refuse_named_time(head, choice, "access log");
  if (time_chosen && !has_time) {
    throw cli::usage_error(fmt::format(
        "--time-from field={}: none of the first lines of {}, an access log, has a time there; "
        "omit the option, or count the words ([...] and \"...\" are one each); its first line is "
        "{}",
        choice.time.field, head.name, cli::one_line(head.lines.front(), 120)));
  }
  return std::make_unique<access_log_format>(choice, has_time);
}

}  // namespace singleflight::lab
