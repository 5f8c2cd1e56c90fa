// SPDX-License-Identifier: Apache-2.0
#pragma once

// The smallest coroutine types that the tests need: `detached`, which runs by itself; `lazy<T>`,
// which begins when it is awaited; and `suspension`, a place where a coroutine stays suspended
// until the test resumes it.

#include <atomic>
#include <coroutine>
#include <exception>
#include <optional>
#include <type_traits>
#include <utility>
#include <variant>

namespace support {

/// Begins at once, owns itself, returns nothing; an exception that escapes it ends the program.
struct detached {
  struct promise_type {
    detached get_return_object() noexcept { return {}; }
    std::suspend_never initial_suspend() noexcept { return {}; }
    std::suspend_never final_suspend() noexcept { return {}; }
    void return_void() noexcept {}
    void unhandled_exception() noexcept { std::terminate(); }
  };
};

/// Begins at once; its owner destroys it, possibly while it is suspended.
class owned {
 public:
  struct promise_type {
    owned get_return_object() noexcept {
      return owned(std::coroutine_handle<promise_type>::from_promise(*this));
    }
    std::suspend_never initial_suspend() noexcept { return {}; }
    std::suspend_always final_suspend() noexcept { return {}; }
    void return_void() noexcept {}
    void unhandled_exception() noexcept { std::terminate(); }
  };

  owned(owned&& other) noexcept : frame_(std::exchange(other.frame_, nullptr)) {}
  owned& operator=(owned&& other) noexcept {
    std::swap(frame_, other.frame_);
    return *this;
  }
  ~owned() { reset(); }
  void reset() {
    if (auto frame = std::exchange(frame_, nullptr)) frame.destroy();
  }

 private:
  explicit owned(std::coroutine_handle<promise_type> frame) noexcept : frame_(frame) {}
  std::coroutine_handle<promise_type> frame_;
};

namespace detail {

template <class T>
struct lazy_result {
  std::optional<T> value;
  template <class U>
  void return_value(U&& from) {
    value.emplace(std::forward<U>(from));
  }
  T take() { return std::move(*value); }
};
template <>
struct lazy_result<void> {
  void return_void() noexcept {}
  void take() noexcept {}
};

}  // namespace detail

/// Begins when it is awaited; can be awaited once.
template <class T = void>
class [[nodiscard]] lazy {
 public:
  struct promise_type : detail::lazy_result<T> {
    lazy get_return_object() noexcept {
      return lazy(std::coroutine_handle<promise_type>::from_promise(*this));
    }
    std::suspend_always initial_suspend() noexcept { return {}; }
    auto final_suspend() noexcept {
      struct back {
        bool await_ready() noexcept { return false; }
        std::coroutine_handle<> await_suspend(std::coroutine_handle<promise_type> frame) noexcept {
          return frame.promise().awaiting;
        }
        void await_resume() noexcept {}
      };
      return back{};
    }
    void unhandled_exception() noexcept { error = std::current_exception(); }
    std::coroutine_handle<> awaiting = std::noop_coroutine();
    std::exception_ptr error;
  };

  lazy(lazy&& other) noexcept : frame_(std::exchange(other.frame_, nullptr)) {}
  lazy& operator=(lazy&&) = delete;
  ~lazy() {
    if (frame_) frame_.destroy();
  }

  bool await_ready() const noexcept { return false; }
  std::coroutine_handle<> await_suspend(std::coroutine_handle<> awaiting) noexcept {
    frame_.promise().awaiting = awaiting;
    return frame_;
  }
  T await_resume() {
    if (frame_.promise().error) std::rethrow_exception(frame_.promise().error);
    return frame_.promise().take();
  }

 private:
  explicit lazy(std::coroutine_handle<promise_type> frame) noexcept : frame_(frame) {}
  std::coroutine_handle<promise_type> frame_;
};

/// Holds one suspended coroutine at a time, until it is resumed or destroyed.
class suspension {
 public:
  auto operator co_await() noexcept {
    struct stop {
      suspension* at;
      bool await_ready() const noexcept { return false; }
      void await_suspend(std::coroutine_handle<> frame) const noexcept {
        at->frame_.store(frame.address(), std::memory_order_release);
      }
      void await_resume() const noexcept {}
    };
    return stop{this};
  }

  /// Whether a coroutine is suspended here.
  bool taken() const noexcept { return frame_.load(std::memory_order_acquire) != nullptr; }
  void resume() {
    std::coroutine_handle<>::from_address(frame_.exchange(nullptr, std::memory_order_acq_rel))
        .resume();
  }
  void destroy() {
    std::coroutine_handle<>::from_address(frame_.exchange(nullptr, std::memory_order_acq_rel))
        .destroy();
  }

 private:
  std::atomic<void*> frame_{nullptr};
};

}  // namespace support
