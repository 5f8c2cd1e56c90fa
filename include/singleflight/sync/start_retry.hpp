// SPDX-License-Identifier: Apache-2.0
#pragma once

/// start_retry: retry for coroutines: its attempts run on an executor, and no thread sleeps for it.
///
/// Use when    a call that is to be retried is awaited, or runs while its caller does other work.
/// Not for     a thread that may block: retry (sync/retry.hpp) borrows and allocates nothing.
///
/// Threads     each attempt begins as a task of the executor, one at a time; what an attempt
///             awaits chooses where it resumes, and retry_if and on_retry are called there.
/// Ordering    what an attempt did happens-before the next one, and before the return of get and
///             co_await.
/// Blocking    never; a sleep between attempts holds no thread. The handle's get blocks: on a
///             thread that the attempts need (a pool's only one) it would wait forever.
/// Cancel      a stop ends a sleep at once, and no attempt begins after it: cancelled. A deadline,
///             or the policy's budget, does not interrupt an attempt, but no sleep begins that
///             would not end before it: the last exception is the result. A limit that has expired
///             before the first attempt begins: cancelled or timed_out. Destroying the handle, or a
///             wait on it that gives up, acts as a stop; an attempt is never interrupted.
/// Errors      std::invalid_argument is thrown by the call itself, as by retry. Everything else is
///             the result: the last attempt's exception, with its own type, or its outcome without
///             a value; an exception of retry_if, on_retry, random or the timer; flight_error, also
///             recursive (a load waits for the handle, and an attempt for the load). A task that
///             the executor refuses or drops, an awaited coroutine that is destroyed, the end of
///             the thread (pthread_exit) in an attempt: broken.
/// Lifetime    owns policy, function and limits, and destroys them before the result is available.
///             What they refer to, the timer and the executor outlive that.
/// Cost        one allocation; each attempt one task; each sleep one timer node.

#include <concepts>
#include <cstdint>
#include <exception>
#include <memory>
#include <type_traits>
#include <utility>

#include "singleflight/core/limits.hpp"
#include "singleflight/core/pending_result.hpp"
#include "singleflight/sync/detail/retry_run.hpp"
#include "singleflight/sync/retry_policy.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE

/// Begins to call `fn()` or `fn(attempt)`, with the number of the attempt from 1 on, until it
/// returns. The result is what it returns, or what that yields when it is awaited (of a reference,
/// a copy); if that is an outcome without a value, the attempt has failed, and the last one is the
/// result. Await the handle, or get() it.
template <class Fn>
  requires(std::invocable<std::decay_t<Fn>&> || std::invocable<std::decay_t<Fn>&, std::uint32_t>)
[[nodiscard]] auto start_retry(retry_policy policy, Fn&& fn, const limits& bounds = {},
                               const any_executor& executor = {}) {
  using run_type = detail::retry_run<std::decay_t<Fn>>;
  using value = typename detail::attempt_of<std::decay_t<Fn>>::value;
  static_assert(!std::is_same_v<value, flight_errc> && !std::is_same_v<value, std::exception_ptr>,
                "singleflight: a function that is retried fails by throwing; an error code that it "
                "returns could not be distinguished from a failure");
  const auto end = detail::end_of(policy, bounds);
  auto* const run = new run_type(std::move(policy), std::forward<Fn>(fn), bounds, executor,
                                 end ? *end : detail::steady_time::max());
  pending_result<value> handle(*run);
  if (end) {
    run->start();
  } else {
    run->refuse(*end.errc());
  }
  return handle;
}

SINGLEFLIGHT_END_NAMESPACE
