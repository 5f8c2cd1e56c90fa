// SPDX-License-Identifier: Apache-2.0
#include "lab/workload/workload.hpp"

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

void key_table::reserve(std::size_t more) {
  while ((keys_.size() + more) * 4 > slots_.size() * 3) grow();
}

std::uint32_t key_table::index_of(std::string_view key) {
  reserve(1);
  return index_of(key, hash_of(key));
}

std::uint32_t key_table::index_of(std::string_view key, std::uint32_t hash) {
  const auto mask = slots_.size() - 1;
  for (std::size_t at = hash & mask;; at = (at + 1) & mask) {
    auto& here = slots_[at];
    if (here.index == unused) {
      here = {hash, static_cast<std::uint32_t>(keys_.size())};
      keys_.emplace_back(key);
      return here.index;
    }
    if (here.hash == hash && keys_[here.index] == key) return here.index;
  }
}

// The places where a look-up will read are fetched for all keys before the first one is looked up.
void key_table::index_all(std::span<const std::string_view> keys, std::uint32_t* indices) {
  reserve(keys.size());
  const auto mask = slots_.size() - 1;
  for (std::size_t i = 0; i < keys.size(); ++i) {
    indices[i] = hash_of(keys[i]);
    __builtin_prefetch(&slots_[indices[i] & mask]);
  }
  for (std::size_t i = 0; i < keys.size(); ++i) {
    const auto& first = slots_[indices[i] & mask];
    if (first.index != unused) __builtin_prefetch(&keys_[first.index]);
  }
  for (std::size_t i = 0; i < keys.size(); ++i) indices[i] = index_of(keys[i], indices[i]);
}

void key_table::grow() {
  std::vector<slot> larger(std::max<std::size_t>(slots_.size() * 2, 64));
  const auto mask = larger.size() - 1;
  for (const auto& each : slots_) {
    if (each.index == unused) continue;
    std::size_t at = each.hash & mask;
    while (larger[at].index != unused) at = (at + 1) & mask;
    larger[at] = each;
  }
  slots_ = std::move(larger);
}

}  // namespace singleflight::lab
