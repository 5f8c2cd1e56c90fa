// SPDX-License-Identifier: Apache-2.0
#pragma once

// Shared by the tests of the caches: a value that counts its instances, an observer that counts
// the callers that joined, and a way to run a function on a thread of its own.

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <future>
#include <utility>

#include "support/eventually.hpp"
#include <singleflight/core/observable.hpp>

namespace support {

/// A value that counts the instances alive, and detects a read after its destruction.
struct living {
  static inline std::atomic<long> alive{0};

  explicit living(int n) noexcept : number(n) { ++alive; }
  living(const living& other) noexcept : number(other.number) { ++alive; }
  living(living&& other) noexcept : number(other.number) { ++alive; }
  living& operator=(const living&) noexcept = default;
  living& operator=(living&&) noexcept = default;
  ~living() {
    number = dead;
    mark = 0;
    --alive;
  }
  /// The number, or `dead` if the object has been destroyed.
  int read() const noexcept { return mark == whole ? number : dead; }

  static constexpr int dead = -666;
  static constexpr std::uint32_t whole = 0x600d600d;
  int number;
  std::uint32_t mark = whole;
};

/// Counts the callers that have joined a load.
class joined_counter final : public singleflight::observer {
 public:
  void joined(std::uint64_t) noexcept override { ++joined_; }
  /// Waits until `count` callers have joined since this object was made.
  void await(std::size_t count) const {
    eventually([&] { return joined_.load() >= count; }, "the callers that join");
  }

 private:
  std::atomic<std::size_t> joined_{0};
};

/// Runs `fn` on a thread of its own.
template <class Fn>
auto in_thread(Fn fn) {
  return std::async(std::launch::async, std::move(fn));
}

}  // namespace support
