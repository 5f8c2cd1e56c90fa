// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <stop_token>
#include <string>
#include <utility>
#include <vector>

#include "lab/log/key_choice.hpp"
#include "lab/log/line_format.hpp"
#include "lab/workload/timed_trace.hpp"

namespace singleflight::lab {

struct log_request {
  std::string path;  // "-" is standard input
  reading_choice how;
  /// Of HTTP requests only those with one of these methods are read; empty: GET, HEAD and CONNECT.
  std::vector<std::string> methods;
  bool needs_times = false;                            // a log without times is refused
  std::uint64_t at_most = timed_trace::most_requests;  // requests
};

/// What was found in a log besides the requests.
struct log_account {
  struct bad_line {
    std::uint64_t number;
    std::string reason;
  };
  std::string name;    // of the log
  std::string format;  // "access log, key: path"
  std::string first_key;
  std::optional<stamp> first_time;
  bool has_time = false;        // the format has times
  bool counts_seconds = false;  // see line_format
  bool http = false;            // see line_format
  std::uint64_t lines = 0;      // that were read, without blank ones, headers and comments
  std::uint64_t requests = 0;
  std::uint64_t malformed = 0;
  std::uint64_t without_key = 0;
  std::string chosen_methods;       // "POST or PUT"; empty without --methods
  std::uint64_t other_methods = 0;  // requests that were left out because of their method
  std::vector<std::pair<std::string, std::uint64_t>> left_out;  // these, by method; at most ten
  std::uint64_t failed = 0;                                     // answered with a 5xx
  std::uint64_t not_modified = 0;                               // answered with a 304
  std::uint64_t without_time = 0;                               // requests, of a log with times
  std::uint64_t out_of_order = 0;         // requests with an earlier stamp than their predecessor
  std::uint64_t stray = 0;                // requests whose time is far from all others
  std::vector<bad_line> first_malformed;  // at most five
  std::vector<std::string> hints;         // what the user may want to choose
  bool truncated = false;                 // the compressed data is incomplete
  bool more = false;  // the log has more lines after the last request that was read
};

/// Receives each request of a log in order; returns whether it wants more.
using request_sink = std::function<bool(const reading&)>;

/// Reads a log request by request, in memory that does not depend on its length. Throws usage_error
/// if the log cannot be read, if more than half of its lines are malformed, or if it contains no
/// request; throws `interrupted` after a stop request.
void scan_log(const log_request& request, log_account& account, const std::stop_token& stop,
              const request_sink& sink);

/// Reads a log as numbers; if it has times that can be used, by these. Throws as scan_log does.
timed_trace read_log(const log_request& request, log_account& account, const std::stop_token& stop);

/// Prints to standard error what the log was taken for, with its first request, and which lines
/// were skipped, and why.
void print_account(const log_account& account);

}  // namespace singleflight::lab
