// SPDX-License-Identifier: Apache-2.0
#pragma once

// load_answer: members of answering_load.

#include <exception>
#include <utility>

#include "singleflight/flight/detail/load_answer.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

/// The call of a promise loader. Attempts may overlap, so the state of each is on its stack.
struct answering_load::promised_call : promise_call {
  explicit promised_call(answering_load& answered)
      : promise_call{&answered, ++answered.attempt, std::uncaught_exceptions(),
                     this_thread().promise_calls,
                     [](promise_call& c) { static_cast<promised_call&>(c).end(nullptr); }},
        self(answered),
        on(this_thread()) {
    self.open_attempt.store(attempt, memory_order_release);
    on.promise_calls = this;
  }
  promised_call(const promised_call&) = delete;
  promised_call& operator=(const promised_call&) = delete;
  ~promised_call() { on.promise_calls = outer; }

  /// Called when the loader has thrown `error`, or, if that is null, no longer has a dropped
  /// promise.
  void end(std::exception_ptr error) {
    if (error != nullptr) {
      if (self.first_answer(attempt)) self.answer_error(std::move(error));
    } else if (std::exchange(dropped, false) && platform::holds(rule::dropped_promise_is_broken)) {
      if (self.first_answer(attempt)) self.answer_broken();
    }
  }
  answering_load& self;
  thread_state& on;
};

SINGLEFLIGHT_BODY void answering_load::answer_error(std::exception_ptr error) {
  finish(flight_result::error, {}, keep_alive(std::move(error)));
}

SINGLEFLIGHT_BODY void answering_load::answer_code(flight_errc code) {
  finish(flight_result::code, code, nullptr);
}

SINGLEFLIGHT_BODY void answering_load::drop_answer(std::uint32_t number) {
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

SINGLEFLIGHT_BODY void answering_load::call_with_promise() {
  promised_call call(*this);
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

SINGLEFLIGHT_BODY void answering_load::call_and_answer() {
  answer_by([this](void* at) { invoke(at); });
}

SINGLEFLIGHT_COLD SINGLEFLIGHT_BODY std::exception_ptr answering_load::unmade_value() {
  if (platform::is_thread_exit()) {
    finish(flight_result::code, flight_errc::broken, nullptr);
    throw;
  }
  return std::current_exception();
}

SINGLEFLIGHT_BODY void answering_load::answer_made() {
  block_base& b = *block;
  if (b.node != nullptr && b.core->plain() && b.core->finish_alone(b, *this)) {
    drop_flight(b);
  } else {
    finish(flight_result::value, {}, nullptr);
  }
}

SINGLEFLIGHT_BODY void answering_load::finish(flight_result result, flight_errc code,
                                              std::exception_ptr error) {
  const call_scope scope;  // its tasks come last: one may end the thread
  block_base* const b = block;
  if (b->core->finish(*b, result, code, std::move(error)).over) drop_flight(*b);
}

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE
