// SPDX-License-Identifier: Apache-2.0
#pragma once

/// semaphore_options, semaphore_stats: options and statistics of a semaphore.

#include <cstddef>
#include <cstdint>

#include "singleflight/core/executor.hpp"
#include "singleflight/core/timer.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE

struct semaphore_options {
  /// Where coroutines resume, unless their wait names another executor.
  any_executor executor{};
  /// The timer of every limit; if null, default_timer(). Outlives the semaphore and its handles.
  singleflight::timer* timer = nullptr;
  /// The most requests in the queue; further calls get overloaded. If zero, there is no bound.
  std::size_t max_waiters = 0;
};

/// Totals since the semaphore was made.
struct semaphore_stats {
  std::uint64_t queued = 0;     ///< calls that had to wait
  std::uint64_t timed_out = 0;  ///< from here on: calls, queued or not, that ended with this error
  std::uint64_t cancelled = 0;
  std::uint64_t overloaded = 0;
  std::uint64_t rejected = 0;
  std::uint64_t closed = 0;

  /// Calls visit(name, value) for each counter.
  template <class Visit>
  void each(const Visit& visit) const {
    visit("queued", queued);
    visit("timed_out", timed_out);
    visit("cancelled", cancelled);
    visit("overloaded", overloaded);
    visit("rejected", rejected);
    visit("closed", closed);
  }
};

SINGLEFLIGHT_END_NAMESPACE
