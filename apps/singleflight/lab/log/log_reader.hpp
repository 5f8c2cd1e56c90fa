// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <stop_token>
#include <string>
#include <vector>

#include "lab/log/key_choice.hpp"
#include "lab/workload/workload.hpp"

namespace singleflight::lab {

struct log_request {
  std::string path;  // "-" is standard input
  key_choice key;
  bool by_time = false;       // if the log has times: sort by them, and set workload::stamps
  bool needs_times = false;   // a log without times is refused
  std::uint64_t at_most = 0;  // requests; 0: all of them, up to most_requests
};

/// What was found in a log besides the requests.
struct log_account {
  struct bad_line {
    std::uint64_t number;
    std::string reason;
  };
  std::uint64_t lines = 0;  // that were read, without blank ones and a header
  std::uint64_t malformed = 0;
  std::uint64_t without_key = 0;
  std::uint64_t out_of_order = 0;         // requests with an earlier stamp than their predecessor
  std::vector<bad_line> first_malformed;  // at most five
  bool truncated = false;                 // the gzip data is incomplete
  bool more = false;  // the log has more lines after the last request that was read
};

/// Reads a log into a workload. Throws usage_error if the log cannot be read, if more than half of
/// its lines are malformed, or if it contains no request; throws `interrupted` after a stop
/// request.
workload read_log(const log_request& request, log_account& account, const std::stop_token& stop);

/// Prints to standard error which lines were skipped, and why.
void print_skipped(const log_account& account);

}  // namespace singleflight::lab
