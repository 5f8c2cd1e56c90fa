// SPDX-License-Identifier: Apache-2.0
#pragma once

// load_answer: how an owned load answers: with a value, an error or a broken promise; at most once
// per attempt.
//
// A loader that takes a flight_promise is the basic form. The two others are adapters to the same
// answer: a plain loader answers with its return value, an awaitable one with the result of its
// awaitable.

#include <cstdint>
#include <exception>
#include <optional>
#include <utility>

#include "singleflight/core/support/conversion.hpp"
#include "singleflight/core/support/thread_state.hpp"
#include "singleflight/flight/detail/flight_core.hpp"
#include "singleflight/flight/detail/rules.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

template <class V>
struct typed_load : load_base {
  using load_base::load_base;
  using stored = typename flight_block<V>::stored;

  // Requires that no other thread answers: a promise checks first_answer(), the other forms have
  // one answer only.
  template <class... Args>
  void answer_value(Args&&... args) {
    const auto make = [&](void* at) {
      detail::construct_of<stored>(at, std::forward<Args>(args)...);
    };
    answer_made(make);
  }
  void answer_error(std::exception_ptr error) {
    finish(flight_result::error, {}, keep_alive(std::move(error)));
  }
  void answer_code(flight_errc code) { finish(flight_result::code, code, nullptr); }
  void answer_broken() { answer_code(flight_errc::broken); }
  /// Called when the promise of attempt `number` was destroyed unanswered: answers `broken` at
  /// once. If an exception propagates within the call that got the promise, that waits for the
  /// call's end.
  void drop_answer(std::uint32_t number) {
    for (promise_call* c = this_thread().promise_calls; c != nullptr; c = c->outer) {
      if (c->load != this || c->attempt != number) continue;
      if (std::uncaught_exceptions() <= c->exceptions_before ||
          !platform::holds(rule::leaving_error_is_answer)) {
        break;
      }
      c->dropped = true;
      return;
    }
    if (first_answer(number)) answer_broken();
  }
  /// Returns true for the first answer of attempt `number`; a promise of an earlier attempt is too
  /// late.
  bool first_answer(std::uint32_t number) noexcept {
    return open_attempt.compare_exchange_strong(number, 0, memory_order_acq_rel,
                                                memory_order_relaxed);
  }

  std::optional<flight_context> context;  ///< of the attempt that runs
  atomic<std::uint32_t> open_attempt{
      0};  ///< its number, until it is answered; promise loaders only
  std::uint32_t attempt = 0;

 protected:
  ~typed_load() = default;

  /// The call of a promise loader. Attempts may overlap, so the state of each is on its stack.
  struct answering : promise_call {
    explicit answering(typed_load& answered)
        : promise_call{&answered, ++answered.attempt, std::uncaught_exceptions(),
                       this_thread().promise_calls,
                       [](promise_call& c) { static_cast<answering&>(c).end(nullptr); }},
          self(answered),
          on(this_thread()) {
      self.open_attempt.store(attempt, memory_order_release);
      on.promise_calls = this;
    }
    answering(const answering&) = delete;
    answering& operator=(const answering&) = delete;
    ~answering() { on.promise_calls = outer; }

    /// Called when the loader has thrown `error`, or, if that is null, no longer has a dropped
    /// promise.
    void end(std::exception_ptr error) {
      if (error != nullptr) {
        if (self.first_answer(attempt)) self.answer_error(std::move(error));
      } else if (std::exchange(dropped, false) &&
                 platform::holds(rule::dropped_promise_is_broken)) {
        if (self.first_answer(attempt)) self.answer_broken();
      }
    }
    typed_load& self;
    thread_state& on;
  };

  /// Calls the loader, with a promise; or constructs its return value at `at`.
  virtual void invoke(void* at) = 0;

  void call_with_promise() {
    answering call(*this);
    std::exception_ptr error;
    try {
      invoke(nullptr);
    } catch (...) {
      if (platform::is_thread_exit()) {
        if (first_answer(call.attempt)) answer_broken();
        throw;
      }
      error = std::current_exception();
    }
    call.end(std::move(error));
  }
  void call_and_answer() {
    answer_made([this](void* at) { invoke(at); });
  }

 private:
  /// Answers with the value that `make` constructs, or with the exception that it throws.
  template <class Make>
  void answer_made(const Make& make) {
    auto& b = static_cast<flight_block<V>&>(*block);
    std::exception_ptr error;  // answered outside the handler: answering may end the thread
    try {
      b.construct_by(make);
    } catch (...) {
      if (platform::is_thread_exit()) {
        finish(flight_result::code, flight_errc::broken, nullptr);
        throw;
      }
      error = std::current_exception();
    }
    if (error != nullptr) {
      finish(flight_result::error, {}, keep_alive(std::move(error)));
    } else if (b.node != nullptr && b.core->plain() && b.core->finish_alone(b, *this)) {
      this->drop_flight(b);
    } else {
      finish(flight_result::value, {}, nullptr);
    }
  }
  void finish(flight_result result, flight_errc code, std::exception_ptr error) {
    const call_scope scope;  // its tasks come last: one may end the thread
    block_base* const b = block;
    if (b->core->finish(*b, result, code, std::move(error)).over) drop_flight(*b);
  }
};

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE
