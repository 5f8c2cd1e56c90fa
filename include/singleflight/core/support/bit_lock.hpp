// SPDX-License-Identifier: Apache-2.0
#pragma once

// bit_lock: a lock in one bit of a word whose other bits are the data that it guards.
//
// One compare-exchange locks, one plain store unlocks: only the holder changes the word. Unlocking
// wakes nobody, so the word is not touched after the store and may be destroyed at that point. A
// thread that finds the lock held spins, since the only user code that a holder runs is comparisons
// and copies of keys, and it is done within some tens of instructions. If a holder takes longer (a
// put whose cache grows) or was preempted, the thread sleeps for short times that the clock ends.

#include <algorithm>
#include <chrono>

#include "singleflight/core/support/platform.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

template <class Word, Word Locked>
struct bit_lock {
  /// Takes the lock and returns the word without the lock bit. Its acquire pairs with the release
  /// store of unlock(), and with the release of any compare-exchange that changed the word.
  static Word lock(atomic<Word>& word) noexcept {
    Word value = word.load(memory_order_relaxed) & ~Locked;
    if (word.compare_exchange_strong(value, value | Locked,
                                     platform::order(rule::lock_acquires, memory_order_acquire),
                                     memory_order_relaxed)) [[likely]] {
      return value;
    }
    return lock_contended(word);
  }

  /// Takes the lock if it is free.
  static bool try_lock(atomic<Word>& word) noexcept {
    Word value = word.load(memory_order_relaxed);
    while ((value & Locked) == 0) {
      if (word.compare_exchange_weak(value, value | Locked,
                                     platform::order(rule::lock_acquires, memory_order_acquire),
                                     memory_order_relaxed)) {
        return true;
      }
    }
    return false;
  }

  /// Stores `value`, which has no lock bit, and so releases the lock.
  static void unlock(atomic<Word>& word, Word value) noexcept {
    word.store(value, platform::order(rule::unlock_releases, memory_order_release));
  }

 private:
  static constexpr int spins = 100;
  static constexpr std::chrono::microseconds first_nap{20};
  static constexpr std::chrono::microseconds longest_nap{500};

  SINGLEFLIGHT_NOINLINE static Word lock_contended(atomic<Word>& word) noexcept {
    std::chrono::microseconds nap = first_nap;
    for (int turn = 0;; ++turn) {
      Word value = word.load(memory_order_relaxed);
      if ((value & Locked) == 0) {
        if (word.compare_exchange_weak(value, value | Locked,
                                       platform::order(rule::lock_acquires, memory_order_acquire),
                                       memory_order_relaxed)) {
          return value;
        }
      } else if (turn < platform::tuned(spins, 1)) {
        platform::pause();
      } else {
        const steady_time until = platform::now() + nap;
        platform::wait(word, value, platform::nap_channel, &until);
        nap = std::min(2 * nap, longest_nap);
        turn = 0;
      }
    }
  }
};

/// A lock whose word holds no data.
class word_lock {
 public:
  void lock() noexcept { lock_bit::lock(word_); }
  void unlock() noexcept { lock_bit::unlock(word_, 0); }

 private:
  using lock_bit = bit_lock<std::uint32_t, 1>;
  atomic<std::uint32_t> word_{0};
};

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE
