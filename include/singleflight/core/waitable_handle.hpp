// SPDX-License-Identifier: Apache-2.0
#pragma once

/// waitable_handle: what a one-shot handle provides so that handle_wait can wait for it.
///
/// Use when    writing an adapter that works with every handle of the library (flight,
///             pending_result, pending_cached, pending_permit): constrain it with this concept.
/// Not for     types of a program: a handle links itself into the library's lists of waiters.

#include <chrono>
#include <concepts>
#include <cstdint>
#include <type_traits>

#include "singleflight/core/executor.hpp"
#include "singleflight/core/limits.hpp"
#include "singleflight/core/outcome.hpp"
#include "singleflight/core/support/waiter.hpp"
#include "singleflight/core/timer.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

/// The base of every handle: its node in a list of waiters.
struct handle_base : waiter {
  std::uint8_t wait_progress = 0;  ///< of the current handle_wait
};

/// The friend that reads a handle's private members for its waits:
///
///   result                  the type of the handle's value
///   batch_type              a list of waiters that resume on one executor
///   calls_back              whether on_ready may consume the handle
///   settled()               whether the outcome is available, so that no wait is needed
///   clock()                 the timer for its limits
///   home_batch()            the batch of waits that name no executor
///   batch_on(executor)      the batch of a named executor; released after the wait
///   enrol(batch, deadline, always)
///                           lists the waiter; returns false if the outcome is available and the
///                           waiter will not be resumed
///   cancel(batch, why)      a limit ends the wait: the verdict is `why`, unless the outcome came
///                           first
///   take_out(batch)         removes a waiter that will not be resumed
///   end_limit()             the wait is over; its deadline is not referred to any more
///   take(verdict)           consumes the handle: returns its outcome, or the error of the verdict
///   blocked_outcome(limits) blocks this thread, then does the same
struct handle_access {
  template <class Handle>
  static consteval bool provides_all() {
    return requires(Handle& h, typename Handle::batch_type& batch, const any_executor& executor,
                    const std::chrono::steady_clock::time_point* deadline, wait_verdict verdict,
                    const limits& bounds) {
      { Handle::calls_back } -> std::convertible_to<bool>;
      { h.settled() } -> std::same_as<bool>;
      { h.clock() } -> std::same_as<timer&>;
      { h.home_batch() } -> std::same_as<typename Handle::batch_type&>;
      { h.batch_on(executor) } -> std::same_as<typename Handle::batch_type*>;
      { h.enrol(batch, deadline, false) } -> std::same_as<bool>;
      h.cancel(batch, verdict);
      h.take_out(batch);
      h.end_limit();
      { h.take(verdict) } -> std::same_as<outcome<typename Handle::result>>;
      { h.blocked_outcome(bounds) } -> std::same_as<outcome<typename Handle::result>>;
    };
  }
};

}  // namespace detail

template <class Handle>
concept waitable_handle =
    std::is_base_of_v<detail::handle_base, Handle> && detail::handle_access::provides_all<Handle>();

SINGLEFLIGHT_END_NAMESPACE
