// SPDX-License-Identifier: Apache-2.0
#pragma once

// group_waiters: the threads that sleep in wait() of a task_group: how one of them is called to
// work, and how all are notified of the end of a use.

#include <cstdint>
#include <utility>

#include "singleflight/core/executor.hpp"
#include "singleflight/core/outcome.hpp"
#include "singleflight/core/support/stop_token.hpp"
#include "singleflight/core/support/wait_graph.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

/// A thread in wait(), on its stack.
struct group_waiter {
  enum : std::uint32_t { asleep = 0, called = 1, over = 2, cyclic = 4 };  // cyclic: a bit

  group_waiter() = default;
  group_waiter(const group_waiter&) = delete;
  group_waiter& operator=(const group_waiter&) = delete;

  /// Its acquire pairs with the release of notify(); a call is only a reason to take the group's
  /// lock.
  void sleep() const noexcept {
    while (word.load(memory_order_acquire) == asleep) {
      hand_queue_over();
      platform::wait(word, std::uint32_t{asleep});
    }
  }
  void sleep_until_over() const noexcept {
    for (std::uint32_t seen{}; (seen = word.load(memory_order_acquire)) != over;) {
      hand_queue_over();
      platform::wait(word, seen);
    }
  }
  /// The wait graph has chosen this wait to end its cycle: the thread is to look at its record.
  /// Called under the graph's lock, so the waiter exists. This and list() are read-modify-writes:
  /// either list() comes after this one and sees that the wait was chosen, or the thread that then
  /// sleeps sees the bit.
  static void end_cycle(void* waiter) noexcept {
    auto& w = *static_cast<group_waiter*>(waiter);
    w.word.fetch_or(cyclic, memory_order_acq_rel);
    platform::wake(w.word, 1);
  }
  void set_outcome(const outcome<void>& ended, const std::stop_source& last) {
    result = ended;
    stop = last;
  }
  /// Stops every token of the use that is left, then returns the outcome of the wait.
  outcome<void> take_outcome() {
    if (stop.stop_possible()) platform::request_stop(stop);
    return std::move(result);
  }

  group_waiter* next = nullptr;
  bool listed = false;  ///< under the group's lock
  atomic<std::uint32_t> word{asleep};
  outcome<void> result;
  std::stop_source stop{std::nostopstate};
  wait_graph::record record;  // destroyed first
};

/// The list of them; every member but notify() is called under the group's lock.
class group_waiters {
 public:
  bool empty() const noexcept { return first_ == nullptr; }
  /// Returns whether a waiter has been called and has not come yet.
  bool called() const noexcept { return called_; }

  void list(group_waiter& w) noexcept {
    w.word.exchange(group_waiter::asleep, memory_order_acq_rel);
    w.listed = true;
    w.next = std::exchange(first_, &w);
  }
  void unlist(group_waiter& w) noexcept {
    w.listed = false;
    group_waiter** link = &first_;
    while (*link != &w) link = &(*link)->next;
    *link = w.next;
    // At most one waiter is called at a time.
    if ((w.word.load(memory_order_relaxed) & group_waiter::called) != 0) called_ = false;
  }

  /// Calls one waiter to work; returns the word to be woken once the lock is free.
  const atomic<std::uint32_t>* call() noexcept {
    called_ = true;
    first_->word.store(group_waiter::called, memory_order_relaxed);
    return &first_->word;
  }
  /// Gives all of them the outcome of their use, and takes them out; the caller notifies them.
  group_waiter* end(const outcome<void>& ended, const std::stop_source& last) {
    for (group_waiter* w = first_; w != nullptr; w = w->next) {
      w->set_outcome(ended, last);
      w->listed = false;
    }
    called_ = false;
    return std::exchange(first_, nullptr);
  }

  /// In a child of fork, which has none of the listed threads: returns how many are listed no more.
  std::uint32_t forget() noexcept {
    std::uint32_t count = 0;
    for (const group_waiter* w = std::exchange(first_, nullptr); w != nullptr; w = w->next) ++count;
    called_ = false;
    return count;
  }

  /// Called without the lock; each waiter may return as soon as it is notified.
  static void notify(group_waiter* all) noexcept {
    while (all != nullptr) {
      group_waiter& w = *std::exchange(all, all->next);
      w.word.store(group_waiter::over, memory_order_release);
      platform::wake(w.word, 1);  // by its address
    }
  }

 private:
  group_waiter* first_ = nullptr;
  bool called_ = false;
};

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE
