// SPDX-License-Identifier: Apache-2.0
#pragma once

// The rules that the promises rest on. Each stands where it is kept, as platform::holds(rule::...)
// or, for a memory order, platform::order(rule::..., ...): constants, but for the tests that break
// one rule on purpose, to see that a test notices (SINGLEFLIGHT_MUTANTS).

#include <atomic>

#include "singleflight/core/detail/config.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

// X(rule, what breaks without it)
#define SINGLEFLIGHT_RULES(X)                                                                \
  X(attach_marks_bucket, "a thin leader leaves fast past the block that its load asked for") \
  X(join_marks_bucket, "a started load ends alone past its first joiner")                    \
  X(second_node_marks_bucket, "a fast leave drops the chain behind it")                      \
  X(close_marks_bucket, "a newcomer enters a closed group fast")                             \
  X(closed_refuses, "a closed group lets newcomers in")                                      \
  X(unlink_by_identity, "a flight that ends takes its successor out of the table")           \
  X(forgotten_is_not_found, "a newcomer joins a forgotten flight")                           \
  X(done_wakes_sleepers, "blocked threads sleep on after the end")                           \
  X(alone_sees_sleepers, "a load that ends alone does not see who fell asleep")              \
  X(sleepers_are_marked, "a thread falls asleep unseen")                                     \
  X(phase_moves_epoch, "a thread falls asleep on a phase that has changed")                  \
  X(joins_count_interest, "a caller that leaves ends the others' flight")                    \
  X(leader_is_interested, "a joiner that leaves ends the leader's flight")                   \
  X(successor_takes_place, "callers of run_fresh wait for ever")                             \
  X(promoter_holds_reference, "a successor is freed while it is promoted")                   \
  X(fresh_goes_behind, "run_fresh is given a load that had begun before")                    \
  X(leaver_passes_lead_on, "the elected caller leaves, and nobody leads")                    \
  X(abandoned_is_forgotten, "a newcomer joins a flight that was told to stop")               \
  X(abandoned_is_stopped, "nobody tells an abandoned load")                                  \
  X(departure_wakes_close, "close waits for a flight that has gone")                         \
  X(handle_leaves, "a dropped handle still counts")                                          \
  X(load_runs_once, "a claimed load runs again from its queue")                              \
  X(cancel_yields_to_outcome, "a wait is completed twice")                                   \
  X(enrol_sees_done, "a waiter enrols in a flight that is over")                             \
  X(enrol_sees_limit, "a limit that struck early is lost")                                   \
  X(destroyed_leaves_list, "a destroyed waiter is resumed")                                  \
  X(cancel_waits_for_fire, "cancel returns while its node fires")                            \
  X(cancel_sees_rearmed, "cancel returns, and the fire has armed its node again")            \
  X(own_fire_may_cancel, "a node that is cancelled within its fire waits for itself")        \
  X(one_thread_fires, "two threads fire at a time, and cancel knows of one")                 \
  X(due_meanwhile_fires, "what is due as a fire arms it waits for the next advance")         \
  X(advance_waits_for_fires, "advance returns before what is due has fired")                 \
  X(earlier_alarm_wakes_timer, "the timer sleeps past a node that was armed later")          \
  X(ticking_wakes_timer, "the coarse clock stands still")                                    \
  X(post_wakes_idle, "a task is queued, and its thread sleeps on")                           \
  X(idle_is_promised, "two tasks wait for one idle thread")                                  \
  X(kept_node_waits, "a resumption is refused for want of a thread")                         \
  X(leaver_is_replaced, "a thread leaves as a task is queued, and nobody runs it")           \
  X(leaver_is_not_idle, "a task is left to a thread that has gone")                          \
  X(stop_wakes_idle, "the destructor waits for threads that sleep")                          \
  X(stop_runs_what_is_left, "the destructor leaves a task in the queue")                     \
  X(thread_has_its_place, "a thread runs that no memory was left to note")

enum class rule {
  none,
#define SINGLEFLIGHT_RULE(name, what) name,
  SINGLEFLIGHT_RULES(SINGLEFLIGHT_RULE)
#undef SINGLEFLIGHT_RULE
};

namespace platform {

#if defined(SINGLEFLIGHT_MUTANTS)
inline rule broken_rule = rule::none;
inline bool holds(rule which) noexcept { return which != broken_rule; }
inline std::memory_order order(rule which, std::memory_order as) noexcept {
  return holds(which) ? as : std::memory_order_relaxed;
}
#else
/// Whether the code keeps a rule: always.
consteval bool holds(rule) noexcept { return true; }
/// The order that a rule asks for.
consteval std::memory_order order(rule, std::memory_order as) noexcept { return as; }
#endif

}  // namespace platform

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE
