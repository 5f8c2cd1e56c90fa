// SPDX-License-Identifier: Apache-2.0
#include "lab/hit_ratio/hit_ratio.hpp"

#include <limits>
#include <queue>
#include <vector>

#include "cli/interrupt.hpp"

namespace singleflight::lab {

namespace {

void check_stop(std::size_t request, const std::stop_token& stop) {
  if (request % 65536 == 0 && stop.stop_requested()) throw cli::interrupted{};
}

/// recency_list: keys from the latest to the oldest, in a circular list with a head that is not a
/// key.
class recency_list {
 public:
  explicit recency_list(std::size_t keys)
      : newer_(keys + 1, none), older_(keys + 1, none), head_(static_cast<std::uint32_t>(keys)) {
    newer_[head_] = older_[head_] = head_;
  }

  bool has(std::uint32_t key) const { return newer_[key] != none; }
  std::uint32_t oldest() const { return newer_[head_]; }
  void remove(std::uint32_t key) {
    older_[newer_[key]] = older_[key];
    newer_[older_[key]] = newer_[key];
    newer_[key] = none;
  }
  void add_latest(std::uint32_t key) {
    const auto next = older_[head_];
    older_[key] = next;
    newer_[key] = head_;
    newer_[next] = key;
    older_[head_] = key;
  }

 private:
  static constexpr auto none = std::numeric_limits<std::uint32_t>::max();
  std::vector<std::uint32_t> newer_;
  std::vector<std::uint32_t> older_;
  std::uint32_t head_;
};

/// For each request, the index of the next request for its key; the maximum if there is none.
std::vector<std::uint32_t> next_requests(const workload& requests) {
  std::vector<std::uint32_t> next(requests.requests.size());
  std::vector<std::uint32_t> last(requests.keys.size(), std::numeric_limits<std::uint32_t>::max());
  for (std::size_t i = next.size(); i-- > 0;) {
    auto& of_key = last[requests.requests[i]];
    next[i] = of_key;
    of_key = static_cast<std::uint32_t>(i);
  }
  return next;
}

}  // namespace

std::uint64_t hits_of_lru(const workload& requests, std::size_t capacity,
                          const std::stop_token& stop) {
  recency_list held(requests.keys.size());
  std::size_t size = 0;
  std::uint64_t hits = 0;
  for (std::size_t i = 0; i < requests.requests.size(); ++i) {
    check_stop(i, stop);
    const auto key = requests.requests[i];
    if (held.has(key)) {
      ++hits;
      held.remove(key);
    } else if (size == capacity) {
      held.remove(held.oldest());
    } else {
      ++size;
    }
    held.add_latest(key);
  }
  return hits;
}

std::uint64_t hits_of_optimum(const workload& requests, std::size_t capacity,
                              const std::stop_token& stop) {
  const auto next = next_requests(requests);
  struct use {
    std::uint32_t at;
    std::uint32_t key;
    bool operator<(const use& other) const { return at < other.at; }
  };
  // Contains the next use of each stored key, and also past uses. Past uses are smaller than all
  // future ones, so the greatest element is never one of them.
  std::priority_queue<use> uses;
  std::vector<bool> held(requests.keys.size(), false);
  std::size_t size = 0;
  std::uint64_t hits = 0;
  for (std::size_t i = 0; i < requests.requests.size(); ++i) {
    check_stop(i, stop);
    const auto key = requests.requests[i];
    uses.push({next[i], key});
    if (held[key]) {
      ++hits;
      continue;
    }
    held[key] = true;
    if (++size <= capacity) continue;
    held[uses.top().key] = false;
    uses.pop();
    --size;
  }
  return hits;
}

}  // namespace singleflight::lab
