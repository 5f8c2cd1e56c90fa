// SPDX-License-Identifier: Apache-2.0
#pragma once

/// run_all: calls side by side, or in series, and one outcome for each.
///
/// Use when    the outcomes of several calls are wanted, errors among them, within a time for all.
/// Not for     calls that are worth nothing without each other (sync/error_group.hpp: collect).
/// Example     examples/10_error_group.cpp
///
/// Threads     a free function; from any thread.
/// Ordering    calls begin in the order of the range; with .limit = 1 each after the end of the one
///             before. A call happens-before the return.
/// Blocking    runs calls on this thread too, and returns when all that began have ended: a call
///             that does not heed its stop token holds it up past the timeout.
/// Cancel      at the timeout and at a stop what runs is told to stop, and its own outcome counts;
///             what has not begun never does: timed_out, or cancelled. An error stops nobody. All
///             timeouts of the process strike on up to 16 threads: where so many stop callbacks
///             hang, the next call that runs is told late; that none begins late does not depend
///             on it. So it is another thread that tells, also of a manual_timer's timeout.
/// Errors      throws, before any call: std::invalid_argument for a limit of 0 and a negative
///             timeout; std::system_error for a timeout whose timer has no thread and gets none;
///             std::bad_alloc, and what the range throws (both also later, when it has waited for
///             the calls that began). All else is an outcome: a call's error; recursive for a
///             call that waits for the load which waits here; broken for a call that ended its
///             thread. Without a thread to be had all calls run on this one.
/// Lifetime    calls that the range keeps are borrowed.
/// Cost        as an error_group; with a timeout also one allocation, and a clock call a call.

#include <chrono>
#include <deque>
#include <exception>
#include <optional>
#include <ranges>
#include <stdexcept>
#include <type_traits>
#include <utility>
#include <vector>

#include "singleflight/core/default_timer.hpp"
#include "singleflight/core/support/stop_token.hpp"
#include "singleflight/sync/detail/group_deadline.hpp"
#include "singleflight/sync/error_group.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE

struct run_all_options {
  /// For all calls together; zero: none.
  std::chrono::nanoseconds timeout{0};
  /// Calls that run at a time, 1 or more; 1: in series.
  std::size_t limit = error_group_options::no_limit;
  /// Where calls run, beside this thread.
  any_executor executor{};
  /// For the timeout; null: default_timer().
  singleflight::timer* timer = nullptr;
  std::stop_token stop{};
};

/// One outcome per call, by position. A call takes nothing, or a std::stop_token.
template <std::ranges::input_range Calls>
std::vector<outcome<detail::result_of_calls<Calls>>> run_all(Calls&& calls,
                                                             run_all_options options = {}) {
  using held = detail::held_call<Calls>;
  using result = detail::result_of_calls<Calls>;
  static_assert(!std::is_reference_v<result>, "singleflight: run_all keeps values");
  static_assert(
      !std::is_same_v<result, flight_errc> && !std::is_same_v<result, std::exception_ptr>,
      "singleflight: run_all would take a flight_errc or a std::exception_ptr that a call "
      "returns for its error; wrap it");
  using namespace std::chrono_literals;
  if (options.timeout < 0ns) throw std::invalid_argument("run_all: the timeout is negative");
  if (options.limit == 0) {
    throw std::invalid_argument("run_all: limit 0 would run nothing; 1 runs in series");
  }

  // What tasks use outlives the group, whose end waits for them also when this is left by an
  // exception; the deadline, which uses the group, goes before it.
  std::deque<std::optional<outcome<result>>> slots;  // grows without moving
  detail::group_time time;
  if (options.timeout > 0ns) {
    time.clock = options.timer != nullptr ? options.timer : &default_timer();
    time.until = detail::deadline_after(time.clock->now(), options.timeout);
  }
  const detail::owned_task_group group({.executor = std::move(options.executor),
                                        .limit = options.limit,
                                        .max_queued = detail::task_group::unlimited,
                                        .stops_on_error = false,
                                        .parent = std::move(options.stop)});
  std::optional<detail::group_deadline> deadline;
  if (time.clock != nullptr) deadline.emplace(*group, time);
  for (auto&& call : calls) {
    auto keep = [&slot = slots.emplace_back(), &time](auto&& value) {
      if (time.passed()) {  // and the strike is still on its way
        slot.emplace(flight_errc::timed_out);
        return;
      }
      try {
        if constexpr (std::is_void_v<result>) {
          value();
          slot.emplace();
        } else {
          slot.emplace(value());
        }
      } catch (...) {
        if (detail::platform::is_thread_exit()) {
          slot.emplace(flight_errc::broken);
          throw;
        }
        slot.emplace(detail::keep_alive(std::current_exception()));
      }
    };
    group->add(detail::make_group_task(detail::kept_call<held, decltype(keep)>{
                   std::forward<decltype(call)>(call), keep}),
               false);
  }
  (void)group->wait(detail::wait_graph::strength::firm);
  const bool struck = deadline && deadline->end();
  std::vector<outcome<result>> all;
  all.reserve(slots.size());
  for (auto& slot : slots) {
    if (!slot) slot.emplace(struck ? flight_errc::timed_out : flight_errc::cancelled);
    all.push_back(*std::move(slot));
  }
  return all;
}

SINGLEFLIGHT_END_NAMESPACE
