// SPDX-License-Identifier: Apache-2.0
#include "lab/hit_ratio/hit_ratio.hpp"

#include <algorithm>
#include <limits>
#include <vector>

#include "cli/interrupt.hpp"
#include "lab/hit_ratio/count_hits.hpp"

namespace singleflight::lab {

namespace {

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

/// upcoming_uses: the next use of each stored key, of which the latest can be removed.
///
/// A use that has come stays until it is removed with others. It is earlier than all that have not,
/// so it is never the latest one while a key is stored.
class upcoming_uses {
 public:
  struct use {
    std::uint32_t at;  // the index of a request
    std::uint32_t key;
    bool operator<(const use& other) const { return at < other.at; }
  };

  /// `now` is the index of the request that is made.
  void add(use next, std::uint32_t now) {
    if (heap_.size() >= most_) remove_past(now);
    heap_.push_back(next);
    std::push_heap(heap_.begin(), heap_.end());
  }
  use remove_latest() {
    std::pop_heap(heap_.begin(), heap_.end());
    const auto latest = heap_.back();
    heap_.pop_back();
    return latest;
  }

 private:
  void remove_past(std::uint32_t now) {
    std::erase_if(heap_, [&](const use& each) { return each.at <= now; });
    std::make_heap(heap_.begin(), heap_.end());
    most_ = std::max(2 * heap_.size(), fewest);
  }

  static constexpr std::size_t fewest = 1024;
  std::vector<use> heap_;
  std::size_t most_ = fewest;
};

}  // namespace

cache_hits hits_of_lru(const request_trace& trace, std::size_t capacity,
                       const std::stop_token& stop) {
  recency_list held(trace.distinct_keys());
  std::size_t size = 0;
  return count_hits(trace, stop, [&](std::uint32_t key) {
    const bool hit = held.has(key);
    if (hit) {
      held.remove(key);
    } else if (size == capacity) {
      held.remove(held.oldest());
    } else {
      ++size;
    }
    held.add_latest(key);
    return hit;
  });
}

next_requests::next_requests(const request_trace& trace, const std::stop_token& stop) {
  std::vector<std::uint32_t> last(trace.distinct_keys(), never);
  using cursor = spool<std::uint32_t>::cursor;
  cursor keys(trace.keys(), cursor::direction::backwards);
  for (auto i = trace.requests(); i-- > 0;) {
    if (i % 65536 == 0 && stop.stop_requested()) throw cli::interrupted{};
    auto& of_key = last[keys.next()];
    from_last_.append(of_key);
    of_key = static_cast<std::uint32_t>(i);
  }
}

cache_hits hits_of_optimum(const request_trace& trace, const next_requests& next,
                           std::size_t capacity, const std::stop_token& stop) {
  next_requests::cursor following(next);
  upcoming_uses uses;
  std::vector<bool> held(trace.distinct_keys(), false);
  std::size_t size = 0;
  std::uint32_t now = 0;
  return count_hits(trace, stop, [&](std::uint32_t key) {
    uses.add({following.next(), key}, now++);
    if (held[key]) return true;
    held[key] = true;
    if (++size <= capacity) return false;
    held[uses.remove_latest().key] = false;
    --size;
    return false;
  });
}

}  // namespace singleflight::lab
