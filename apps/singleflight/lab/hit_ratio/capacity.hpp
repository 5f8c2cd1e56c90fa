// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace singleflight::lab {

/// capacity: how many entries a cache may have, as a number or as a share of the distinct keys.
struct capacity {
  std::string text;             // as it was typed: "5%", "1000"
  std::optional<double> share;  // in (0, 1]
  std::size_t entries = 0;      // if `share` is empty

  /// The number of entries, at least one.
  std::size_t of(std::size_t distinct_keys) const;
};

/// Parses "1%,5%,1000". Throws usage_error.
std::vector<capacity> parse_capacities(std::string_view text);

}  // namespace singleflight::lab
