// SPDX-License-Identifier: Apache-2.0
#pragma once

// group_waiters: the threads that sleep in wait() of a task_group, how one of them is called to
// work, and how all are told of the end of a use.

#include <cstdint>
#include <utility>

#include "singleflight/core/detail/stop_token.hpp"
#include "singleflight/core/outcome.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

/// A thread in wait(), on its stack.
struct group_waiter {
  enum : std::uint32_t { asleep, called, over };

  group_waiter() = default;
  group_waiter(const group_waiter&) = delete;
  group_waiter& operator=(const group_waiter&) = delete;

  /// Its acquire pairs with the release of tell(); a call is only a reason to take the group's
  /// lock.
  void sleep_while(std::uint32_t is) const noexcept {
    while (word.load(memory_order_acquire) == is) platform::wait(word, is);
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
};

/// The list of them; all but tell() under the group's lock.
class group_waiters {
 public:
  bool empty() const noexcept { return first_ == nullptr; }
  /// Whether one has been called and has not come yet.
  bool called() const noexcept { return called_; }

  void list(group_waiter& w) noexcept {
    w.word.store(group_waiter::asleep, memory_order_relaxed);
    w.listed = true;
    w.next = std::exchange(first_, &w);
  }
  void unlist(group_waiter& w) noexcept {
    w.listed = false;
    group_waiter** at = &first_;
    while (*at != &w) at = &(*at)->next;
    *at = w.next;
    called_ = false;  // one at a time is called, so it was this one
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
