// SPDX-License-Identifier: Apache-2.0
#include "lab/workload.hpp"

#include <algorithm>
#include <limits>
#include <utility>

namespace singleflight::lab {

void workload::keep_first(std::size_t count) {
  requests.resize(std::min(count, requests.size()));
  if (!stamps.empty()) stamps.resize(requests.size());
  constexpr auto unused = std::numeric_limits<std::uint32_t>::max();
  std::vector<std::uint32_t> new_index(keys.size(), unused);
  std::vector<std::string> used;
  for (auto& request : requests) {
    auto& index = new_index[request];
    if (index == unused) {
      index = static_cast<std::uint32_t>(used.size());
      used.push_back(std::move(keys[request]));
    }
    request = index;
  }
  keys = std::move(used);
}

std::uint32_t key_table::index_of(std::string_view key) {
  if (const auto found = index_.find(key); found != index_.end()) return found->second;
  const auto index = static_cast<std::uint32_t>(keys_.size());
  keys_.emplace_back(key);
  index_.emplace(keys_.back(), index);
  return index;
}

}  // namespace singleflight::lab
