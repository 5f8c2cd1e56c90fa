// SPDX-License-Identifier: Apache-2.0
#include "lab/log/log_reader.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <optional>
#include <utility>

#include "cli/interrupt.hpp"
#include "cli/units.hpp"
#include "cli/usage_error.hpp"
#include "lab/log/formats.hpp"
#include "lab/log/key_hints.hpp"
#include "lab/log/record_source.hpp"
#include "lab/log/stray_times.hpp"

namespace singleflight::lab {

namespace {

constexpr std::size_t malformed_kept = 5;

bool same_method(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](unsigned char x, unsigned char y) {
    return std::toupper(x) == std::toupper(y);
  });
}

/// method_filter: which requests are read, by their method.
class method_filter {
 public:
  method_filter(const std::vector<std::string>& chosen, bool http) : chosen_(chosen), http_(http) {}

  bool wants(std::string_view method) const {
    if (method.empty() || method == "GET") return !chosen_.empty() ? wants_chosen(method) : true;
    if (!chosen_.empty()) return wants_chosen(method);
    // A proxy that sees a CONNECT knows no more of the request.
    return !http_ || same_method(method, "GET") || same_method(method, "HEAD") ||
           method == "CONNECT";
  }

 private:
  bool wants_chosen(std::string_view method) const {
    return method.empty() || std::any_of(chosen_.begin(), chosen_.end(), [&](const auto& each) {
             return same_method(each, method);
           });
  }

  const std::vector<std::string>& chosen_;
  bool http_;
};

void count_left_out(log_account& account, std::string_view method) {
  constexpr std::size_t most_methods = 10;
  ++account.other_methods;
  auto& methods = account.left_out;
  const auto known = std::find_if(methods.begin(), methods.end(),
                                  [&](const auto& each) { return each.first == method; });
  if (known != methods.end()) {
    ++known->second;
  } else if (methods.size() < most_methods) {
    methods.emplace_back(std::string(method.substr(0, 20)), 1);
  }
}

void count_malformed(log_account& account, std::uint64_t number, const char* reason) {
  ++account.malformed;
  if (account.first_malformed.size() < malformed_kept) {
    account.first_malformed.push_back({number, reason});
  }
}

// Counts what the record is. Returns whether it is a request to read.
bool count(const reading& made, std::uint64_t number, const method_filter& methods,
           log_account& account) {
  if (made.what == reading::verdict::no_record) return false;
  ++account.lines;
  if (made.what == reading::verdict::malformed) {
    count_malformed(account, number, made.reason);
    return false;
  }
  if (made.what == reading::verdict::no_key) {
    ++account.without_key;
    return false;
  }
  if (!methods.wants(made.method)) {
    count_left_out(account, made.method);
    return false;
  }
  if (account.requests == 0) {
    account.first_key = cli::one_line(made.key, 100);
    account.first_time = made.time;
  }
  account.requests += made.count;
  if (made.status >= 500) account.failed += made.count;
  if (made.status == 304) account.not_modified += made.count;
  if (!made.time) account.without_time += made.count;
  return true;
}

void check_account(const log_account& account) {
  if (account.malformed * 2 > account.lines) {
    const auto& first = account.first_malformed.front();
    throw cli::usage_error(fmt::format(
        "--log: {} of the {} lines of {} are malformed (line {}: {}); it was read as: {}; choose "
        "the parts with --key-from and --time-from, or give a log of one kind",
        cli::show_count(account.malformed), cli::show_count(account.lines), account.name,
        first.number, first.reason, account.format));
  }
  if (account.requests > 0) return;
  if (account.other_methods > 0 && !account.chosen_methods.empty()) {
    throw cli::usage_error(
        fmt::format("--methods: {} has no {}; {} requests have other methods, the first {}",
                    account.name, account.chosen_methods, cli::show_count(account.other_methods),
                    account.left_out.front().first));
  }
  if (account.other_methods > 0) {
    throw cli::usage_error(fmt::format(
        "--log: {} has no GET or HEAD, the only requests that are read; {} others were left out, "
        "the first with {}; add --methods {}",
        account.name, cli::show_count(account.other_methods), account.left_out.front().first,
        account.left_out.front().first));
  }
  if (account.without_key > 0) {
    throw cli::usage_error(
        fmt::format("--log: none of the {} lines of {} has such a key ({}); choose another "
                    "--key-from",
                    cli::show_count(account.lines), account.name, account.format));
  }
  throw cli::usage_error(
      fmt::format("--log: {} contains no requests{}; give a log with at least one", account.name,
                  account.truncated ? " (its compressed data is incomplete)" : ""));
}

// Makes the trace from the requests as they come, some at a time.
class collector {
 public:
  collector(const log_request& request, log_account& account, const std::stop_token& stop)
      : request_(request), account_(account), stop_(stop) {}

  bool take(const reading& made) {
    const auto most = at_most();
    const auto count = std::min(made.count, most - taken_);
    if (count == 0) return true;
    taken_ += count;
    note_time(made);
    pending_text_ += made.key;
    pending_.push_back({made.key.size(), count, {relative(made), 0, duration_}});
    if (pending_.size() == most_pending) add_pending();
    return taken_ < most;
  }

  timed_trace finish() {
    add_pending();
    account_.hints = hints_.for_log(request_, account_, taken_, keys_.size());
    made_.keys = keys_.take_keys();
    return std::move(made_);
  }

 private:
  // A log without times can only be replayed.
  std::uint64_t at_most() const {
    return account_.has_time ? request_.at_most : std::min(request_.at_most, most_requests);
  }

