// SPDX-License-Identifier: Apache-2.0
#pragma once

// The rules that the promises of this floor rest on (core/support/rules.hpp).

#include "singleflight/core/support/rules.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

// X(rule, what breaks without it)
#define SINGLEFLIGHT_SYNC_RULES(X)                                                              \
  X(ended_key_is_not_locked, "in a child, the end of a batch waits for a thread of the parent") \
  X(posted_batch_notifies, "a wait with limits on a full pool sleeps on a batch posted later")  \
  X(tasks_are_led, "a load waits for a task that waits for it")                                 \
  X(attempts_are_led, "a load waits for a retry whose attempt waits for it")                    \
  X(use_has_its_id, "a task is refused for a cycle with a wait that is over")                   \
  X(newcomers_queue, "a small request overtakes a large one")                                   \
  X(release_serves_queue, "permits are returned, and queued requests are not served")           \
  X(cancel_yields_to_grant, "a wait is cancelled that was granted, and its permits are lost")   \
  X(change_serves_queue, "requests behind a front waiter that has left are not served")         \
  X(dropped_grant_returns, "a handle is destroyed and its grant is lost")                       \
  X(close_ends_the_queue, "queued requests wait forever at a closed semaphore")                 \
  X(resize_rejects_overweight, "a request for more than the capacity blocks the queue")         \
  X(sweep_outlasts_resize, "a larger capacity leaves a queued request that exceeds it")         \
  X(handles_hold_reference, "a limit expires on a semaphore that was destroyed")                \
  X(server_holds_reference, "a semaphore is destroyed while its queue is served in rounds")     \
  X(late_result_is_dropped, "a call that began before a breaker changed counts after it")       \
  X(probe_looks_again, "two calls take the place of one probe")                                 \
  X(probe_sees_closed, "a call on its way makes a closed breaker half open")                    \
  X(probe_takes_place, "more probes run than a breaker may let through")                        \
  X(probe_gives_place_back, "a cancelled probe keeps its place")                                \
  X(changes_are_reported_in_turn, "a breaker's changes are reported at once, or out of order")  \
  X(ticket_comes_before_task, "tasks that wait for each other begin one after the other")       \
  X(ticket_holds_group, "a ticket runs after its group was destroyed")                          \
  X(waiter_helps, "a group waits for threads that its executor does not have")                  \
  X(sleeper_is_called, "a waiter sleeps although a task is left that only it can run")          \
  X(called_waiter_gets_outcome, "a waiter that was called as the use ended has no outcome")     \
  X(last_task_ends_waits, "a waiter sleeps past the last task")                                 \
  X(task_limit_is_kept, "more tasks run than the limit allows")                                 \
  X(stop_skips_unbegun, "a task begins after the first error")                                  \
  X(skipped_are_waited_for, "a wait returns while a skipped task is still being destroyed")     \
  X(stop_outside_group_lock, "a stop callback finds its group locked")                          \
  X(error_ends_with_its_use, "the next wait reports an error again")                            \
  X(batch_is_sealed_once, "a batch that a waiter runs is run again from its queue")             \
  X(gathered_key_is_open, "a gathered key that all callers have left keeps its place")          \
  X(begun_batch_is_due, "a waiter begins a batch that still gathers")                           \
  X(late_key_wakes_waiter, "a pool's thread sleeps on a key added to a batch that is due")      \
  X(ended_batch_posts_next, "the next batch waits forever for its place")                       \
  X(alarm_is_rearmed, "a batch behind one that was full waits forever for its delay")           \
  X(close_ends_gathering, "close waits for a batch that nobody sends")                          \
  X(free_place_wakes_waiter, "a pool's thread sleeps for a key in the pool's own queue")        \
  X(close_waits_for_arming, "an alarm is armed for a batcher that was destroyed")               \
  X(sleep_sees_early_wake, "a retry sleeps past a stop that was requested as it fell asleep")   \
  X(first_wake_resumes, "two events that end one sleep resume a retry twice")                   \
  X(awake_run_is_disarmed, "an alarm fires for a retry that was destroyed")                     \
  X(overdue_probe_makes_room, "a probe that hangs keeps a breaker half open forever")           \
  X(sleeper_holds_group, "a notified waiter returns to a group that was destroyed")             \
  X(wakeup_holds_executor, "a ticket is posted to an executor that its group has released")     \
  X(worker_keeps_order, "a waiter begins later tasks before the one it has taken")              \
  X(stop_counts_as_task, "a stop callback waits for its own group")                             \
  X(claimed_expiry_does_nothing, "a deadline stops a group that was destroyed")                 \
  X(stranded_grant_returns, "in a child, permits stay with a coroutine of the parent")          \
  X(parents_batches_are_set_aside, "a key of the child is added to a batch of the parent")

// X(order, what breaks without it)
#define SINGLEFLIGHT_SYNC_ORDER_RULES(X)                                                   \
  X(take_acquires, "a permit is taken, and what was done under it is not seen")            \
  X(give_releases, "a permit is returned before what was done under it")                   \
  X(settled_acquires, "a handle is ready, and what was done under its permit is not seen") \
  X(settle_releases, "a handle is ready before what was done under its permit")

namespace rule {
enum sync_rules : rule_id {
  first_of_sync = 2000,
#define SINGLEFLIGHT_RULE(name, what) name,
  SINGLEFLIGHT_SYNC_RULES(SINGLEFLIGHT_RULE) SINGLEFLIGHT_SYNC_ORDER_RULES(SINGLEFLIGHT_RULE)
#undef SINGLEFLIGHT_RULE
};
}  // namespace rule

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE
