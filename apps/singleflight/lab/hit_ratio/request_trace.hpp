// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <string_view>

#include "lab/workload/key_digests.hpp"
#include "lab/workload/spool.hpp"

namespace singleflight::lab {

/// request_trace: the requests of a log as numbers, in order: for each its key, and the size of its
/// answer.
///
/// Cost        memory by the number of distinct keys, see key_digests; 4 bytes per request in a
///             temporary file, 12 if the log has sizes.
class request_trace {
 public:
  static constexpr std::uint64_t most_requests = std::numeric_limits<std::uint32_t>::max() - 1;

  /// An answer larger than this has no size: the log is wrong.
  static constexpr std::uint64_t largest_answer = std::uint64_t{1} << 40U;

  /// A request without a size counts as one of no bytes. Returns whether its key is new.
  bool add(std::string_view key, std::optional<std::uint64_t> bytes);

  std::uint64_t requests() const { return keys_.size(); }
  std::uint32_t distinct_keys() const { return digests_.size(); }
  /// Whether at least one request has a size other than 0.
  bool has_sizes() const { return all_bytes_ > 0; }
  /// The sizes of all requests together.
  std::uint64_t all_bytes() const { return all_bytes_; }

  /// The index of each request's key, from 0 on in the order of their first requests.
  const spool<std::uint32_t>& keys() const { return keys_; }
  /// The size of each request's answer; empty if none has one.
  const spool<std::uint64_t>& sizes() const { return sizes_; }

 private:
  static constexpr auto most_bytes = std::numeric_limits<std::uint64_t>::max();

  key_digests digests_;
  spool<std::uint32_t> keys_;
  spool<std::uint64_t> sizes_;
  std::uint64_t all_bytes_ = 0;
};

}  // namespace singleflight::lab