  void add_pending() {
    std::array<std::string_view, most_pending> keys;
    std::array<std::uint32_t, most_pending> indices{};
    const char* text = pending_text_.data();
    for (std::size_t i = 0; i < pending_.size(); ++i) {
      keys[i] = {text, pending_[i].key_size};
      text += pending_[i].key_size;
    }
    std::size_t seen = keys_.size();
    keys_.index_all({keys.data(), pending_.size()}, indices.data());
    for (std::size_t i = 0; i < pending_.size(); ++i) {
      if (indices[i] == seen) {
        ++seen;
        if (account_.http) hints_.see(keys[i]);
      }
      pending_[i].request.key = indices[i];
      append(pending_[i].request, pending_[i].count);
    }
    pending_.clear();
    pending_text_.clear();
  }

  void append(const timed_request& request, std::uint64_t count) {
    for (std::uint64_t i = 0; i < count; ++i) {
      if (i % 65536 == 65535 && stop_.stop_requested()) throw cli::interrupted{};
      made_.requests.append(request);
    }
  }

  // To the first time of the log. A time that is 146 years from that is not known, so that no
  // difference of two is too large.
  stamp relative(const reading& made) {
    if (!made.time) return no_time;
    if (!std::exchange(has_time_, true)) made_.began = *made.time;
    constexpr auto farthest = stamp::rep{1} << 62U;
    stamp::rep passed{};
    if (__builtin_sub_overflow(made.time->count(), made_.began.count(), &passed) ||
        passed >= farthest || passed <= -farthest) {
      account_.without_time += made.count;
      return no_time;
    }
    return stamp(passed);
  }

  // A request whose duration the log does not say took as long as its predecessor.
  void note_time(const reading& made) {
    if (made.time) {
      if (*made.time < last_time_) ++account_.out_of_order;
      last_time_ = *made.time;
    }
    if (made.duration) {
      constexpr std::chrono::nanoseconds longest = std::chrono::hours(1);
      duration_ =
          std::chrono::duration_cast<decltype(duration_)>(std::min(*made.duration, longest));
      made_.has_durations = true;
    }
  }

  // So many look-ups that their reads of memory overlap.
  static constexpr std::size_t most_pending = 32;
  struct pending_request {
    std::size_t key_size;
    std::uint64_t count;
    timed_request request;  // without its key
  };

  const log_request& request_;
  log_account& account_;
  const std::stop_token& stop_;
  std::uint64_t taken_ = 0;  // requests
  key_table keys_;
  key_hints hints_;
  timed_trace made_;
  std::string pending_text_;  // the keys of the pending requests
  std::vector<pending_request> pending_;
  bool has_time_ = false;
  stamp last_time_ = stamp::min();
  decltype(timed_request::duration) duration_{0};
};

void need_times(const log_request& request, const log_account& account) {
  if (account.has_time && account.without_time < account.requests) return;
  if (request.how.time.from != time_choice::part::automatic) {
    throw cli::usage_error(
        fmt::format("--time-from: no time was read in {} ({}); name another part, or its unit: "
                    "--time-from column=NAME:ms",
                    account.name, account.format));
  }
  if (!request.needs_times) return;
  throw cli::usage_error(
      fmt::format("--speed: {} has no times ({}); use --callers N or --rate R, or name the time "
                  "with --time-from",
                  account.name, account.format));
}

// Whether the log goes on with another request.
bool has_more(record_source& records, line_format& format, const method_filter& methods) {
  for (record_source::record record{}; records.next(format, record);) {
    if (record.problem) continue;
    const auto made = format.read(record.text);
    if (made.what == reading::verdict::request && methods.wants(made.method)) return true;
  }
  return false;
}

}  // namespace

void scan_log(const log_request& request, log_account& account, const std::stop_token& stop,
              const request_sink& sink) {
  record_source records(request.path, stop);
  const auto& source = records.source();
  const auto head = records.read_head();
  if (source.interrupted()) throw cli::interrupted{};
  account.name = source.name();
  const auto format = detect_format(head, request.how);
  account.has_time = format->has_time();
  account.counts_seconds = format->counts_seconds();
  account.http = format->http();
  account.chosen_methods = fmt::format("{}", fmt::join(request.methods, " or "));

  const method_filter methods(request.methods, format->http());
  bool wanted = true;
  for (record_source::record record{}; wanted && records.next(*format, record);) {
    const auto made =
        record.problem ? reading::malformed(record.problem) : format->read(record.text);
    if (record.joined && made.what == reading::verdict::malformed) records.split(record);
    if (count(made, record.number, methods, account)) wanted = sink(made);
  }
  if (source.interrupted()) throw cli::interrupted{};
  account.truncated = source.truncated() && wanted;
  account.more = !wanted && has_more(records, *format, methods);
  account.format = format->describe();
  if (!account.has_time) account.without_time = 0;
  check_account(account);
}

timed_trace read_log(const log_request& request, log_account& account,
                     const std::stop_token& stop) {
  collector requests(request, account, stop);
  scan_log(request, account, stop, [&](const reading& made) { return requests.take(made); });
  need_times(request, account);
  auto made = requests.finish();
  made.source = fmt::format("{} ({})", account.name, account.format);
  // Times that only some requests have show nothing.
  made.has_times = account.has_time && account.without_time * 2 <= account.requests;
  if (!made.has_times) return made;
  account.stray = replace_stray_times(made.requests, stop);
  arrange_by_time(made, stop);
  return made;
}

}  // namespace singleflight::lab
