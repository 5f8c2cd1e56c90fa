// SPDX-License-Identifier: Apache-2.0
#pragma once

// The longest of many calls, and what this machine contributes to it.

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <thread>

namespace bench {

using clock_type = std::chrono::steady_clock;

inline double ms_between(clock_type::time_point from, clock_type::time_point to) {
  return std::chrono::duration<double, std::milli>(to - from).count();
}
inline double ms_since(clock_type::time_point from) { return ms_between(from, clock_type::now()); }

/// The longest time between two looks at the clock in a loop that does nothing else for so long.
inline double worst_gap_ms(double for_ms) {
  double worst = 0;
  const auto begin = clock_type::now();
  auto before = begin;
  while (ms_between(begin, before) < for_ms) {
    const auto now = clock_type::now();
    worst = std::max(worst, ms_between(before, now));
    before = now;
  }
  return worst;
}

/// Calls call(i) on another thread, again and again, while `meanwhile` runs here; returns the time
/// of the longest call in milliseconds. The first call does not count: it makes what a thread has.
template <class Call, class Meanwhile>
double worst_meanwhile_ms(const Call& call, const Meanwhile& meanwhile) {
  std::atomic<bool> ready{false};
  std::atomic<bool> over{false};
  double worst = 0;
  std::thread other([&] {
    for (std::uint64_t i = 0; !over.load(std::memory_order_relaxed); ++i) {
      const auto begin = clock_type::now();
      call(i);
      if (i > 0) worst = std::max(worst, ms_since(begin));
      ready.store(true, std::memory_order_relaxed);
    }
  });
  while (!ready.load(std::memory_order_relaxed)) std::this_thread::yield();
  meanwhile();
  over.store(true, std::memory_order_relaxed);
  other.join();
  return worst;
}

}  // namespace bench
