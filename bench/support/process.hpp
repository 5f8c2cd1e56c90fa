// SPDX-License-Identifier: Apache-2.0
#pragma once

// The clock, the memory and the threads of the process that a benchmark runs in.

#include <atomic>
#include <chrono>
#include <cstdio>
#include <thread>

#include "bench/support/figures.hpp"

namespace bench {

using steady = std::chrono::steady_clock;

inline double nanoseconds(steady::duration d) {
  return std::chrono::duration<double, std::nano>(d).count();
}

/// Resident anonymous memory (heap and stacks), counted page by page; the peers read the same
/// field. VmRSS would be off by some hundred kilobytes: the kernel sums it up lazily, and it
/// includes code pages that are touched for the first time.
inline double resident_bytes() {
  std::FILE* const file = std::fopen("/proc/self/smaps_rollup", "r");
  if (file == nullptr) fail("cannot read /proc/self/smaps_rollup");
  double kibibytes = -1;
  char line[256];
  while (kibibytes < 0 && std::fgets(line, sizeof line, file) != nullptr) {
    if (std::sscanf(line, "Anonymous: %lf kB", &kibibytes) != 1) kibibytes = -1;
  }
  std::fclose(file);
  if (kibibytes < 0) fail("no Anonymous in /proc/self/smaps_rollup");
  return kibibytes * 1024;
}

/// An idle second thread. In a process that never started one, the C library and libstdc++ leave
/// out locks and atomic instructions; no service that needs this library is such a process.
class idle_thread {
 public:
  idle_thread() : thread_([this] { stop_.wait(false); }) {}
  idle_thread(const idle_thread&) = delete;
  idle_thread& operator=(const idle_thread&) = delete;
  ~idle_thread() {
    stop_ = true;
    stop_.notify_one();
    thread_.join();
  }

 private:
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

}  // namespace bench
