// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>

#include "cli/usage_error.hpp"
#include "lab/log/formats.hpp"

namespace singleflight::lab {

namespace {

using part = key_choice::part;

class key_per_line_format : public line_format {
 public:
  explicit key_per_line_format(std::size_t field) : field_(field) {}

  reading read(std::string_view line) override {
    if (has_control_characters(line))
      return reading::malformed("the line contains control characters; it is not text");
    if (field_ == 0) return {verdict::request, line, {}, nullptr};
    std::size_t at = 0;
    for (std::size_t n = 1;; ++n) {
      at = line.find_first_not_of(" \t", at);
      if (at == std::string_view::npos) return reading::malformed("the line has fewer fields");
      const auto end = std::min(line.find_first_of(" \t", at), line.size());
      if (n == field_) return {verdict::request, line.substr(at, end - at), {}, nullptr};
      at = end;
    }
  }
  bool has_time() const override { return false; }
  std::string describe() const override {
    return field_ == 0 ? "one key per line" : fmt::format("text, key: field {}", field_);
  }

 private:
  std::size_t field_;
};

}  // namespace

std::unique_ptr<line_format> recognize_key_per_line(const log_head& head,
                                                    const key_choice& choice) {
  if (choice.from == part::path || choice.from == part::url || choice.from == part::query) {
    throw cli::usage_error(
        fmt::format("--key-from: {} is not an access log (none of its first {} lines is in Common "
                    "or Combined Log Format); "
                    "use field=N, or omit --key-from for one key per line",
                    head.name, head.lines.size()));
  }
  return std::make_unique<key_per_line_format>(choice.field);
}

}  // namespace singleflight::lab
