// SPDX-License-Identifier: Apache-2.0
#pragma once

// call_window: how many of the latest calls failed, or were slow.
//
// Counters are never reset: they only grow, in per-thread stripes (striped_counters), so that a
// call costs a load and a store on memory of its own thread. A bucket, a tenth of the window, keeps
// the totals at the moment it began; the window is the difference between the totals and the oldest
// of these. So no thread clears a bucket while another counts in it, and a bucket that is used
// again holds nothing stale.
//
// What may be wrong, and by how much:
// CW1 A call counts in the bucket in which it is added, not in that of the time it read: a thread
//     that is held up between the two counts late, one call a thread at most. Never early: a thread
//     that finds the bucket over begins the next one before it adds.
// CW2 The totals are read one by one while other threads add: they may miss one call of each such
//     thread, or include its failure and not yet the call. Counts never go down, since every read
//     is made under the owner's lock: the next one sees at least what this one saw.
// With one thread the window is exact, to the width of a bucket: it covers the current bucket and
// the nine before.

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>

#include "singleflight/core/support/striped_counters.hpp"
#include "singleflight/core/timer.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

struct call_counts {
  std::uint64_t calls = 0;
  std::uint64_t failures = 0;
  std::uint64_t slow = 0;
};

/// Members that end in _locked are called under a lock of the owner; the rest need none.
class call_window {
 public:
  call_window(std::chrono::nanoseconds length, steady_time now) noexcept
      : width_(std::max<std::int64_t>(length.count() / buckets, 1)), turn_at_(turn_after(now)) {}

  /// Returns whether the bucket is over: turn_locked is then called before the next add.
  bool due(steady_time now) const noexcept {
    return now.time_since_epoch().count() >= turn_at_.load(memory_order_relaxed);
  }
  void add(bool failed, bool slow) noexcept {
    counters_.add(counter::calls);
    if (failed) counters_.add(counter::failures);
    if (slow) counters_.add(counter::slow);
  }
  void add_rejected() noexcept { counters_.add(counter::rejected); }

  /// Begins as many buckets as are due; called under the lock, where another thread may have done
  /// so.
  void turn_locked(steady_time now) noexcept {
    if (!due(now)) return;
    const std::chrono::nanoseconds turn(turn_at_.load(memory_order_relaxed));
    const std::int64_t skipped = time_between(steady_time(turn), now).count() / width_;
    const steady_time began(turn + std::chrono::nanoseconds(skipped * width_));
    turn_at_.store(turn_after(began), memory_order_relaxed);
    const call_counts current = totals();
    for (std::int64_t i = std::min<std::int64_t>(skipped, buckets - 1); i >= 0; --i) {
      newest_ = (newest_ + 1) % buckets;
      begin_totals_[newest_] = current;
    }
  }
  /// Empties the window: calls so far are not counted any more.
  void restart_locked() noexcept { begin_totals_.fill(totals()); }
  call_counts recent_locked() const noexcept {
    const call_counts current = totals();
    const call_counts& oldest = begin_totals_[(newest_ + 1) % buckets];
    return {current.calls - oldest.calls, current.failures - oldest.failures,
            current.slow - oldest.slow};
  }

  call_counts totals() const noexcept {
    const auto sum = counters_.totals();
    return {sum[index_of(counter::calls)], sum[index_of(counter::failures)],
            sum[index_of(counter::slow)]};
  }
  std::uint64_t rejected() const noexcept {
    return counters_.totals()[index_of(counter::rejected)];
  }

 private:
  static constexpr int buckets = 10;
  enum class counter : std::uint8_t { calls, failures, slow, rejected };
  static constexpr std::size_t index_of(counter c) noexcept { return static_cast<std::size_t>(c); }
  std::int64_t turn_after(steady_time began) const noexcept {
    return deadline_after(began, std::chrono::nanoseconds(width_)).time_since_epoch().count();
  }

  const std::int64_t width_;      // of a bucket, in ns
  atomic<std::int64_t> turn_at_;  // when the current bucket ends; written under the lock
  std::array<call_counts, buckets> begin_totals_{};  // at each bucket's begin; under the lock
  std::size_t newest_ = 0;                           // under the lock
  striped_counters counters_;
};

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE
