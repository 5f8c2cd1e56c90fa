// SPDX-License-Identifier: Apache-2.0
#pragma once

// bit_lock: a lock in two low bits of a word whose other bits are the data that it guards.
//
// Bit 0, locked: one thread may change the word and what hangs on it.
// Bit 1, parked: somebody may sleep on the word; unlock wakes one.
//
// lock() spins briefly, since a holder runs no user code and is done within some tens of instructions,
// and then sleeps: a preempted holder costs its waiters no processor time. One sleeper is woken at a
// time; it takes the lock with `parked` set, because it cannot know whether others sleep behind it.

#include "singleflight/core/detail/platform.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

template <class Word>
struct bit_lock {
  static constexpr Word locked = 1;
  static constexpr Word parked = 2;
  static constexpr int spins = 60;

  /// Takes the lock; returns the word without the two lock bits.
  /// Its acquire pairs with the release in unlock().
  static Word lock(atomic<Word>& word) noexcept {
    Word value = word.load(memory_order_relaxed) & ~(locked | parked);
    if (word.compare_exchange_strong(value, value | locked, memory_order_acquire,
                                     memory_order_relaxed)) [[likely]] {
      return value;
    }
    return lock_contended(word);
  }

  /// Stores `value` and releases the lock. Afterwards the word may be gone: wake() takes its address
  /// as a name only.
  static void unlock(atomic<Word>& word, Word value) noexcept {
    const Word old = word.exchange(value, memory_order_release);
    if ((old & parked) != 0) [[unlikely]] {
      platform::wake(word, 1);
    }
  }

 private:
  SINGLEFLIGHT_NOINLINE static Word lock_contended(atomic<Word>& word) noexcept {
    Word mark = 0;
    for (int turn = 0;; ++turn) {
      Word value = word.load(memory_order_relaxed);
      if ((value & locked) == 0) {
        if (word.compare_exchange_weak(value, value | locked | mark, memory_order_acquire,
                                       memory_order_relaxed)) {
          return value & ~(locked | parked);
        }
        continue;
      }
      if (turn < spins) {
        platform::pause();
        continue;
      }
      if ((value & parked) == 0 &&
          !word.compare_exchange_weak(value, value | parked, memory_order_relaxed,
                                      memory_order_relaxed)) {
        continue;
      }
      platform::wait(word, static_cast<Word>(value | parked));
      mark = parked;
      turn = 0;
    }
  }
};

/// A lock of its own, without data.
class word_lock {
 public:
  void lock() noexcept { bit_lock<std::uint32_t>::lock(word_); }
  void unlock() noexcept { bit_lock<std::uint32_t>::unlock(word_, 0); }

 private:
  atomic<std::uint32_t> word_{0};
};

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE
