// SPDX-License-Identifier: Apache-2.0
//
// Reads what libFuzzer makes up as a log. SINGLEFLIGHT_READER is the reader: its name, or "file"
// for the way from a file to its requests, with decompression. The first byte chooses the key.

#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <utility>

#include "cli/usage_error.hpp"
#include "lab/log/formats.hpp"
#include "lab/log/log_reader.hpp"

namespace lab = singleflight::lab;

namespace {

using recognizer = std::unique_ptr<lab::line_format> (*)(const lab::log_head&,
                                                         const lab::reading_choice&);

constexpr std::array<std::pair<std::string_view, recognizer>, 6> readers{
    {{"statements", lab::recognize_statements},
     {"members", lab::recognize_members},
     {"columns", lab::recognize_columns},
     {"access_log", lab::recognize_access_log},
     {"unnamed_columns", lab::recognize_unnamed_columns},
     {"key_per_line", lab::recognize_key_per_line}}};

lab::reading_choice choice_of(std::uint8_t byte) {
  constexpr std::array<const char*, 8> keys{"",      "path",    "url",        "host+path",
                                            "query", "field=2", "column=key", "member=a.b"};
  lab::reading_choice choice;
  if (const char* key = keys[byte % keys.size()]; *key != '\0') {
    choice.key = lab::key_choice::parse(key);
  }
  if (byte & 8U) choice.time = lab::time_choice::parse("field=1:ms");
  if (byte & 16U) choice.separator = ';';
  if (byte & 32U) choice.no_header = true;
  if (byte & 64U) choice.ignored_query = {"utm_*"};
  return choice;
}

void read_lines(recognizer recognize, const lab::reading_choice& choice, std::string_view text) {
  lab::log_head head{"log", {}};
  while (!text.empty() && head.lines.size() < 100) {
    const auto line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(line.size() + 1, text.size()));
    if (!line.empty()) head.lines.emplace_back(line);
  }
  const auto format = recognize(head, choice);
  if (!format) return;
  for (std::size_t i = 0; i < head.lines.size(); ++i) {
    auto record = head.lines[i];
    while (format->joins_lines() && i + 1 < head.lines.size() &&
           format->continues(record, head.lines[i + 1])) {
      record += '\n' + head.lines[++i];
    }
    const auto made = format->read(record);
    if (made.what == lab::reading::verdict::request && made.key.empty()) std::abort();
  }
  if (format->describe().empty()) std::abort();
}

void read_file(const lab::reading_choice& choice, std::string_view content) {
  static const int file = ::memfd_create("log", 0);
  if (::ftruncate(file, 0) != 0 ||
      ::pwrite(file, content.data(), content.size(), 0) != static_cast<ssize_t>(content.size())) {
    std::abort();
  }
  lab::log_request request;
  request.path = "/proc/self/fd/" + std::to_string(file);
  request.how = choice;
  request.at_most = 10'000;
  lab::log_account account;
  lab::read_log(request, account, {});
}

}  // namespace

// NOLINTNEXTLINE(readability-identifier-naming): libFuzzer calls it
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const char* const name = std::getenv("SINGLEFLIGHT_READER");
  if (size == 0 || name == nullptr) return 0;
  const auto choice = choice_of(data[0]);
  const std::string_view content(reinterpret_cast<const char*>(data) + 1, size - 1);
  try {
    for (const auto& [known, recognize] : readers) {
      if (known == name) read_lines(recognize, choice, content);
    }
    if (std::string_view(name) == "file") read_file(choice, content);
  } catch (const singleflight::cli::usage_error&) {
    // A log that cannot be read is refused.
  }
  return 0;
}
