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
  /// Keys of one batch; a batch that is full does not wait for its delay. 100: where most backends'
  /// own limits lie, and past it a call hardly gets cheaper.
  std::size_t max_batch = 100;
  /// How long the first key of a batch waits for company. Zero, the default: not at all, so that
  /// nobody pays for an idle batcher; under load keys gather all the same, while the executor is
  /// busy or all of max_in_flight is.
  std::chrono::nanoseconds max_delay{0};
  /// Calls of the loader at a time. While all of them run, keys gather. 4: a slow one does not hold
  /// up the rest, and a crowd still comes in few calls.
  std::size_t max_in_flight = 4;
  /// Keys without an answer at a time, gathered or being loaded; beyond: overloaded. Zero: no
  /// bound.
  std::size_t max_keys = 0;
  /// Where batches are loaded, and where waiters resume unless they name another executor. A pool
  /// outlives the batcher, and every call on it that has not returned.
  any_executor executor{};
  /// Time for the delay and for every limit; null: default_timer(). Outlives the batcher and its
  /// handles.
  singleflight::timer* timer = nullptr;
  /// Hears of every key's load; null: nobody. Outlives the batcher.
  singleflight::observer* observer = nullptr;
};

/// What the loader of a batcher was given, in batches.
struct batch_counts {
  std::uint64_t keys = 0;     ///< that the loader was given
  std::uint64_t batches = 0;  ///< calls of the loader
  std::uint64_t full = 0;     ///< batches that had max_batch keys, some of them left perhaps
  std::uint64_t delayed = 0;  ///< batches whose max_delay was over
  std::uint64_t flushed = 0;  ///< batches that flush() made go
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

/// Totals since the batcher was made; exact when no call is under way. The inherited ones count the
/// batches, and the calls that ended with an error of the library.
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
