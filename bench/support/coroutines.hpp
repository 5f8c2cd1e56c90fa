// SPDX-License-Identifier: Apache-2.0
#pragma once

// The smallest coroutine types that suffice; a caller would use those of its own framework.

#include <coroutine>
#include <exception>
#include <optional>
#include <utility>

namespace bench {

/// A request: starts at once, has no owner, and destroys its own frame when it ends.
struct detached {
  struct promise_type {
    detached get_return_object() const noexcept { return {}; }
    std::suspend_never initial_suspend() const noexcept { return {}; }
    std::suspend_never final_suspend() const noexcept { return {}; }
    void return_void() const noexcept {}
    [[noreturn]] void unhandled_exception() const noexcept { std::terminate(); }
  };
};

/// A load: starts when it is awaited, and resumes its awaiter when it ends.
template <class Value>
class [[nodiscard]] lazy {
 public:
  struct promise_type {
    struct resume_awaiter {
      bool await_ready() const noexcept { return false; }
      std::coroutine_handle<> await_suspend(
          std::coroutine_handle<promise_type> ended) const noexcept {
        return ended.promise().awaiter;
      }
      void await_resume() const noexcept {}
    };
    lazy get_return_object() noexcept {
      return lazy(std::coroutine_handle<promise_type>::from_promise(*this));
    }
    std::suspend_always initial_suspend() const noexcept { return {}; }
    resume_awaiter final_suspend() const noexcept { return {}; }
    template <class V>
    void return_value(V&& result) {
      value.emplace(std::forward<V>(result));
    }
    void unhandled_exception() noexcept { error = std::current_exception(); }

    std::coroutine_handle<> awaiter;
    std::optional<Value> value;
    std::exception_ptr error;
  };

  lazy(lazy&& other) noexcept : frame_(std::exchange(other.frame_, nullptr)) {}
  lazy& operator=(lazy&&) = delete;
  ~lazy() {
    if (frame_) frame_.destroy();
  }

  bool await_ready() const noexcept { return false; }
  std::coroutine_handle<> await_suspend(std::coroutine_handle<> awaiter) const noexcept {
    frame_.promise().awaiter = awaiter;
    return frame_;
  }
  Value await_resume() const {
    promise_type& promise = frame_.promise();
    if (promise.error) std::rethrow_exception(promise.error);
    return std::move(*promise.value);
  }

 private:
  explicit lazy(std::coroutine_handle<promise_type> frame) noexcept : frame_(frame) {}
  std::coroutine_handle<promise_type> frame_;
};

}  // namespace bench
