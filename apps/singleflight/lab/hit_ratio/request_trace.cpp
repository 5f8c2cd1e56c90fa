// SPDX-License-Identifier: Apache-2.0
#include "lab/hit_ratio/request_trace.hpp"

namespace singleflight::lab {

bool request_trace::add(std::string_view key, std::optional<std::uint64_t> bytes) {
  const auto [index, is_new] = digests_.index_of(key);
  const auto size = bytes.value_or(0) <= largest_answer ? bytes.value_or(0) : 0;
  if (size > 0 && !has_sizes()) {
    for (std::uint64_t i = 0; i < keys_.size(); ++i) sizes_.append(0);
  }
  keys_.append(index);
  all_bytes_ = size <= most_bytes - all_bytes_ ? all_bytes_ + size : most_bytes;
  if (has_sizes()) sizes_.append(size);
  return is_new;
}

}  // namespace singleflight::lab
