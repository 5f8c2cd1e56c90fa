// SPDX-License-Identifier: Apache-2.0
#pragma once

// flight_callback: what on_ready makes.

#include "singleflight/flight/flight.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE

/// A callback with its handle and its wait, in one allocation. Where an executor was named, the
/// state is the batch too, and the block owns it.
template <class V>
template <class Executor, class Callback, class Within>
struct flight<V>::callback_state : detail::ready_action {
  static constexpr bool named = std::is_same_v<Executor, any_executor>;

  template <class Fn>
  callback_state(flight&& from, time_point deadline, std::stop_token stop, within_ref within,
                 Executor executor, Fn&& fn)
      : ready_action{&run}, handle(std::move(from)), callback(std::in_place, std::forward<Fn>(fn)) {
    if constexpr (named) {
      batch.emplace(executor);
      batch->owner = handle.block_;
      batch->dispose = [](detail::flight_batch* b) { delete own_batch::state_of(b); };
      batch->state = this;
    }
    wait.emplace(handle, deadline, std::move(stop), within, std::move(executor));
    if constexpr (named) wait->executor_.batch = &*batch;
  }

  static void run(ready_action* action) {
    auto* const self = static_cast<callback_state*>(action);
    struct finishing {
      callback_state* self;
      ~finishing() {
        self->callback.reset();
        if constexpr (!named) delete self;
      }
    } const finish{self};
    outcome<shared_result<V>> result = self->wait->end();
    (*self->callback)(std::move(result));
  }

  struct own_batch : detail::flight_batch {
    using detail::flight_batch::resume_batch;
    static callback_state* state_of(resume_batch* b) { return static_cast<own_batch*>(b)->state; }
    callback_state* state = nullptr;
  };

  flight handle;
  std::optional<Callback> callback;
  std::optional<flight_wait<V, Executor, true, Within>> wait;
  [[no_unique_address]] std::conditional_t<named, std::optional<own_batch>, detail::no_executor>
      batch;
};

template <class V>
template <class Within, class Executor, class Callback>
void flight<V>::call_back(time_point deadline, std::stop_token stop, within_ref within,
                          Executor executor, Callback&& callback) {
  using state_type = callback_state<Executor, std::decay_t<Callback>, Within>;
  detail::require(block_ != nullptr, "flight: used twice, or after a move");
  detail::block_base& b = *block_;
  auto* const made = new state_type(std::move(*this), deadline, std::move(stop), within,
                                    std::move(executor), std::forward<Callback>(callback));
  if constexpr (state_type::named) {
    b.lock();
    made->batch->next = b.room.more_batches;
    b.room.more_batches = &*made->batch;
    b.unlock();
  }
  try {
    made->wait->begin(
        reinterpret_cast<std::uintptr_t>(static_cast<detail::ready_action*>(made)) | 1, true);
  } catch (...) {
    if constexpr (state_type::named) {  // the block owns it; leave the flight now
      b.add_reference();
      made->wait.reset();
      (void)flight(std::move(made->handle));
      b.drop_reference();
    } else {
      delete made;
    }
    throw;
  }
}

SINGLEFLIGHT_END_NAMESPACE
