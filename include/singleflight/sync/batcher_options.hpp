// SPDX-License-Identifier: Apache-2.0
#pragma once

/// batcher_options, batcher_stats: options and statistics of a batcher.

#include <chrono>
#include <cstddef>
#include <cstdint>

#include "singleflight/core/executor.hpp"
#include "singleflight/core/observable.hpp"
#include "singleflight/core/timer.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE

struct batcher_options {
  /// The most keys of one batch; a full batch does not wait for its delay. 100 is about the limit
  /// of most backends, and beyond it a call hardly gets cheaper per key.
  std::size_t max_batch = 100;
  /// How long the first key of a batch waits for others. If zero, the default, it does not wait, so
  /// that an idle batcher delays no caller; under load keys still gather while the executor is
  /// busy, or while max_in_flight calls run.
  std::chrono::nanoseconds max_delay{0};
  /// The most calls of the loader at a time. While all of them run, keys gather. With 4, a slow
  /// call does not hold up the rest, and many keys still need few calls.
  std::size_t max_in_flight = 4;
  /// The most keys without an answer at a time, gathered or being loaded; further calls get
  /// overloaded. If zero, there is no bound.
  std::size_t max_keys = 0;
  /// Where batches are loaded, and where waiters resume unless they name another executor. A pool
  /// outlives the batcher, and every call on it that has not returned.
  any_executor executor{};
  /// The timer of the delay and of every limit; if null, default_timer(). Outlives the batcher and
  /// its handles.
  singleflight::timer* timer = nullptr;
  /// Is notified of every key's load; if null, there is no observer. Outlives the batcher.
  singleflight::observer* observer = nullptr;
};

/// What the loader of a batcher was called for.
struct batch_counts {
  std::uint64_t keys = 0;     ///< keys passed to the loader
  std::uint64_t batches = 0;  ///< calls of the loader
  std::uint64_t full = 0;     ///< batches with max_batch keys, including those that callers left
  std::uint64_t delayed = 0;  ///< batches sent because max_delay was over
  std::uint64_t flushed = 0;  ///< batches sent by flush()
  std::uint64_t largest = 0;  ///< keys of the largest batch

  /// Calls visit(name, value) for each counter.
  template <class Visit>
  void each(const Visit& visit) const {
    visit("keys", keys);
    visit("batches", batches);
    visit("full", full);
    visit("delayed", delayed);
    visit("flushed", flushed);
  }
};

/// Totals since the batcher was made; exact when no call is under way. The inherited fields count
/// batches, and calls that ended with an error of the library.
struct batcher_stats : batch_counts, ended_calls {
  std::uint64_t calls = 0;      ///< every position of a load_many counts as one
  std::uint64_t joined = 0;     ///< calls that found their key gathered or being loaded
  std::uint64_t abandoned = 0;  ///< keys whose last caller left

  /// Calls visit(name, value) for each counter.
  template <class Visit>
  void each(const Visit& visit) const {
    visit("calls", calls);
    visit("joined", joined);
    batch_counts::each(visit);
    visit("abandoned", abandoned);
    ended_calls::each(visit);
  }
};

SINGLEFLIGHT_END_NAMESPACE
