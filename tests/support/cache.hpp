// SPDX-License-Identifier: Apache-2.0
#pragma once

// What the tests of the caches share: a value that counts its lives, an observer that tells how
// many have joined, a timer that a load may move, and a thread that tells when it is through.

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <future>
#include <utility>

#include "support/eventually.hpp"
#include <singleflight/core/observable.hpp>

namespace support {

/// A value that counts how many are alive, and that says whether it still is.
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
  /// Its number, and that of none if it has been destroyed.
  int read() const noexcept { return mark == whole ? number : dead; }

  static constexpr int dead = -666;
  static constexpr std::uint32_t whole = 0x600d600d;
  int number;
  std::uint32_t mark = whole;
};

/// Counts those who have joined a load.
class joined_counter final : public singleflight::observer {
 public:
  void joined(std::uint64_t) noexcept override { ++joined_; }
  /// Waits until `count` have joined since this was made.
  void await(std::size_t count) const {
    eventually([&] { return joined_.load() >= count; }, "the callers who join");
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
