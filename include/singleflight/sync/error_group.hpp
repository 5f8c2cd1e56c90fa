// SPDX-License-Identifier: Apache-2.0
#pragma once

/// error_group: tasks that run concurrently; the first error stops the group, all are waited for.
/// collect: the same for calls that return values.
///
/// Use when    one piece of work fans out to several, and is useless without all of them.
/// Not for     one outcome for each (sync/run_all.hpp).
/// Example     examples/10_error_group.cpp
///
/// Threads     every member, from any thread, tasks included; the destructor once no new call can
///             begin.
/// Ordering    go happens-before its task; the task, and the destruction of its callable,
///             happen-before the return of the wait. Tasks begin in the order of the calls of go.
/// Blocking    go and try_go never wait: a task that cannot begin is queued. wait runs unbegun
///             tasks of this group on its own thread, never those of another group; so these
///             complete: nested groups, a group on a full pool, a limit of 1, an executor that
///             drops everything. The destructor waits for what runs.
/// Cancel      the first error, request_stop, the parent's stop and the destructor stop a group:
///             what has not begun is skipped and counted, what runs may check its stop token and is
///             waited for. A token of a use that is over has always been stopped.
/// Errors      wait throws the first error with its own type, or flight_error: broken, when a task
///             ended its thread; cancelled, when tasks were skipped without an error (so after a
///             wait that returns, every task has run to its end); recursive, within a task of the
///             group, or within its stop (a callback of its token, the destructor of what is
///             skipped), which would wait for itself, also through tasks of other groups. If a task
///             waits for a load which waits for the group, the task's wait is recursive.
/// Lifetime    owns its tasks. After a wait the group is as new. It may be destroyed before its
///             executor has run what it was given.
/// Cost        a task: two short critical sections, and no allocation if its callable has up to 72
///             bytes (one if it is larger), once as many tasks have been pending at a time: the
///             memory of ended tasks, 128 bytes each, is kept for later ones until the group is
///             destroyed. The executor is asked for threads, not once for each task. A stop token
///             is made when it is first asked for.
///
/// Modelled on golang.org/x/sync/errgroup; there the limit blocks Go, and an error is kept forever.

#include <cstddef>
#include <deque>
#include <optional>
#include <ranges>
#include <stdexcept>
#include <type_traits>
#include <utility>
#include <vector>

#include "singleflight/core/support/require.hpp"
#include "singleflight/core/support/stop_token.hpp"
#include "singleflight/sync/detail/owned_task_group.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE

struct error_group_options {
  static constexpr std::size_t no_limit = detail::task_group::unlimited;

  /// Where tasks run, in addition to threads in wait. A pool outlives the group.
  any_executor executor{};
  /// The most tasks that run at a time, 1 or more.
  std::size_t limit = no_limit;
  /// The most tasks beyond the limit that wait for their turn; without a limit, the most tasks that
  /// have not begun, and then 1 or more. If there are more, go throws flight_error(overloaded).
  std::size_t max_queued = no_limit;
  /// A parent's token: its stop stops the group.
  std::stop_token stop{};
};

class error_group {
 public:
  /// Throws std::invalid_argument for a limit of 0, and for max_queued 0 without a limit.
  explicit error_group(error_group_options options = {})
      : group_({.executor = std::move(options.executor),
                .limit = checked(options).limit,
                .max_queued = options.max_queued,
                .stops_on_error = true,
                .parent = std::move(options.stop),
                .lasts = true}) {}
  error_group(const error_group&) = delete;
  error_group& operator=(const error_group&) = delete;
  /// Stops the group and waits for what runs. Aborts the process when called within one of the
  /// group's own tasks or stop callbacks: it would wait for itself.
  ~error_group() {
    detail::require(!group_->runs_on_this_thread(),
                    "error_group: destroyed within one of its own tasks or stop callbacks");
  }

  /// Adds a task: any callable that returns nothing; it may take a std::stop_token. In a group that
  /// was stopped it is skipped.
  template <class Fn>
  void go(Fn&& fn) {
    using admission = detail::task_group::admission;
    if (group_->add(std::forward<Fn>(fn), false) == admission::full) {
      throw flight_error(flight_errc::overloaded);
    }
  }
  /// Returns false, and counts nothing, when the task would have to queue behind the limit, when
  /// max_queued is reached, or when the group was stopped.
  template <class Fn>
  [[nodiscard]] bool try_go(Fn&& fn) {
    using admission = detail::task_group::admission;
    return group_->add(std::forward<Fn>(fn), true) == admission::accepted;
  }

  /// Returns once nothing is left to run. Threads that wait at the same time all get the result.
  void wait() { wait(as_outcome).value(); }
  outcome<void> wait(as_outcome_t) {
    if (group_->runs_on_this_thread()) return flight_errc::recursive;
    return group_->wait(detail::wait_graph::strength::strong);
  }

  /// Skips what has not begun and asks what runs to stop. Returns false if that was done before.
  bool request_stop() { return group_->request_stop(); }
  /// Returns the token of the current use of the group; each wait ends a use.
  std::stop_token stop_token() const { return group_->token(); }

  /// Returns all errors in the order in which the tasks failed; after a wait those of the last use,
  /// until the next go.
  std::vector<task_error> errors() const { return group_->errors(); }
  /// Returns how many tasks of the same use never began because the group was stopped.
  std::size_t skipped() const noexcept { return group_->skipped(); }

 private:
  static const error_group_options& checked(const error_group_options& options) {
    if (options.limit == 0) {
      throw std::invalid_argument("error_group: limit 0 would run nothing; 1 runs in series");
    }
    if (options.max_queued == 0 && options.limit == error_group_options::no_limit) {
      throw std::invalid_argument("error_group: max_queued 0 without a limit would refuse all");
    }
    return options;
  }

  detail::owned_task_group group_;
};

/// Runs all calls of a range concurrently, also on this thread, and returns their values in the
/// order of the range. The first error stops the others, as in a group, and is thrown. Calls that
/// the range stores are borrowed.
template <class T, std::ranges::input_range Calls>
std::vector<T> collect(Calls&& calls, error_group_options options = {}) {
  using held = detail::held_call<Calls>;
  std::deque<std::optional<T>> slots;  // outlives the group; grows without moving
  error_group group(std::move(options));
  for (auto&& call : calls) {
    auto keep = [&slot = slots.emplace_back()](auto&& result) {
      slot.emplace(detail::value_from<T>(result()));
    };
    group.go(detail::kept_call<held, decltype(keep)>{std::forward<decltype(call)>(call), keep});
  }
  group.wait();
  std::vector<T> all;
  all.reserve(slots.size());
  for (std::optional<T>& slot : slots) all.push_back(*std::move(slot));
  return all;
}

SINGLEFLIGHT_END_NAMESPACE
