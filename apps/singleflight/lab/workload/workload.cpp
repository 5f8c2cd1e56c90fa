// SPDX-License-Identifier: Apache-2.0
#include "lab/workload/workload.hpp"

#include <algorithm>
#include <limits>
#include <numeric>
#include <utility>

namespace singleflight::lab {

namespace {

// One vector after the other, so that only one of them is there twice.
template <class T>
void put_in_order(std::vector<T>& values, const std::vector<std::uint32_t>& order) {
  if (values.empty()) return;
  std::vector<T> arranged(values.size());
  for (std::size_t i = 0; i < order.size(); ++i) arranged[i] = values[order[i]];
  values = std::move(arranged);
}

}  // namespace

void workload::keep_first(std::size_t count) {
  requests.resize(std::min(count, requests.size()));
  if (!stamps.empty()) stamps.resize(requests.size());
  if (!durations.empty()) durations.resize(requests.size());
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

void arrange_by_time(workload& requests) {
  using std::chrono::nanoseconds;
  auto& stamps = requests.stamps;
  if (stamps.size() != requests.requests.size()) stamps.clear();  // some requests have no time
  if (stamps.empty()) return;
  if (!std::is_sorted(stamps.begin(), stamps.end())) {
    std::vector<std::uint32_t> order(stamps.size());
    std::iota(order.begin(), order.end(), 0U);
    std::stable_sort(order.begin(), order.end(),
                     [&](std::uint32_t a, std::uint32_t b) { return stamps[a] < stamps[b]; });
    put_in_order(requests.requests, order);
    put_in_order(stamps, order);
    put_in_order(requests.durations, order);
  }
  requests.began = stamps.front();
  for (auto& stamp : stamps) stamp -= requests.began;

  const nanoseconds second = std::chrono::seconds(1);
  if (std::any_of(stamps.begin(), stamps.end(),
                  [&](nanoseconds t) { return t % second != nanoseconds(0); }))
    return;
  for (std::size_t begin = 0; begin < stamps.size();) {
    std::size_t end = begin;
    while (end < stamps.size() && stamps[end] == stamps[begin]) ++end;
    const auto share = second / static_cast<std::int64_t>(end - begin);
    for (std::size_t i = begin; i < end; ++i)
      stamps[i] += share * static_cast<std::int64_t>(i - begin);
    begin = end;
  }
}

}  // namespace singleflight::lab
