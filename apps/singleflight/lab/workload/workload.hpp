// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace singleflight::lab {

/// No workload has more requests.
inline constexpr std::uint64_t most_requests = 10'000'000;

/// workload: the requests to replay, in order, each an index into the distinct keys.
struct workload {
  std::vector<std::string> keys;
  std::vector<std::uint32_t> requests;
  /// When each request came, since the first one; empty if the source does not say.
  std::vector<std::chrono::nanoseconds> stamps;
  /// What it is, in words for people: "web.log (access log, key: path)".
  std::string source;

  const std::string& key_of(std::size_t request) const { return keys[requests[request]]; }

  /// Keeps the first `count` requests and the keys that they use.
  void keep_first(std::size_t count);
};

/// Sorts the requests by their stamps, lets the first be at zero, and spreads those that share a
/// one-second stamp evenly over that second (if the log knows whole seconds only).
void arrange_by_time(workload& requests);

/// key_table: gives each distinct key its index.
class key_table {
 public:
  std::uint32_t index_of(std::string_view key);
  std::vector<std::string> take_keys() { return std::move(keys_); }
  std::size_t size() const { return keys_.size(); }

 private:
  struct text_hash : std::hash<std::string_view> {
    using is_transparent = void;
  };
  std::unordered_map<std::string, std::uint32_t, text_hash, std::equal_to<>> index_;
  std::vector<std::string> keys_;
};

}  // namespace singleflight::lab
