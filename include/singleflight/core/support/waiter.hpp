// SPDX-License-Identifier: Apache-2.0
#pragma once

// waiter: the node that a caller waits with, and a list of them.

#include <coroutine>
#include <cstdint>
#include <exception>
#include <utility>

#include "singleflight/core/errors.hpp"
#include "singleflight/core/executor.hpp"
#include "singleflight/core/support/require.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

enum class wait_state : std::uint8_t { idle, pending, ready, resumed };
enum class wait_verdict : std::uint8_t { outcome, timed_out, cancelled, lead, recursive };

/// Returns the error of a wait that has ended without the outcome.
constexpr flight_errc errc_of(wait_verdict why) noexcept {
  return why == wait_verdict::timed_out   ? flight_errc::timed_out
         : why == wait_verdict::cancelled ? flight_errc::cancelled
                                          : flight_errc::recursive;
}

/// A suspended coroutine, a callback, or a blocked thread that must be woken individually. "The
/// lock" is that of what it waits for.
struct waiter {
  waiter* prev;                         ///< while in a list
  waiter* next;                         ///< while in a list
  std::uintptr_t target;                ///< in a batch: a coroutine frame, or a ready_action | 1
  const steady_time* limit = nullptr;   ///< the lock: the deadline of the wait, if it has one
  wait_state state = wait_state::idle;  ///< the lock
  atomic<wait_verdict> verdict{wait_verdict::outcome};  ///< written under the lock

  waiter() = default;
  waiter(const waiter&) = delete;
  waiter& operator=(const waiter&) = delete;

  /// Called under the lock while its coroutine is being destroyed. After a runner has removed the
  /// waiter and until it has resumed, that is undefined behaviour in the language itself.
  void require_not_resuming_locked() const noexcept {
    require(state != wait_state::resumed,
            "a coroutine is destroyed on one thread while another resumes it: destroy it in a task "
            "of a serial executor, or where nothing can resume it");
  }
};

/// The target of a waiter that is a callback.
struct ready_action {
  void (*act)(ready_action*);
};

/// Doubly linked, null-ended at the back, circular at the front (first->prev is the last).
class waiter_list {
 public:
  bool empty() const noexcept { return first_ == nullptr; }
  waiter* first() const noexcept { return first_; }
  void push(waiter& w) noexcept {
    w.next = nullptr;
    if (first_ == nullptr) {
      first_ = w.prev = &w;
    } else {
      w.prev = first_->prev;
      first_->prev->next = &w;
      first_->prev = &w;
    }
  }
  void remove(waiter& w) noexcept {
    if (first_ == &w) {
      first_ = w.next;
      if (first_ != nullptr) first_->prev = w.prev;
      return;
    }
    w.prev->next = w.next;
    (w.next != nullptr ? w.next : first_)->prev = w.prev;
  }
  waiter* pop() noexcept {
    waiter* const w = first_;
    if (w != nullptr) remove(*w);
    return w;
  }

 private:
  waiter* first_ = nullptr;
};

inline void resume(waiter& w) {
  if ((w.target & 1) != 0) {
    auto* const callback = reinterpret_cast<ready_action*>(w.target & ~std::uintptr_t{1});
    callback->act(callback);
  } else {
    std::coroutine_handle<>::from_address(reinterpret_cast<void*>(w.target)).resume();
  }
}

/// The lock of the waiters, for an owner whose lock is the same throughout its life.
template <class Owner>
class owner_lock {
 public:
  explicit owner_lock(Owner& owner) noexcept : owner_(owner) {}
  void lock() noexcept { owner_.lock(); }
  void unlock() noexcept { owner_.unlock(); }

 private:
  Owner& owner_;
};

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE
