// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

namespace singleflight::lab {

/// Calls work(0) to work(count - 1), each once, on a thread per processor. Throws what one of them
/// throws, after all threads have ended.
template <class Work>
void in_parallel(std::size_t count, const Work& work) {
  std::atomic<std::size_t> next = 0;
  std::exception_ptr error;
  std::mutex mutex;  // guards error
  const auto help = [&] {
    try {
      for (std::size_t i = next++; i < count; i = next++) work(i);
    } catch (...) {
      const std::scoped_lock lock(mutex);
      error = std::current_exception();
    }
  };
  {
    const std::size_t processors = std::max(std::thread::hardware_concurrency(), 1U);
    std::vector<std::jthread> helpers;
    while (helpers.size() + 1 < std::min(processors, count)) helpers.emplace_back(help);
    help();
  }
  if (error) std::rethrow_exception(error);
}

}  // namespace singleflight::lab
