// SPDX-License-Identifier: Apache-2.0
#pragma once

// unruly_atomics: the machine's atomics and lock (SINGLEFLIGHT_ATOMICS), with interruptions where
// they hurt: before or after a step that other threads can observe, the thread at times yields, or
// sleeps for up to some milliseconds. Two cores then play interleavings that they otherwise reach
// once in hours, in code of any length; the model, which reaches all of them, is for small worlds.
//
// SINGLEFLIGHT_UNRULY=N: one step in N is interrupted; 300 by default. Its cost is idle time: many
// such processes run well at once. Not for threads that are cancelled: a sleep is a cancellation
// point.

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <mutex>
#include <thread>

namespace singleflight_atomics {

inline std::uint32_t one_in() noexcept {
  static const std::uint32_t configured = [] {
    const char* const text = std::getenv("SINGLEFLIGHT_UNRULY");
    const unsigned long number = text != nullptr ? std::strtoul(text, nullptr, 10) : 0;
    return number > 0 && number < 1'000'000'000 ? static_cast<std::uint32_t>(number) : 300U;
  }();
  return configured;
}

inline void step() noexcept {
  static thread_local std::uint32_t random = static_cast<std::uint32_t>(
      std::hash<std::thread::id>{}(std::this_thread::get_id()) ^
      static_cast<std::size_t>(std::chrono::steady_clock::now().time_since_epoch().count()));
  const auto next = [] { return (random = random * 1664525U + 1013904223U) >> 8; };
  if (next() % one_in() != 0) return;
  const std::uint32_t kind = next() % 64;
  if (kind < 16) return std::this_thread::yield();
  const auto longest = std::chrono::microseconds(kind == 63 ? 8000 : kind > 58 ? 1000 : 200);
  std::this_thread::sleep_for(longest * static_cast<double>(next() % 1024) / 1024);
}

template <class T>
class atomic : public std::atomic<T> {
  using base = std::atomic<T>;

 public:
  using base::base;
  T load(std::memory_order order = std::memory_order_seq_cst) const noexcept {
    step();
    return base::load(order);
  }
  void store(T value, std::memory_order order = std::memory_order_seq_cst) noexcept {
    step();
    base::store(value, order);
    step();
  }
  T exchange(T value, std::memory_order order = std::memory_order_seq_cst) noexcept {
    return between([&] { return base::exchange(value, order); });
  }
  template <class... Orders>
  bool compare_exchange_strong(T& expected, T value, Orders... orders) noexcept {
    return between([&] { return base::compare_exchange_strong(expected, value, orders...); });
  }
  template <class... Orders>
  bool compare_exchange_weak(T& expected, T value, Orders... orders) noexcept {
    return between([&] { return base::compare_exchange_weak(expected, value, orders...); });
  }
  template <class... Order>
  T fetch_add(T number, Order... order) noexcept {
    return between([&] { return base::fetch_add(number, order...); });
  }
  template <class... Order>
  T fetch_sub(T number, Order... order) noexcept {
    return between([&] { return base::fetch_sub(number, order...); });
  }
  template <class... Order>
  T fetch_or(T number, Order... order) noexcept {
    return between([&] { return base::fetch_or(number, order...); });
  }
  template <class... Order>
  T fetch_and(T number, Order... order) noexcept {
    return between([&] { return base::fetch_and(number, order...); });
  }

 private:
  template <class What>
  static auto between(What&& what) noexcept {
    step();
    const auto was = what();
    step();
    return was;
  }
};

class mutex {
 public:
  void lock() {
    step();
    lock_.lock();
    step();
  }
  bool try_lock() {
    step();
    const bool taken = lock_.try_lock();
    step();
    return taken;
  }
  void unlock() {
    step();
    lock_.unlock();
    step();
  }

 private:
  std::mutex lock_;
};
using condition_variable = std::condition_variable_any;

}  // namespace singleflight_atomics
