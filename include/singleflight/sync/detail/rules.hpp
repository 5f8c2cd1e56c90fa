// SPDX-License-Identifier: Apache-2.0
#pragma once

// The rules that the promises of this floor rest on (core/support/rules.hpp).

#include "singleflight/core/support/rules.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

// X(rule, what breaks without it)
#define SINGLEFLIGHT_SYNC_RULES(X)                                                              \
  X(ended_key_is_not_locked, "a batch's end in a child waits for a thread that is not there")   \
  X(posted_batch_is_told, "the same, on a batch")                                               \
  X(tasks_are_led, "a load waits for a task that waits for it")                                 \
  X(attempts_are_led, "a load waits for a retry whose attempt waits for it")                    \
  X(use_has_its_id, "a task is told of a cycle with a wait that is over")                       \
  X(newcomers_queue, "a small request overtakes a large one")                                   \
  X(release_serves_queue, "permits come back, and those who queue wait on")                     \
  X(cancel_yields_to_grant, "a wait is cancelled that was granted, and its permits are lost")   \
  X(change_serves_queue, "those behind a front waiter that has left wait on")                   \
  X(dropped_grant_returns, "a handle goes with what it was granted")                            \
  X(close_tells_the_queue, "those who queue wait for ever at a closed semaphore")               \
  X(resize_refuses_the_heavy, "one that asks for more than there is blocks the queue")          \
  X(sweep_outlasts_resize, "a larger capacity leaves one that asks for more than it")           \
  X(handles_hold_reference, "a limit strikes at a semaphore that has gone")                     \
  X(server_holds_reference, "a semaphore goes while its queue is served in rounds")             \
  X(late_result_is_dropped, "a call that began before a breaker changed counts after it")       \
  X(probe_looks_again, "two calls take the place of one probe")                                 \
  X(probe_sees_closed, "a call on its way makes a closed breaker half open")                    \
  X(probe_takes_place, "more probes run than a breaker may let through")                        \
  X(probe_gives_place_back, "a cancelled probe keeps its place")                                \
  X(changes_are_told_in_turn, "a breaker's changes are told at a time, or out of order")        \
  X(ticket_comes_before_task, "tasks that wait for each other begin one after the other")       \
  X(ticket_holds_group, "a ticket comes to a group that has gone")                              \
  X(waiter_helps, "a group waits for threads that its executor does not have")                  \
  X(sleeper_is_called, "a waiter sleeps beside a task that nobody else can run")                \
  X(called_waiter_is_told, "a waiter that was called as the use ended has no outcome")          \
  X(last_task_tells_waiters, "a waiter sleeps past the last task")                              \
  X(task_limit_is_kept, "more tasks run than the limit allows")                                 \
  X(stop_skips_unbegun, "a task begins after the first error")                                  \
  X(skipped_are_waited_for, "a wait returns beside a skipped task that still is destroyed")     \
  X(stop_outside_group_lock, "a stop callback finds its group locked")                          \
  X(error_ends_with_its_use, "an error is told again by the next wait")                         \
  X(batch_is_sealed_once, "a batch that a waiter runs is run again from its queue")             \
  X(gathered_key_is_open, "a gathered key that all have left keeps its place")                  \
  X(begun_batch_is_due, "a waiter begins a batch that still gathers")                           \
  X(late_key_is_told, "a pool's thread sleeps for a key that has come to a batch which is due") \
  X(ended_batch_posts_next, "the next batch waits for ever for its place")                      \
  X(alarm_rings_again, "a batch behind one that was full waits for ever for its delay")         \
  X(close_ends_gathering, "close waits for a batch that nobody sends")                          \
  X(free_place_is_told, "a pool's thread sleeps for a key in the pool's own queue")             \
  X(close_waits_for_arming, "an alarm is armed for a batcher that has gone")                    \
  X(sleeper_hears_early_ring, "a retry sleeps past the stop that came as it fell asleep")       \
  X(first_ring_resumes, "two that end one sleep resume a retry twice")                          \
  X(awake_run_is_disarmed, "an alarm rings for a retry that has gone")                          \
  X(overdue_probe_makes_room, "a probe that hangs keeps a breaker half open for ever")          \
  X(sleeper_holds_group, "a waiter that was told comes to a group that has gone")               \
  X(summons_holds_executor, "a ticket goes to an executor that its group has let go")           \
  X(worker_keeps_order, "a waiter begins later tasks before the one it has taken")              \
  X(stop_counts_as_task, "a stop callback waits for its own group")                             \
  X(claimed_strike_stays_away, "a deadline strikes at a group that has gone")                   \
  X(stranded_grant_returns, "a child's permits stay with a coroutine of the parent's")          \
  X(parents_batches_are_set_aside, "a key of a child's goes with a batch of the parent's")

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
