// SPDX-License-Identifier: Apache-2.0
#pragma once

// awaitable: which types can be awaited, and the steps of a co_await expression for code that is
// not a coroutine (platform::coroutine_frame).

#include <concepts>
#include <coroutine>
#include <type_traits>
#include <utility>

#include "singleflight/core/support/platform.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

template <class T>
concept awaiter = requires(T& a, std::coroutine_handle<> h) {
  { a.await_ready() } -> std::convertible_to<bool>;
  a.await_suspend(h);
  a.await_resume();
};
template <class Handle>
class handle_of;  // core/handle_wait.hpp

/// The object whose await_ready() and so on co_await calls. A coroutine must name a handle of this
/// library; here a temporary handle is accepted, since the caller stores it.
template <class T>
decltype(auto) get_awaiter(T&& awaitable) {
  if constexpr (std::is_base_of_v<handle_of<T>, T>) {
    return awaitable.operator co_await();
  } else if constexpr (requires { std::forward<T>(awaitable).operator co_await(); }) {
    return std::forward<T>(awaitable).operator co_await();
  } else if constexpr (requires { operator co_await(std::forward<T>(awaitable)); }) {
    return operator co_await(std::forward<T>(awaitable));
  } else {
    return std::forward<T>(awaitable);
  }
}
template <class T>
concept awaitable = !std::is_void_v<T> && requires(T&& t) {
  requires awaiter<std::remove_reference_t<decltype(detail::get_awaiter(std::forward<T>(t)))>>;
};

/// The state of `co_await call()` during the wait, where call() returns a T.
template <awaitable T>
class awaited_call {
 public:
  template <class Call>
  explicit awaited_call(Call&& call)
      : returned_(std::forward<Call>(call)()),
        awaiter_(detail::get_awaiter(static_cast<T&&>(returned_))) {}
  awaited_call(const awaited_call&) = delete;
  awaited_call& operator=(const awaited_call&) = delete;

  /// Returns true if resume() may be called at once.
  bool ready() { return static_cast<bool>(awaiter_.await_ready()); }
  /// Returns false if resume() may be called at once; otherwise this object may have been destroyed
  /// already. `next` receives the coroutine to be resumed instead, if any.
  bool suspend(std::coroutine_handle<> frame, std::coroutine_handle<>& next) {
    using result = decltype(awaiter_.await_suspend(frame));
    if constexpr (std::is_void_v<result>) {
      awaiter_.await_suspend(frame);
      return true;
    } else if constexpr (std::is_same_v<result, bool>) {
      return awaiter_.await_suspend(frame);
    } else {
      next = awaiter_.await_suspend(frame);
      return true;
    }
  }
  decltype(auto) resume() { return awaiter_.await_resume(); }

 private:
  T returned_;  // either may be a reference
  decltype(detail::get_awaiter(std::declval<T>())) awaiter_;
};

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE
