// SPDX-License-Identifier: Apache-2.0
#include <fmt/chrono.h>
#include <fmt/format.h>

#include <ctime>

#include "cli/units.hpp"
#include "lab/log/log_reader.hpp"

namespace singleflight::lab {

namespace {

// A time that a clock showed, or one since the beginning of a trace.
std::string show_time(stamp time) {
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(time);
  if (time < std::chrono::hours(24 * 365 * 20)) {
    return fmt::format("{} s", cli::show_number(std::chrono::duration<double>(time).count()));
  }
  return fmt::format("{:%Y-%m-%d %H:%M:%S} UTC",
                     fmt::gmtime(static_cast<std::time_t>(seconds.count())));
}

void print_left_out(const log_account& account) {
  if (account.other_methods == 0) return;
  std::string methods;
  for (const auto& [method, number] : account.left_out) {
    methods += fmt::format("{}{} {}", methods.empty() ? "" : ", ", cli::show_count(number), method);
  }
  const auto why = account.chosen_methods.empty()
                       ? std::string("because only GET and HEAD can share an answer")
                       : fmt::format("because they are not {}", account.chosen_methods);
  fmt::print(stderr, "left out, {}: {} of {} requests ({}){}\n", why,
             cli::show_count(account.other_methods),
             cli::show_count(account.other_methods + account.requests), methods,
             account.chosen_methods.empty() ? "; --methods chooses others" : "");
}

void print_times(const log_account& account) {
  if (account.without_time > 0) {
    fmt::print(stderr, "{} of {} requests have no time that can be read\n",
               cli::show_count(account.without_time), cli::show_count(account.requests));
  }
  if (account.stray > 0) {
    fmt::print(
        stderr,
        "{} requests have a time far from all others; they are taken to have come when their "
        "neighbours did\n",
        cli::show_count(account.stray));
  }
  if (account.out_of_order > 0) {
    fmt::print(stderr,
               "{} requests have an earlier time than their predecessor; the requests are put in "
               "order of time\n",
               cli::show_count(account.out_of_order));
  }
}

}  // namespace

void print_account(const log_account& account) {
  const auto time = account.first_time ? " at " + show_time(*account.first_time)
                                       : std::string(", without a time");
  fmt::print(stderr, "{} is read as: {}; its first request: {}{}\n", account.name, account.format,
             account.first_key, time);
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
  print_left_out(account);
  if (account.failed > 0) {
    fmt::print(stderr,
               "{} of {} requests were answered with a 5xx; they count like the others, though a "
               "failure is not stored\n",
               cli::show_count(account.failed), cli::show_count(account.requests));
  }
  if (account.not_modified > 0) {
    fmt::print(
        stderr,
        "{} of {} requests were answered with a 304, because the client had the answer; they "
        "count like the others\n",
        cli::show_count(account.not_modified), cli::show_count(account.requests));
  }
  if (account.truncated)
    fmt::print(stderr, "the compressed data is incomplete; its complete lines are used\n");
  print_times(account);
  for (const auto& hint : account.hints) fmt::print(stderr, "{}\n", hint);
}

}  // namespace singleflight::lab
