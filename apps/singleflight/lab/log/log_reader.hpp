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
  bool by_time = false;  // the requests in order of their stamps, which are then filled in
  std::uint64_t at_most =
      0;  // requests; 0 means as many as there are (up to log_reader's own bound)
};

/// What reading a log gave besides the requests.
struct log_account {
  struct bad_line {
    std::uint64_t number;
    std::string reason;
  };
  std::uint64_t lines = 0;  // looked at; blank ones and a header do not count
  std::uint64_t malformed = 0;
  std::uint64_t without_key = 0;
  std::uint64_t out_of_order = 0;         // stamped before their predecessor
  std::vector<bad_line> first_malformed;  // a few
  bool truncated = false;                 // the gzip data ended too soon
  bool more = false;                      // the log goes on after the last request taken
};

/// Reads a log into a workload. Throws usage_error if it cannot be read, if more than half of its
/// lines are malformed, or if it holds no request; `interrupted` when asked to stop.
workload read_log(const log_request& request, log_account& account, const std::stop_token& stop);

/// Says on standard error what was skipped, and why.
void tell_about(const log_account& account);

}  // namespace singleflight::lab
