// SPDX-License-Identifier: Apache-2.0
#pragma once

// group_waiters: the threads that sleep in wait() of a task_group, how one of them is called to
// work, and how all are told of the end of a use.

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
  enum : std::uint32_t { asleep = 0, called = 1, over = 2, struck = 4 };  // struck: a bit

  group_waiter() = default;
  group_waiter(const group_waiter&) = delete;
  group_waiter& operator=(const group_waiter&) = delete;

  /// Its acquire pairs with the release of tell(); a call is only a reason to take the group's
  /// lock.
  void sleep() const noexcept {
    while (word.load(memory_order_acquire) == asleep) {
      hand_queue_over();
      platform::wait(word, std::uint32_t{asleep});
    }
  }
  void sleep_until_over() const noexcept {
    for (std::uint32_t is{}; (is = word.load(memory_order_acquire)) != over;) {
      hand_queue_over();
      platform::wait(word, is);
    }
  }
  /// The wait has been struck: it is to look at its record. Under the graph's lock only, so it is
  /// here. This and list() are read-modify-writes: either list() comes after this one and sees that
  /// the wait was struck, or what is asleep then sees the bit.
  static void strike(void* waiter) noexcept {
    auto& w = *static_cast<group_waiter*>(waiter);
    w.word.fetch_or(struck, memory_order_acq_rel);
    platform::wake(w.word, 1);
  }
  void give(const outcome<void>& how, const std::stop_source& last) {
    result = how;
    stop = last;
  }
  /// Whoever still has a token of the use is told before the wait returns.
  outcome<void> leave() {
    if (stop.stop_possible()) platform::request_stop(stop);
    return std::move(result);
  }

  group_waiter* next = nullptr;
  bool listed = false;  ///< under the group's lock
  atomic<std::uint32_t> word{asleep};
  outcome<void> result;
  std::stop_source stop{std::nostopstate};
  wait_graph::record record;  // goes first
};

/// The list of them; all but tell() under the group's lock.
class group_waiters {
 public:
  bool empty() const noexcept { return first_ == nullptr; }
  /// Whether one has been called and has not come yet.
  bool called() const noexcept { return called_; }

  void list(group_waiter& w) noexcept {
    w.word.exchange(group_waiter::asleep, memory_order_acq_rel);
    w.listed = true;
    w.next = std::exchange(first_, &w);
  }
  void unlist(group_waiter& w) noexcept {
    w.listed = false;
    group_waiter** at = &first_;
    while (*at != &w) at = &(*at)->next;
    *at = w.next;
    // One at a time is called.
    if ((w.word.load(memory_order_relaxed) & group_waiter::called) != 0) called_ = false;
  }

  /// Calls one to work; returns what is to be woken once the lock is free.
  const atomic<std::uint32_t>* call() noexcept {
    called_ = true;
    first_->word.store(group_waiter::called, memory_order_relaxed);
    return &first_->word;
  }
  /// Gives all of them the end of their use, and takes them out; they are to be told.
  group_waiter* end(const outcome<void>& how, const std::stop_source& last) {
    for (group_waiter* w = first_; w != nullptr; w = w->next) {
      w->give(how, last);
      w->listed = false;
    }
    called_ = false;
    return std::exchange(first_, nullptr);
  }

  /// In a child of fork, whose other threads are not there: how many are listed no more.
  std::uint32_t forget() noexcept {
    std::uint32_t count = 0;
    for (const group_waiter* w = std::exchange(first_, nullptr); w != nullptr; w = w->next) ++count;
    called_ = false;
    return count;
  }

  /// Without the lock; each may have left as soon as it is told.
  static void tell(group_waiter* all) noexcept {
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
