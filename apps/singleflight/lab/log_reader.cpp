// SPDX-License-Identifier: Apache-2.0
#include "lab/log_reader.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <numeric>
#include <utility>

#include "lab/line_source.hpp"
#include "lab/units.hpp"
#include "lab/usage_error.hpp"

namespace singleflight::lab {

namespace {

constexpr std::size_t lines_looked_at = 100;
constexpr std::size_t malformed_named = 5;

bool blank(std::string_view text) {
  return text.find_first_not_of(" \t") == std::string_view::npos;
}

class collector {
 public:
  collector(const log_request& request, log_account& account)
      : request_(request), account_(account) {}

  bool full() const {
    const auto most = request_.at_most == 0 ? most_log_requests : request_.at_most;
    return made_.requests.size() >= most;
  }

  void take(line_format& format, std::string_view text, std::uint64_t number, bool too_long) {
    ++account_.lines;
    const auto reading = too_long ? line_format::reading{line_format::verdict::malformed,
                                                         {},
                                                         {},
                                                         "longer than 65536 bytes"}
                                  : format.read(text);
    switch (reading.what) {
      case line_format::verdict::malformed:
        ++account_.malformed;
        if (account_.first_malformed.size() < malformed_named) {
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

void refuse_hopeless(const log_account& account, const std::string& name, const workload& made) {
  if (account.malformed * 2 > account.lines) {
    const auto& first = account.first_malformed.front();
    throw usage_error(
        fmt::format("--log: {} of the {} lines of {} are malformed (line {}: {}); give an access "
                    "log in Common or Combined "
                    "Log Format, a CSV with a header, or one key per line",
                    show_count(account.malformed), show_count(account.lines), name, first.number,
                    first.reason));
  }
  if (!made.requests.empty()) return;
  if (account.without_key > 0) {
    throw usage_error(
        fmt::format("--log: none of the {} lines of {} has such a key; choose another --key-from",
                    show_count(account.lines), name));
  }
  throw usage_error(fmt::format("--log: {} holds no requests{}; give a log with at least one", name,
                                account.truncated ? " (its gzip data is cut off)" : ""));
}

}  // namespace

workload read_log(const log_request& request, log_account& account, const std::stop_token& stop) {
  line_source source(request.path);
  struct held_line {
    std::uint64_t number;
    bool too_long;
  };
  std::vector<std::string> first_lines;
  std::vector<held_line> held;
  line_source::line line{};
  while (first_lines.size() < lines_looked_at && source.next(line)) {
    if (blank(line.text) && !line.too_long) continue;
    first_lines.emplace_back(line.text);
    held.push_back({line.number, line.too_long});
  }
  if (source.interrupted() || stop.stop_requested()) throw interrupted{};

  const auto format = detect_format(source.name(), first_lines, request.key);
  if (request.by_time && !format->has_time()) {
    throw usage_error(fmt::format(
        "--speed: {} has no times ({}); use --callers N or --rate R, or a log with a time column",
        source.name(), format->describe()));
  }
  collector requests(request, account);
  std::size_t next_held = format->has_header() ? 1 : 0;
  for (; next_held < held.size() && !requests.full(); ++next_held) {
    const auto& [number, too_long] = held[next_held];
    requests.take(*format, first_lines[next_held], number, too_long);
  }
  while (!requests.full() && source.next(line)) {
    if (line.number % 4096 == 0 && stop.stop_requested()) throw interrupted{};
    if (blank(line.text) && !line.too_long) continue;
    requests.take(*format, line.text, line.number, line.too_long);
  }
  if (source.interrupted() || stop.stop_requested()) throw interrupted{};
  account.truncated = source.truncated() && !requests.full();
  account.more = requests.full() && (next_held < held.size() || source.next(line));

  auto made = requests.finish();
  refuse_hopeless(account, source.name(), made);
  made.source = fmt::format("{} ({})", source.name(), format->describe());
  if (request.by_time) arrange_by_time(made);
  return made;
}

void tell_about(const log_account& account) {
  for (const auto& [number, reason] : account.first_malformed) {
    fmt::print(stderr, "line {}: {}\n", show_count(number), reason);
  }
  if (account.malformed > 0) {
    fmt::print(stderr, "{} of {} lines are malformed; they are skipped\n",
               show_count(account.malformed), show_count(account.lines));
  }
  if (account.without_key > 0) {
    fmt::print(stderr,
               "{} of {} lines ask for nothing (no request, or no such key); they are skipped\n",
               show_count(account.without_key), show_count(account.lines));
  }
  if (account.truncated) fmt::print(stderr, "the gzip data is cut off; its whole lines are used\n");
  if (account.out_of_order > 0) {
    fmt::print(
        stderr,
        "{} requests are stamped before their predecessor; they are replayed in order of time\n",
        show_count(account.out_of_order));
  }
}

void arrange_by_time(workload& requests) {
  auto& stamps = requests.stamps;
  if (stamps.empty()) return;
  std::vector<std::uint32_t> order(stamps.size());
  std::iota(order.begin(), order.end(), 0U);
  std::stable_sort(order.begin(), order.end(),
                   [&](std::uint32_t a, std::uint32_t b) { return stamps[a] < stamps[b]; });
  std::vector<std::uint32_t> keys(order.size());
  std::vector<stamp> times(order.size());
  for (std::size_t i = 0; i < order.size(); ++i) {
    keys[i] = requests.requests[order[i]];
    times[i] = stamps[order[i]] - stamps[order[0]];
  }
  requests.requests = std::move(keys);
  stamps = std::move(times);

  const stamp second = std::chrono::seconds(1);
  if (std::any_of(stamps.begin(), stamps.end(), [&](stamp t) { return t % second != stamp(0); }))
    return;
  for (std::size_t begin = 0; begin < stamps.size();) {
    std::size_t end = begin;
    while (end < stamps.size() && stamps[end] == stamps[begin]) ++end;
    const auto share = second / static_cast<std::int64_t>(end - begin);
    for (std::size_t i = begin; i < end; ++i)
      stamps[i] += share * static_cast<std::int64_t>(i - begin);
    begin = end;
  }
}

}  // namespace singleflight::lab
