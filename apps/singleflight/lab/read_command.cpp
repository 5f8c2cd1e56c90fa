// SPDX-License-Identifier: Apache-2.0
#include "lab/read_command.hpp"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <optional>
#include <stop_token>
#include <string>
#include <utility>
#include <vector>

#include "cli/command_line.hpp"
#include "cli/interrupt.hpp"
#include "cli/temporary_file.hpp"

namespace singleflight::lab {

namespace {

// The key in quotes, in one line.
void append_quoted(std::string& out, std::string_view key) {
  out += '"';
  for (const char c : key) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '\n') {
      out += "\\n";
    } else if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (byte < 0x20 || byte == 0x7f) {
      fmt::format_to(std::back_inserter(out), "\\x{:02x}", byte);
    } else {
      out += c;
    }
  }
  out += '"';
}

/// listing: the lines of the requests. They follow the counts, which are known only at the end, so
/// all but a few are kept in a temporary file until then.
class listing {
 public:
  /// Adding throws `interrupted` after a stop request: a record may stand for very many lines.
  explicit listing(std::stop_token stop) : stop_(std::move(stop)) {}

  void add(const reading& made, bool counts_seconds) {
    if (made.time && !first_) first_ = made.time;
    if (!counts_seconds || !made.time) {
      write_second();
      for (std::uint64_t i = 0; i < made.count; ++i) write(made.time, made.key);
      return;
    }
    if (second_.empty() || *made.time != at_) write_second();
    at_ = *made.time;
    number_in_second_ += made.count;
    second_.push_back({std::string(made.key), made.count});
  }

  void print() {
    write_second();
    std::vector<char> buffer(enough);
    std::uint64_t offset = 0;
    while (file_) {
      const auto got = file_->read(offset, buffer.data(), buffer.size());
      if (got == 0) break;
      std::fwrite(buffer.data(), 1, got, stdout);
      offset += got;
    }
    std::fwrite(text_.data(), 1, text_.size(), stdout);
  }

 private:
  // Requests of which only the second is known are spread evenly over it.
  void write_second() {
    std::uint64_t index = 0;
    for (const auto& [key, count] : second_) {
      for (std::uint64_t i = 0; i < count; ++i, ++index) {
        const auto part = static_cast<double>(index) / static_cast<double>(number_in_second_);
        write(at_ + stamp(static_cast<std::int64_t>(part * 1e9)), key);
      }
    }
    second_.clear();
    number_in_second_ = 0;
  }

  void write(std::optional<stamp> time, std::string_view key) {
    if (time) {
      const std::chrono::duration<double> since = *time - *first_;
      fmt::format_to(std::back_inserter(text_), "{:.3f} ", since.count());
    } else {
      text_ += "- ";
    }
    append_quoted(text_, key);
    text_ += '\n';
    if (text_.size() >= enough) move_to_file();
  }

  void move_to_file() {
    if (stop_.stop_requested()) throw cli::interrupted{};
    if (!file_) file_.emplace();
    file_->append(text_.data(), text_.size());
    text_.clear();
  }

  static constexpr std::size_t enough = 1U << 20U;
  struct repeated_key {
    std::string key;
    std::uint64_t count;
  };

  std::stop_token stop_;
  std::optional<cli::temporary_file> file_;
  std::string text_;
  std::optional<stamp> first_;
  std::vector<repeated_key> second_;  // the requests of the second `at_`
  stamp at_{0};
  std::uint64_t number_in_second_ = 0;
};

void print_counts(const log_account& account) {
  fmt::print("requests {}\n", account.requests);
  if (account.other_methods > 0) {
    fmt::print("left out, other methods {}\n", account.other_methods);
    // Next to it, counts of 0 say nothing.
    if (account.without_key == 0 && account.malformed == 0) return;
  }
  fmt::print("ask for nothing {}\nmalformed {}\n", account.without_key, account.malformed);
}

}  // namespace

void declare_options(CLI::App& command, read_arguments& arguments) {
  constexpr const char* group = "Reading";
  command.add_option("FILE", arguments.log, log_help)->group(group);
  declare_reading_options(command, arguments, group);
  command.add_flag("--quiet", arguments.quiet, "Print only the counts")->group(group);
}

read_options check_options(const read_arguments& arguments) {
  cli::refuse_if(arguments.log.empty(),
                 "read needs a log; give its name, for example singleflight lab read access.log");
  return {check_log(arguments), arguments.quiet};
}

int run_read(const read_options& options) {
  const cli::interrupt_watch watch;
  log_account account;
  try {
    std::optional<listing> lines;
    if (!options.quiet) lines.emplace(watch.token());
    scan_log(options.log, account, watch.token(), [&](const reading& made) {
      if (lines) lines->add(made, account.counts_seconds);
      return true;
    });
    print_account(account);
    print_counts(account);
    if (lines) lines->print();
    return 0;
  } catch (const cli::interrupted&) {
    if (account.lines == 0) {
      fmt::print(stderr, "interrupted before the log was read\n");
    } else {
      fmt::print(stderr, "interrupted; these are the counts up to that point\n");
      print_counts(account);
    }
    return watch.exit_code() == 0 ? 130 : watch.exit_code();
  }
}

}  // namespace singleflight::lab
