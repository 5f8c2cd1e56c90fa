// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace singleflight::lab {

/// The most requests that a workload may have; a timed_trace may have more.
inline constexpr std::uint64_t most_requests = 10'000'000;

/// workload: the requests to replay, in order, each an index into the distinct keys.
struct workload {
  std::vector<std::string> keys;
  std::vector<std::uint32_t> requests;
  /// When each request arrived, relative to the first one; empty if the source has no times.
  std::vector<std::chrono::nanoseconds> stamps;
  /// A description for people: "web.log (access log, key: path)".
  std::string source;

  const std::string& key_of(std::size_t request) const { return keys[requests[request]]; }

  /// Drops all but the first `count` requests, and the keys that these do not use.
  void keep_first(std::size_t count);
};

/// key_table: assigns an index to each distinct key.
///
/// Cost        of a look-up two reads of memory that is far apart, whatever the number of keys; 11
///             to 22 bytes per key, in addition to the key.
class key_table {
 public:
  std::uint32_t index_of(std::string_view key);
  /// Looks up several keys, whose reads of memory overlap: for a large table, in less than half the
  /// time. `indices` has a place for each key.
  void index_all(std::span<const std::string_view> keys, std::uint32_t* indices);
  std::vector<std::string> take_keys() {
    slots_ = {};
    return std::move(keys_);
  }
  std::size_t size() const { return keys_.size(); }

 private:
  static constexpr auto unused = std::numeric_limits<std::uint32_t>::max();
  struct slot {
    std::uint32_t hash = 0;
    std::uint32_t index = unused;  // in keys_
  };

  static std::uint32_t hash_of(std::string_view key) {
    return static_cast<std::uint32_t>(std::hash<std::string_view>{}(key));
  }
  std::uint32_t index_of(std::string_view key, std::uint32_t hash);
  void reserve(std::size_t more);
  void grow();

  std::vector<std::string> keys_;
  std::vector<slot> slots_;  // a power of two of them; a key is in the first one from its hash on
                             // that was unused when it came
};

}  // namespace singleflight::lab
