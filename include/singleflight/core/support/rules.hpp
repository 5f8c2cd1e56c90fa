// SPDX-License-Identifier: Apache-2.0
#pragma once

// rules: the rules that the promises rest on. These are core's; each other floor lists its own in
// its detail/rules.hpp. The code names a rule where it keeps it, as platform::holds(rule::...) or,
// for a memory order, platform::order(rule::..., ...). These are constants, except in the tests
// that break one rule on purpose to check that a test detects it (SINGLEFLIGHT_MUTANTS). The model
// detects a broken rule in its schedules; a broken memory order, which it cannot see, is detected
// by ThreadSanitizer (tests/orders/).

#include <atomic>

#include "singleflight/core/support/config.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

/// One rule of any floor: an enumerator of an unscoped enum in namespace `rule`. The values of each
/// floor begin at a multiple of 1000.
using rule_id = unsigned;

// X(rule, what breaks without it)
#define SINGLEFLIGHT_CORE_RULES(X)                                                                \
  X(fires_drop_nothing, "a load is destroyed within the fire that its predecessor waits for")     \
  X(given_up_producer_is_notified, "a given-up retry continues until its waiter is resumed")      \
  X(expiry_resumes_nobody, "two limits that expire at once wait for each other's callbacks")      \
  X(sleeper_hands_queue_over, "a thread blocks on what waits in its own trampoline")              \
  X(batch_counts_waits, "a wait that is over frees what another waits in")                        \
  X(batch_stays_for_runners, "a wait that is over frees what a runner still works through")       \
  X(waits_are_recorded, "two loads wait for each other")                                          \
  X(weaker_wait_is_ended, "a group is destroyed whose task waits for what lets it end")           \
  X(over_is_no_edge, "a wait that has ended is taken for part of a cycle")                        \
  X(inline_tasks_go_to_the_pool, "a coroutine resumes on a thread that is inside run")            \
  X(cancel_waits_for_fire, "cancel returns while its node fires")                                 \
  X(cancel_sees_rearmed, "cancel returns, and the fire has armed its node again")                 \
  X(first_seed_stays, "two threads of one process hash by different secrets")                     \
  X(own_fire_may_cancel, "a node that is cancelled within its own fire waits for itself")         \
  X(one_thread_fires, "two threads fire at a time, and cancel sees only one of them")             \
  X(due_meanwhile_fires, "what becomes due while a thread fires waits for the next advance")      \
  X(advance_waits_for_fires, "advance returns before what is due has fired")                      \
  X(slot_moves_before_fires, "a node fires before an earlier one that has not moved yet")         \
  X(clock_ticks_before_fires, "the coarse clock goes back to the time before a long fire")        \
  X(earlier_alarm_wakes_timer, "the timer sleeps past a node that was armed later")               \
  X(ticking_wakes_timer, "the coarse clock stops")                                                \
  X(post_wakes_idle, "a task is queued, and its thread sleeps on")                                \
  X(post_ends_with_unlock, "a post notifies a pool that has been destroyed")                      \
  X(idle_is_promised, "two tasks wait for one idle thread")                                       \
  X(kept_node_waits, "a resumption is refused for lack of a thread")                              \
  X(leaver_is_replaced, "a thread ends as a task is queued, and no thread runs it")               \
  X(leaver_is_not_idle, "a task is promised to a thread that has ended")                          \
  X(stop_wakes_idle, "the destructor waits for threads that sleep")                               \
  X(stop_runs_what_is_left, "the destructor leaves a task in the queue")                          \
  X(thread_has_its_slot, "a thread runs that no memory was left to record")                       \
  X(expiry_changes_word, "a thread falls asleep after the stop that was to wake it")              \
  X(destroyed_leaves_list, "a destroyed waiter is resumed")                                       \
  X(late_waiter_sees_result, "a coroutine waits for a result that has been published")            \
  X(limit_yields_to_result, "a wait is given up that had its result")                             \
  X(abandoned_producer_is_notified, "a retry continues whose result is not wanted")               \
  X(fork_holds_locks, "a child inherits a lock whose holder does not exist there")                \
  X(child_is_repaired, "a child counts on threads that it does not have")                         \
  X(dropped_runner_goes_to_the_pool, "a child's executor refuses, and no waiter is resumed")      \
  X(pool_node_is_queued_once, "a child queues one node twice, and loses the nodes behind it")     \
  X(lost_runner_strands, "a child resumes a waiter that is resumed in the parent as well")        \
  X(done_flight_is_repaired_late, "the same, for a flight that was over when its process forked") \
  X(child_restarts, "what happens by itself has silently ended in a child")                       \
  X(starved_pool_retries, "a task that waits for a thread is not run once threads can start")

// X(order, what breaks without it)
#define SINGLEFLIGHT_CORE_ORDER_RULES(X)                                                      \
  X(unlock_releases, "what a lock's holder wrote does not reach the next one")                \
  X(lock_acquires, "a lock's holder does not see what the one before wrote")                  \
  X(executor_drop_releases, "an owner's use of an executor does not end before its deletion") \
  X(last_executor_drop_acquires, "the last owner deletes an executor that others still use")  \
  X(stripes_release, "counters are published before they are zero")                           \
  X(stripes_acquire, "counters are used before they are zero")                                \
  X(notified_acquires, "a notified thread does not see what it was notified of")              \
  X(notify_releases, "a thread is notified before that which it is notified of is visible")

namespace rule {
enum core_rules : rule_id {
  none,
#define SINGLEFLIGHT_RULE(name, what) name,
  SINGLEFLIGHT_CORE_RULES(SINGLEFLIGHT_RULE) SINGLEFLIGHT_CORE_ORDER_RULES(SINGLEFLIGHT_RULE)
#undef SINGLEFLIGHT_RULE
};
}  // namespace rule

namespace platform {

#if defined(SINGLEFLIGHT_MUTANTS)
inline rule_id broken_rule = rule::none;
inline bool holds(rule_id which) noexcept { return which != broken_rule; }
inline std::memory_order order(rule_id which, std::memory_order as) noexcept {
  return holds(which) ? as : std::memory_order_relaxed;
}
inline std::memory_order acquire_release(rule_id acquires, rule_id releases) noexcept {
  return !holds(acquires)   ? std::memory_order_release
         : !holds(releases) ? std::memory_order_acquire
                            : std::memory_order_acq_rel;
}
#else
/// Returns whether the code keeps a rule: always true.
consteval bool holds(rule_id) noexcept { return true; }
/// Returns the memory order that a rule requires.
consteval std::memory_order order(rule_id, std::memory_order as) noexcept { return as; }
/// Returns memory_order_acq_rel, each half of which is a rule of its own.
consteval std::memory_order acquire_release(rule_id, rule_id) noexcept {
  return std::memory_order_acq_rel;
}
#endif

/// Performs two steps whose order is a rule.
template <class First, class Second>
SINGLEFLIGHT_INLINE void in_order(rule_id which, const First& first, const Second& second) {
#if defined(SINGLEFLIGHT_MUTANTS)
  if (!holds(which)) {
    second();
    first();
    return;
  }
#endif
  (void)which;
  first();
  second();
}

}  // namespace platform

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE
