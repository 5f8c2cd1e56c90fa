// SPDX-License-Identifier: Apache-2.0
#pragma once

// Many threads that wait for one event, and the time at which the last of them returns. The
// benchmark supplies the wait itself; stacks, start and clock are the same for all benchmarks.

#include <pthread.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <vector>

#include "bench/support/process.hpp"

namespace bench {

class parked_threads {
 public:
  /// Small, so that ten thousand stacks need little memory.
  static constexpr std::size_t stack_bytes = 64 * 1024;

  /// Starts `count` threads; each calls `wait(context)` once.
  parked_threads(std::size_t count, void (*wait)(void*), void* context)
      : count_(count), wait_(wait), context_(context), threads_(count) {
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, stack_bytes);
    pthread_attr_setguardsize(&attributes, 0);
    for (pthread_t& thread : threads_) {
      if (pthread_create(&thread, &attributes, &parked_threads::body, this) != 0) {
        fail("a thread could not be started; the limit of processes may be too low");
      }
    }
    pthread_attr_destroy(&attributes);
  }
  parked_threads(const parked_threads&) = delete;
  parked_threads& operator=(const parked_threads&) = delete;
  ~parked_threads() { join(); }

  /// How many threads are about to wait or are waiting.
  std::size_t begun() const noexcept { return begun_.load(std::memory_order_acquire); }

  /// Waits for all threads; returns the time at which the last one returned from its wait.
  steady::time_point join() {
    for (const pthread_t thread : threads_) pthread_join(thread, nullptr);
    threads_.clear();
    return last_;
  }

 private:
  static void* body(void* self_pointer) {
    auto& self = *static_cast<parked_threads*>(self_pointer);
    self.begun_.fetch_add(1, std::memory_order_acq_rel);
    self.wait_(self.context_);
    if (self.returned_.fetch_add(1, std::memory_order_acq_rel) + 1 == self.count_) {
      self.last_ = steady::now();  // read after the join
    }
    return nullptr;
  }

  const std::size_t count_;
  void (*const wait_)(void*);
  void* const context_;
  std::atomic<std::size_t> begun_{0};
  std::atomic<std::size_t> returned_{0};
  steady::time_point last_{};
  std::vector<pthread_t> threads_;
};

/// Long enough for all threads that begun() counts to be asleep.
inline constexpr std::chrono::milliseconds settling_time{300};

}  // namespace bench
