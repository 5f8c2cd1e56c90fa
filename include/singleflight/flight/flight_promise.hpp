// SPDX-License-Identifier: Apache-2.0
#pragma once

/// flight_promise: answers a started load later and on any thread.
///
/// Use when    a load completes in other asynchronous code: a callback, an event loop, another
///             coroutine library.
/// Threads     may be moved to any thread; one thread at a time.
/// Ordering    what happened before set_value happens-before every return of the outcome (P7).
/// Errors      if it is destroyed unanswered, the callers get `broken`. If that happens within its
///             loader while an exception propagates, they get the exception if it leaves the
///             loader, and `broken` otherwise: when the loader has returned, or waits for a flight,
///             a permit, a group of tasks, a retry or its next attempt, a listener, or the end of a
///             group, a cache or a pool. If constructing the value throws, they get that exception.
/// Lifetime    keeps the flight alive, and with it the loader and the key.
/// Cost        two words; answering takes one short critical section and wakes the waiters. Two
///             additions to a counter of the process, which counts the loads that foreign code is
///             to answer.

#include <exception>
#include <utility>

#include "singleflight/core/outcome.hpp"
#include "singleflight/flight/detail/owned_load.hpp"
#include "singleflight/flight/detail/promise_door.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE

template <class V>
class [[nodiscard]] flight_promise {
 public:
  flight_promise(flight_promise&& other) noexcept
      : load_(std::exchange(other.load_, nullptr)), attempt_(other.attempt_) {}
  flight_promise& operator=(flight_promise&& other) noexcept {
    flight_promise(std::move(other)).swap(*this);
    return *this;
  }
  ~flight_promise() {
    if (load_ == nullptr) return;
    const holding hold(*this);
    hold.load->drop_answer(attempt_);
  }
  void swap(flight_promise& other) noexcept {
    std::swap(load_, other.load_);
    std::swap(attempt_, other.attempt_);
  }

  /// Answers with a value made from `args` (none for void). A promise takes one answer at most. A
  /// single argument converts as a returned value does. Several are passed to a constructor: no
  /// number among them may be narrowed, but elements that iterators or the tuples of
  /// std::piecewise_construct refer to are not checked.
  template <class... Args>
  void set_value(Args&&... args) {
    const holding hold(*this);
    if (hold.load->first_answer(attempt_)) {
      hold.load->template answer_value<V>(std::forward<Args>(args)...);
    }
  }
  /// `error` must not be null, as std::current_exception() is outside of a handler.
  void set_error(std::exception_ptr error) {
    detail::require(error != nullptr,
                    "flight_promise: set_error with a null exception_ptr (std::current_exception() "
                    "is that outside of a handler)");
    const holding hold(*this);
    if (hold.load->first_answer(attempt_)) hold.load->answer_error(std::move(error));
  }
  void set_error(flight_errc code) {
    const holding hold(*this);
    if (hold.load->first_answer(attempt_)) hold.load->answer_code(code);
  }

  void set_outcome(outcome<V>&& result) {
    if (result.has_value()) {
      if constexpr (std::is_void_v<V>) {
        set_value();
      } else {
        set_value(std::move(result).value());
      }
    } else {
      if (const std::optional<flight_errc> code = detail::code_of(result)) {
        set_error(*code);
      } else {
        set_error(result.exception());
      }
    }
  }

  /// Returns the context of the flight that this promise answers. Requires that it is unanswered.
  const flight_context& context() const noexcept { return *load_->context; }

 private:
  friend detail::promise_door;

  explicit flight_promise(detail::answering_load& load) noexcept
      : load_(&load), attempt_(load.attempt) {
    load_->home->add_reference();
    detail::wandering_load::begin();
  }
  detail::led_frame frame_here(const detail::led_frame* outer) const noexcept {
    return {load_->frame.flight_id, outer, nullptr, load_->frame.group, false};
  }

  struct holding {
    explicit holding(flight_promise& p) : load(std::exchange(p.load_, nullptr)) {
      detail::require(load != nullptr, "flight_promise: answered twice, or moved from");
    }
    holding(const holding&) = delete;
    holding& operator=(const holding&) = delete;
    ~holding() {
      detail::wandering_load::end();
      load->home->drop_reference();
    }
    detail::answering_load* load;
  };

  detail::answering_load* load_;
  std::uint32_t attempt_;  // a hand-over begins another attempt; each promise answers its own
};

SINGLEFLIGHT_END_NAMESPACE
