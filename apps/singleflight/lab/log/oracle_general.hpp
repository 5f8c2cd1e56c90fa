// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace singleflight::lab {

/// oracle_general_record: a request of libCacheSim's binary traces "oracleGeneral", which are
/// records of 24 bytes: time (s), object, size, and the index of the object's next request.
struct oracle_general_record {
  static constexpr std::size_t size_in_bytes = 24;

  std::uint32_t time;
  std::uint64_t object;
  std::uint32_t bytes;
  std::int64_t next;

  /// Requires size_in_bytes bytes.
  static oracle_general_record from(std::string_view bytes);
};

/// Whether the beginning of a file is that of such a trace.
bool looks_like_oracle_general(std::string_view beginning);

}  // namespace singleflight::lab
