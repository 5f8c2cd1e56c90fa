// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <string_view>

#include "lab/log/access_log.hpp"

namespace singleflight::lab {

/// Where the time and the request of a line are.
struct access_log_places {
  std::string_view line;
  std::size_t time_begin, time_end;
  std::size_t request_begin, request_end;
};

/// Reads what is around the time and the request of a line: host, status, size, duration. What a
/// producer writes there is in the functions of access_log_details.cpp, one for each place.
void read_details(const access_log_places& at, access_log_line& made);

}  // namespace singleflight::lab
