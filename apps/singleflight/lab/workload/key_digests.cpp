// SPDX-License-Identifier: Apache-2.0
#include "lab/workload/key_digests.hpp"

#include <algorithm>
#include <functional>
#include <utility>

namespace singleflight::lab {

key_digests::numbered key_digests::index_of(std::string_view key) {
  if ((std::size_t{size_} + 1) * 4 > slots_.size() * 3) grow();
  const std::uint64_t hash = std::hash<std::string_view>{}(key);
  const slot wanted{static_cast<std::uint32_t>(hash >> 32U), static_cast<std::uint32_t>(hash), 0};
  const auto mask = slots_.size() - 1;
  for (std::size_t at = hash & mask;; at = (at + 1) & mask) {
    auto& here = slots_[at];
    if (here.number == 0) {
      here = wanted;
      here.number = ++size_;
      return {size_ - 1, true};
    }
    if (here.hash_low == wanted.hash_low && here.hash_high == wanted.hash_high) {
      return {here.number - 1, false};
    }
  }
}

void key_digests::grow() {
  std::vector<slot> larger(std::max<std::size_t>(slots_.size() * 2, 64));
  const auto mask = larger.size() - 1;
  for (const auto& each : slots_) {
    if (each.number == 0) continue;
    std::size_t at = place_of(each, mask);
    while (larger[at].number != 0) at = (at + 1) & mask;
    larger[at] = each;
  }
  slots_ = std::move(larger);
}

}  // namespace singleflight::lab
