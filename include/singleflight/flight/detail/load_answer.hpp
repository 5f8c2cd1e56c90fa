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

struct answering_load : load_base {
  using load_base::load_base;

  /// Answers with a V made from `args`, or with the exception that making it throws. Requires that
  /// no other thread answers: a promise checks first_answer(), the other forms have one answer.
  template <class V, class... Args>
  void answer_value(Args&&... args) {
    answer_by([&](void* at) {
      detail::construct_of<typename flight_block<V>::stored>(at, std::forward<Args>(args)...);
    });
  }
  void answer_error(std::exception_ptr error);
  void answer_code(flight_errc code);
  void answer_broken() { answer_code(flight_errc::broken); }
  /// Called when the promise of attempt `number` was destroyed unanswered: answers `broken` at
  /// once. If an exception propagates within the call that got the promise, that waits for the
  /// call's end.
  void drop_answer(std::uint32_t number);
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
  ~answering_load() = default;

  /// Calls the loader, with a promise; or constructs its return value at `at`.
  virtual void invoke(void* at) = 0;

  void call_with_promise();
  void call_and_answer();

 private:
  struct promised_call;

  /// Answers with the value that make(void* at) constructs, or with the exception that it throws.
  template <class Make>
  void answer_by(const Make& make) {
    std::exception_ptr error;  // answered outside the handler: answering may end the thread
    try {
      block->construct_by(make);
    } catch (...) {
      error = unmade_value();
    }
    if (error == nullptr) {
      answer_made();
    } else {
      answer_error(std::move(error));
    }
  }
  /// Called within the handler of an exception that constructing the value has thrown: returns it,
  /// or, if it ends the thread, answers `broken` and throws it on.
  std::exception_ptr unmade_value();
  /// Answers with the value that the block has.
  void answer_made();
  void finish(flight_result result, flight_errc code, std::exception_ptr error);
};

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE

#if !defined(SINGLEFLIGHT_COMPILED)
#include "singleflight/flight/impl/load_answer.hpp"
#endif
