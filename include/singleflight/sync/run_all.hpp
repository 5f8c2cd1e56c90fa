// SPDX-License-Identifier: Apache-2.0
#pragma once

/// run_all: runs calls concurrently, or in series, and returns one outcome for each.
///
/// Use when    the outcomes of several calls are wanted, including errors, within one timeout.
/// Not for     calls that are useless without each other (sync/error_group.hpp: collect).
/// Example     examples/10_error_group.cpp
///
/// Threads     a free function; from any thread.
/// Ordering    calls begin in the order of the range; with .limit = 1 each begins after the end of
///             the one before. A call happens-before the return.
/// Blocking    runs calls on this thread too, and returns when all that began have ended: a call
///             that ignores its stop token holds it up past the timeout.
/// Cancel      at the timeout and at a stop, calls that run are asked to stop, and their own
///             outcome counts; a call that has not begun never does: timed_out, or cancelled. An
///             error stops no other call. All timeouts of the process request their stops on up to
///             16 threads of their own, also those of a manual_timer: where that many stop
///             callbacks hang, the next stop is requested late, but still no call begins late.
/// Errors      throws, before any call: std::invalid_argument for a limit of 0 and a negative
///             timeout; std::system_error for a timeout whose timer has no thread and gets none;
///             std::bad_alloc, and what the range throws (both also later, after it has waited for
///             the calls that began). Everything else is an outcome: a call's error; recursive for
///             a call that waits for the load which waits here; broken for a call that ended its
///             thread. If no thread is available, all calls run on this one.
/// Lifetime    calls that the range stores are borrowed.
/// Cost        as an error_group; with a timeout also one allocation, and a clock read per call.

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
  /// The timeout of all calls together; if zero, there is none.
  std::chrono::nanoseconds timeout{0};
  /// The most calls that run at a time, 1 or more; with 1 they run in series.
  std::size_t limit = error_group_options::no_limit;
  /// Where calls run, in addition to this thread.
  any_executor executor{};
  /// The timer of the timeout; if null, default_timer().
  singleflight::timer* timer = nullptr;
  std::stop_token stop{};
};

namespace detail {

/// Checks the options; returns when their timeout is over.
inline group_time time_of(const run_all_options& options) {
  using namespace std::chrono_literals;
  if (options.timeout < 0ns) throw std::invalid_argument("run_all: the timeout is negative");
  if (options.limit == 0) {
    throw std::invalid_argument("run_all: limit 0 would run nothing; 1 runs in series");
  }
  group_time time;
  if (options.timeout > 0ns) {
    time.clock = options.timer != nullptr ? options.timer : &default_timer();
    time.until = deadline_after(time.clock->now(), options.timeout);
  }
  return time;
}

/// Makes a call, unless the time has passed, and stores its outcome.
template <class Result, class Call>
void store_outcome(std::optional<outcome<Result>>& slot, const group_time& time, Call&& call) {
  if (time.passed()) {  // and the expiry has not run yet
    slot.emplace(flight_errc::timed_out);
    return;
  }
  try {
    if constexpr (std::is_void_v<Result>) {
      call();
      slot.emplace();
    } else {
      slot.emplace(call());
    }
  } catch (...) {
    if (platform::is_thread_exit()) {
      slot.emplace(flight_errc::broken);
      throw;
    }
    slot.emplace(keep_alive(std::current_exception()));
  }
}

}  // namespace detail

/// Returns one outcome per call, by position. A call takes nothing, or a std::stop_token.
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
  const detail::group_time time = detail::time_of(options);

  // Declared in this order: the group's destructor, which waits for its tasks, runs before that of
  // the slots, to which tasks write; and after that of the deadline, which uses the group.
  std::deque<std::optional<outcome<result>>> slots;  // grows without moving
  const detail::owned_task_group group({.executor = std::move(options.executor),
                                        .limit = options.limit,
                                        .max_queued = detail::task_group::unlimited,
                                        .stops_on_error = false,
                                        .parent = std::move(options.stop)});
  std::optional<detail::group_deadline> deadline;
  if (time.clock != nullptr) deadline.emplace(*group, time);
  for (auto&& call : calls) {
    auto keep = [&slot = slots.emplace_back(), &time](auto&& make_call) {
      detail::store_outcome<result>(slot, time, make_call);
    };
    group->add(detail::kept_call<held, decltype(keep)>{std::forward<decltype(call)>(call), keep},
               false);
  }
  (void)group->wait(detail::wait_graph::strength::firm);
  const bool expired = deadline && deadline->end();
  std::vector<outcome<result>> all;
  all.reserve(slots.size());
  for (auto& slot : slots) {
    if (!slot) slot.emplace(expired ? flight_errc::timed_out : flight_errc::cancelled);
    all.push_back(*std::move(slot));
  }
  return all;
}

SINGLEFLIGHT_END_NAMESPACE
