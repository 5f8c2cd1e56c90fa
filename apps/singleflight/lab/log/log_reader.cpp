// SPDX-License-Identifier: Apache-2.0
#include "lab/log/log_reader.hpp"

#include <fmt/format.h>

#include <cstdio>
#include <utility>

#include "cli/interrupt.hpp"
#include "cli/units.hpp"
#include "cli/usage_error.hpp"
#include "lab/log/formats.hpp"
#include "lab/log/line_source.hpp"

namespace singleflight::lab {

namespace {

constexpr std::size_t lines_of_head = 100;
constexpr std::size_t malformed_kept = 5;

bool blank(std::string_view text) {
  return text.find_first_not_of(" \t") == std::string_view::npos;
}

class collector {
 public:
  collector(const log_request& request, log_account& account)
      : request_(request), account_(account) {}

  bool full() const {
    const auto most = request_.at_most == 0 ? most_requests : request_.at_most;
    return made_.requests.size() >= most;
  }

  void take(line_format& format, std::string_view text, std::uint64_t number, bool too_long) {
    ++account_.lines;
    const auto reading = too_long ? line_format::reading{line_format::verdict::malformed,
                                                         {},
                                                         {},
                                                         "the line is longer than 65536 bytes"}
                                  : format.read(text);
    switch (reading.what) {
      case line_format::verdict::malformed:
        ++account_.malformed;
        if (account_.first_malformed.size() < malformed_kept) {
          account_.first_malformed.push_back({number, reading.reason});
        }
        return;
      case line_format::verdict::no_key: ++account_.without_key; return;
      case line_format::verdict::request: break;
    }
    made_.requests.push_back(keys_.index_of(reading.key));
    if (!request_.by_time || !reading.time) return;
    if (!made_.stamps.empty() && *reading.time < made_.stamps.back()) ++account_.out_of_order;
    made_.stamps.push_back(*reading.time);
  }

  workload finish() {
    made_.keys = keys_.take_keys();
    return std::move(made_);
  }

 private:
  const log_request& request_;
  log_account& account_;
  key_table keys_;
  workload made_;
};

void check_account(const log_account& account, const std::string& name, const workload& made) {
  if (account.malformed * 2 > account.lines) {
    const auto& first = account.first_malformed.front();
    throw cli::usage_error(
        fmt::format("--log: {} of the {} lines of {} are malformed (line {}: {}); give an access "
                    "log in Common or Combined "
                    "Log Format, a CSV with a header, or one key per line",
                    cli::show_count(account.malformed), cli::show_count(account.lines), name,
                    first.number, first.reason));
  }
  if (!made.requests.empty()) return;
  if (account.without_key > 0) {
    throw cli::usage_error(
        fmt::format("--log: none of the {} lines of {} has such a key; choose another --key-from",
                    cli::show_count(account.lines), name));
  }
  throw cli::usage_error(
      fmt::format("--log: {} contains no requests{}; give a log with at least one", name,
                  account.truncated ? " (its gzip data is incomplete)" : ""));
}

}  // namespace

workload read_log(const log_request& request, log_account& account, const std::stop_token& stop) {
  line_source source(request.path);
  struct held_line {
    std::uint64_t number;
    bool too_long;
  };
  log_head head{source.name(), {}};
  std::vector<held_line> held;
  line_source::line line{};
  while (head.lines.size() < lines_of_head && source.next(line)) {
    if (blank(line.text) && !line.too_long) continue;
    head.lines.emplace_back(line.text);
    held.push_back({line.number, line.too_long});
  }
  if (source.interrupted() || stop.stop_requested()) throw cli::interrupted{};

  const auto format = detect_format(head, request.key);
  if (request.needs_times && !format->has_time()) {
    throw cli::usage_error(fmt::format(
        "--speed: {} has no times ({}); use --callers N or --rate R, or a log with a time column",
        source.name(), format->describe()));
  }
  collector requests(request, account);
  std::size_t next_held = format->has_header() ? 1 : 0;
  for (; next_held < held.size() && !requests.full(); ++next_held) {
    const auto& [number, too_long] = held[next_held];
    requests.take(*format, head.lines[next_held], number, too_long);
  }
  while (!requests.full() && source.next(line)) {
    if (line.number % 4096 == 0 && stop.stop_requested()) throw cli::interrupted{};
    if (blank(line.text) && !line.too_long) continue;
    requests.take(*format, line.text, line.number, line.too_long);
  }
  if (source.interrupted() || stop.stop_requested()) throw cli::interrupted{};
  account.truncated = source.truncated() && !requests.full();
  account.more = requests.full() && (next_held < held.size() || source.next(line));

  auto made = requests.finish();
  check_account(account, source.name(), made);
  made.source = fmt::format("{} ({})", source.name(), format->describe());
  if (request.by_time) arrange_by_time(made);
  return made;
}

void print_skipped(const log_account& account) {
  for (const auto& [number, reason] : account.first_malformed) {
    fmt::print(stderr, "line {}: {}\n", cli::show_count(number), reason);
  }
  if (account.malformed > 0) {
    fmt::print(stderr, "{} of {} lines are malformed and were skipped\n",
               cli::show_count(account.malformed), cli::show_count(account.lines));
  }
  if (account.without_key > 0) {
    fmt::print(stderr, "{} of {} lines have no request or no such key and were skipped\n",
               cli::show_count(account.without_key), cli::show_count(account.lines));
  }
  if (account.truncated)
    fmt::print(stderr, "the gzip data is incomplete; its complete lines are used\n");
  if (account.out_of_order > 0) {
    fmt::print(stderr,
               "{} requests have an earlier time than their predecessor; they are replayed in "
               "order of time\n",
               cli::show_count(account.out_of_order));
  }
}

}  // namespace singleflight::lab
