// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "cli/usage_error.hpp"
#include "lab/log/access_log.hpp"
#include "lab/log/formats.hpp"

namespace singleflight::lab {

namespace {

using part = key_choice::part;

class access_log_format : public line_format {
 public:
  explicit access_log_format(key_choice choice) : choice_(std::move(choice)) {}

  reading read(std::string_view line) override {
    const auto parsed = parse_access_log_line(line);
    if (!parsed.entry) return reading::malformed(parsed.problem);
    const auto& entry = *parsed.entry;
    std::string_view key;
    if (choice_.from == part::field) {
      const auto field = access_log_field(line, choice_.field);
      if (!field || field->empty()) return reading::no_key("the line has no such field");
      key = *field;
    } else {
      if (entry.url.empty()) return reading::no_key("the client sent no request");
      const auto url = entry.url.substr(0, entry.url.find('#'));
      const auto question = url.find('?');
      if (choice_.from == part::url) {
        key = url;
      } else if (choice_.from == part::query) {
        if (question == std::string_view::npos || question + 1 == url.size()) {
          return reading::no_key("the URL has no query");
        }
        key = url.substr(question + 1);
      } else {
        key = url.substr(0, question);
      }
      if (key.empty()) return reading::no_key("the URL has no path");
    }
    return {verdict::request, key, entry.time, nullptr};
  }
  bool has_time() const override { return true; }
  std::string describe() const override {
    switch (choice_.from) {
      case part::field: return fmt::format("access log, key: field {}", choice_.field);
      case part::url: return "access log, key: URL";
      case part::query: return "access log, key: query";
      default: return "access log, key: path";
    }
  }

 private:
  key_choice choice_;
};

}  // namespace

std::unique_ptr<line_format> recognize_access_log(const log_head& head, const key_choice& choice) {
  const bool is_access_log = std::any_of(
      head.lines.begin(), head.lines.end(),
      [](const std::string& line) { return parse_access_log_line(line).entry.has_value(); });
  if (!is_access_log) return nullptr;
  if (choice.from == part::column) {
    throw cli::usage_error(fmt::format(
        "--key-from: {} is an access log and has no columns; use path, url, query or field=N",
        head.name));
  }
  return std::make_unique<access_log_format>(choice);
}

}  // namespace singleflight::lab
