// SPDX-License-Identifier: Apache-2.0
#pragma once

// call_window: how many of the latest calls failed, or were slow.
//
// Nothing is ever set back: counters only grow, in per-thread stripes (striped_counters), so that a
// call costs a load and a store on memory of its own thread. What is kept per bucket, a tenth of
// the window, is what the totals were when it began; the window is the difference of the totals and
// the oldest of these. So there is no bucket that one thread clears while another counts in it, and
// nothing stale in one that comes round.
//
// What may be wrong, and by how much:
// CW1 A call counts in the bucket in which it is added, not in that of the time it read: a thread
//     that is held up between the two counts late, one call a thread at most. Never early: whoever
//     finds the bucket over begins the next one before it adds.
// CW2 The totals are read one by one beside threads that add: each may be missed by one call, or
//     seen with its failure and not yet with its call. Counts never go down, since every read is
//     made under the owner's lock: the next one sees at least what this one saw.
// With one thread it is exact, to the width of a bucket: the window covers the present bucket and
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

/// Its owner has a lock for what ends in _locked; the rest may be called beside it.
class call_window {
 public:
  call_window(std::chrono::nanoseconds length, steady_time now) noexcept
      : width_(std::max<std::int64_t>(length.count() / buckets, 1)), turn_at_(turn_after(now)) {}

  /// Whether the bucket is over: turn_locked before the next add.
  bool due(steady_time now) const noexcept {
    return now.time_since_epoch().count() >= turn_at_.load(memory_order_relaxed);
  }
  void add(bool failed, bool slow) noexcept {
    counters_.add(counted::calls);
    if (failed) counters_.add(counted::failures);
    if (slow) counters_.add(counted::slow);
  }
  void add_rejected() noexcept { counters_.add(counted::rejected); }

  /// Begins as many buckets as are due; under the lock, where another thread may have done so.
  void turn_locked(steady_time now) noexcept {
    if (!due(now)) return;
    const std::chrono::nanoseconds turn(turn_at_.load(memory_order_relaxed));
    const std::int64_t skipped = time_between(steady_time(turn), now).count() / width_;
    const steady_time began(turn + std::chrono::nanoseconds(skipped * width_));
    turn_at_.store(turn_after(began), memory_order_relaxed);
    const call_counts present = totals();
    for (std::int64_t i = std::min<std::int64_t>(skipped, buckets - 1); i >= 0; --i) {
      newest_ = (newest_ + 1) % buckets;
      began_[newest_] = present;
    }
  }
  /// Forgets all calls so far.
  void restart_locked() noexcept { began_.fill(totals()); }
  call_counts recent_locked() const noexcept {
    const call_counts present = totals();
    const call_counts& oldest = began_[(newest_ + 1) % buckets];
    return {present.calls - oldest.calls, present.failures - oldest.failures,
            present.slow - oldest.slow};
  }

  call_counts totals() const noexcept {
    const auto sum = counters_.totals();
    return {sum[at(counted::calls)], sum[at(counted::failures)], sum[at(counted::slow)]};
  }
  std::uint64_t rejected() const noexcept { return counters_.totals()[at(counted::rejected)]; }

 private:
  static constexpr int buckets = 10;
  enum class counted : std::uint8_t { calls, failures, slow, rejected };
  static constexpr std::size_t at(counted what) noexcept { return static_cast<std::size_t>(what); }
  std::int64_t turn_after(steady_time began) const noexcept {
    return deadline_after(began, std::chrono::nanoseconds(width_)).time_since_epoch().count();
  }

  const std::int64_t width_;      // of a bucket, in ns
  atomic<std::int64_t> turn_at_;  // when the present bucket is over; written under the lock
  std::array<call_counts, buckets> began_{};  // totals at each bucket's begin; lock
  std::size_t newest_ = 0;                    // lock
  striped_counters counters_;
};

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE
