// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "lab/log/log_reader.hpp"
#include "lab/workload/key_digests.hpp"

namespace singleflight::lab {

/// key_hints: sees the distinct keys of a log, and says what the user may want to choose.
class key_hints {
 public:
  /// Called once for each distinct key of a log of HTTP requests.
  void see(std::string_view key) { without_query_.index_of(key.substr(0, key.find('?'))); }

  /// The hints for a log that was read whole, with so many requests for so many distinct keys.
  std::vector<std::string> for_log(const log_request& request, const log_account& account,
                                   std::uint64_t requests, std::uint64_t distinct) const;

 private:
  key_digests without_query_;
};

}  // namespace singleflight::lab
