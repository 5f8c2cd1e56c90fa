// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <utility>
#include <vector>

namespace singleflight::lab {

/// pending_loads: the loads in flight, which leave in the order of their ends; of two that end at
/// the same time, the one that began first leaves first.
///
/// Cost        constant for a load that ends no earlier than those that were added before it, as
///             all do if loads take equally long; logarithmic for others.
template <class Load>
class pending_loads {
 public:
  using duration = std::chrono::nanoseconds;

  void add(duration end, Load load) {
    pending made{end, next_++, std::move(load)};
    if (in_order_.empty() || end >= in_order_.back().end) {
      in_order_.push_back(std::move(made));
    } else {
      early_.push_back(std::move(made));
      std::push_heap(early_.begin(), early_.end(), later);
    }
    most_ = std::max(most_, size());
  }

  /// Whether a load ends at `now` or before.
  bool any_due(duration now) const {
    return (!in_order_.empty() && in_order_.front().end <= now) ||
           (!early_.empty() && early_.front().end <= now);
  }
  bool empty() const { return in_order_.empty() && early_.empty(); }
  std::size_t size() const { return in_order_.size() + early_.size(); }
  /// The largest size that there was.
  std::size_t most() const { return most_; }

  /// Removes the load that ends first, and returns it with its end. Requires that there is one.
  std::pair<duration, Load> take() {
    if (early_.empty() || (!in_order_.empty() && later(early_.front(), in_order_.front()))) {
      std::pair<duration, Load> first{in_order_.front().end, std::move(in_order_.front().load)};
      in_order_.pop_front();
      return first;
    }
    std::pop_heap(early_.begin(), early_.end(), later);
    std::pair<duration, Load> first{early_.back().end, std::move(early_.back().load)};
    early_.pop_back();
    return first;
  }

 private:
  struct pending {
    duration end;
    std::uint64_t number;
    Load load;
  };
  static bool later(const pending& a, const pending& b) {
    return a.end != b.end ? a.end > b.end : a.number > b.number;
  }

  std::deque<pending> in_order_;
  std::vector<pending> early_;  // a heap: each ended before the last one of in_order_ when added
  std::uint64_t next_ = 0;
  std::size_t most_ = 0;
};

}  // namespace singleflight::lab
