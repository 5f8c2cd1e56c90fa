// SPDX-License-Identifier: Apache-2.0
#pragma once

// flight_on_ready: how on_ready waits and calls its callback.

#include "singleflight/flight/flight.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE

/// A callback with its handle and its wait, in one allocation.
template <class V>
template <class Executor, class Callback, class Within>
struct flight<V>::callback_state : detail::ready_action {
  template <class Fn>
  callback_state(flight&& from, time_point deadline, std::stop_token stop, within_ref within,
                 Executor executor, Fn&& fn)
      : ready_action{&run},
        handle(std::move(from)),
        callback(std::forward<Fn>(fn)),
        wait(handle, deadline, std::move(stop), within, std::move(executor)) {}

  static void run(ready_action* action) {
    const std::unique_ptr<callback_state> self(static_cast<callback_state*>(action));
    outcome<shared_result<V>> result = self->wait.end();
    self->callback(std::move(result));
  }

  flight handle;
  Callback callback;
  flight_wait<V, Executor, true, Within> wait;
};

template <class V>
template <class Within, class Executor, class Callback>
void flight<V>::call_back(time_point deadline, std::stop_token stop, within_ref within,
                          Executor executor, Callback&& callback) {
  if constexpr (!std::is_invocable_v<std::decay_t<Callback>&, outcome<shared_result<V>>>) {
    static_assert(
        detail::always_false<Callback>,
        "singleflight: on_ready calls its callback with an outcome<shared_result<Value>>");
  } else {
    using state_type = callback_state<Executor, std::decay_t<Callback>, Within>;
    detail::require(block_ != nullptr, "flight: used twice, or after a move");
    const detail::call_scope scope;  // waiters that arming resumes on this thread run at its end
    auto made = std::make_unique<state_type>(std::move(*this), deadline, std::move(stop), within,
                                             std::move(executor), std::forward<Callback>(callback));
    made->wait.arm(
        reinterpret_cast<std::uintptr_t>(static_cast<detail::ready_action*>(made.get())) | 1);
    made.release()->wait.enter(true);  // it may have been destroyed when this returns
  }
}

SINGLEFLIGHT_END_NAMESPACE
