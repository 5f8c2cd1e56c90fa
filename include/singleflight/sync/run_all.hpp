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
///             what has not begun never does: timed_out, or cancelled. An error stops nobody.
/// Errors      std::invalid_argument for a limit of 0 and a negative timeout, before any call.
///             broken for a call that ended its thread.
/// Lifetime    calls that the range keeps are borrowed.
/// Cost        as an error_group; with a timeout also a timer node and a clock call for each call.

#include <chrono>
#include <deque>
#include <optional>
#include <ranges>
#include <stdexcept>
#include <stop_token>
#include <type_traits>
#include <utility>
#include <vector>

#include "singleflight/core/default_timer.hpp"
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

namespace detail {

/// Stops a group when the time has come; on the stack of run_all. The waiting thread may be inside
/// of a call then, and firing must run no stop callback: so a thread of timeout_pool() strikes.
class group_deadline : private timer_node, private task_node {
 public:
  group_deadline(task_group& group, timer& clock, std::chrono::nanoseconds timeout)
      : timer_node(&on_fire),
        task_node(&on_task),
        group_(group),
        clock_(clock),
        at_(deadline_after(clock.now(), timeout)) {
    clock_.arm(*this, at_);
  }
  group_deadline(const group_deadline&) = delete;
  group_deadline& operator=(const group_deadline&) = delete;
  ~group_deadline() { end(); }

  /// Afterwards nobody strikes any more; whether it was the deadline that stopped the group.
  bool end() noexcept {
    clock_.cancel(*this);
    phase now = phase_.load(memory_order_acquire);
    for (; now == phase::fired; now = phase_.load(memory_order_acquire)) {
      platform::wait(phase_, now);
    }
    return now == phase::struck;
  }
  bool passed() const noexcept { return clock_.now() >= at_; }

 private:
  enum class phase : std::uint32_t { armed, fired, too_late, struck };

  static void on_fire(timer_node& node) noexcept {
    auto& self = static_cast<group_deadline&>(node);
    self.phase_.store(phase::fired, memory_order_relaxed);  // cancel comes after the fire
    timeout_pool().post(&self, true);
  }
  static void on_task(task_node* node, bool) {
    auto& self = static_cast<group_deadline&>(*node);
    const bool first = self.group_.request_stop();
    self.phase_.store(first ? phase::struck : phase::too_late, memory_order_release);
    platform::wake(self.phase_, 1);  // by its address: it may have gone
  }

  task_group& group_;
  timer& clock_;
  const steady_time at_;
  atomic<phase> phase_{phase::armed};
};

}  // namespace detail

/// One outcome per call, by position. A call takes nothing, or a std::stop_token.
template <std::ranges::input_range Calls>
std::vector<outcome<detail::result_of_calls<Calls>>> run_all(Calls&& calls,
                                                             run_all_options options = {}) {
  using held = detail::held_call<Calls>;
  using result = detail::result_of_calls<Calls>;
  static_assert(!std::is_reference_v<result>, "singleflight: run_all keeps values");
  using namespace std::chrono_literals;
  if (options.timeout < 0ns) throw std::invalid_argument("run_all: the timeout is negative");
  if (options.limit == 0) {
    throw std::invalid_argument("run_all: limit 0 would run nothing; 1 runs in series");
  }

  std::deque<std::optional<outcome<result>>> slots;  // outlives the group; grows without moving
  const detail::owned_task_group group({.executor = std::move(options.executor),
                                        .limit = options.limit,
                                        .max_queued = detail::task_group::unlimited,
                                        .stops_on_error = false,
                                        .parent = std::move(options.stop)});
  std::optional<detail::group_deadline> deadline;
  if (options.timeout > 0ns) {
    deadline.emplace(*group, options.timer != nullptr ? *options.timer : default_timer(),
                     options.timeout);
  }
  for (auto&& call : calls) {
    auto keep = [&slot = slots.emplace_back(), &deadline](auto&& value) {
      if (deadline && deadline->passed()) {  // and the strike is still on its way
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
    group->add(detail::make_group_task(
                   detail::kept_call<held, decltype(keep)>{static_cast<held>(call), keep}),
               false);
  }
  (void)group->wait();
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
