// SPDX-License-Identifier: Apache-2.0
#pragma once

// The rules that the promises rest on. Each stands where it is kept, as platform::holds(rule::...)
// or, for a memory order, platform::order(rule::..., ...): constants, but for the tests that break
// one rule on purpose, to see that a test notices (SINGLEFLIGHT_MUTANTS). The model tells a broken
// rule by its schedules; a broken order, which it cannot see, is ThreadSanitizer's (tests/orders/).

#include <atomic>

#include "singleflight/core/detail/config.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

// X(rule, what breaks without it)
#define SINGLEFLIGHT_RULES(X)                                                                   \
  X(attach_marks_bucket, "a thin leader leaves fast past the block that its load asked for")    \
  X(join_marks_bucket, "a started load ends alone past its first joiner")                       \
  X(second_node_marks_bucket, "a fast leave drops the chain behind it")                         \
  X(close_marks_bucket, "a newcomer enters a closed group fast")                                \
  X(closed_refuses, "a closed group lets newcomers in")                                         \
  X(unlink_by_identity, "a flight that ends takes its successor out of the table")              \
  X(forgotten_is_not_found, "a newcomer joins a forgotten flight")                              \
  X(done_wakes_sleepers, "blocked threads sleep on after the end")                              \
  X(alone_sees_sleepers, "a load that ends alone does not see who fell asleep")                 \
  X(sleepers_are_marked, "a thread falls asleep unseen")                                        \
  X(phase_moves_epoch, "a thread falls asleep on a phase that has changed")                     \
  X(joins_count_interest, "a caller that leaves ends the others' flight")                       \
  X(leader_is_interested, "a joiner that leaves ends the leader's flight")                      \
  X(successor_takes_place, "callers of run_fresh wait for ever")                                \
  X(promoter_holds_reference, "a successor is freed while it is promoted")                      \
  X(fresh_goes_behind, "run_fresh is given a load that had begun before")                       \
  X(leaver_passes_lead_on, "the elected caller leaves, and nobody leads")                       \
  X(abandoned_is_forgotten, "a newcomer joins a flight that was told to stop")                  \
  X(abandoned_is_stopped, "nobody tells an abandoned load")                                     \
  X(departure_wakes_close, "close waits for a flight that has gone")                            \
  X(handle_leaves, "a dropped handle still counts")                                             \
  X(load_runs_once, "a claimed load runs again from its queue")                                 \
  X(cancel_yields_to_outcome, "a wait is completed twice")                                      \
  X(cancelled_counts_no_more, "a caller whose wait is cancelled counts until it is resumed")    \
  X(timer_leaves_errands, "a stop callback runs on the timer's thread")                         \
  X(fires_drop_nothing, "a load is destroyed within the fire that its predecessor waits for")   \
  X(resumed_runs_errands, "the last caller returns, and its load has not been told to stop")    \
  X(leader_leaves_in_one_step, "a caller is refused who fits before and after a leader leaves") \
  X(given_up_producer_is_told, "a retry goes on until the executor resumes who gave it up")     \
  X(strikes_run_nobody, "two limits that strike at once wait for each other's callbacks")       \
  X(resumed_leaves_what_is_done, "a coroutine in a child waits for the lock of what is over")   \
  X(sleeper_hands_queue_over, "a thread sleeps for what waits in its own trampoline")           \
  X(ended_key_is_not_locked, "a batch's end in a child waits for a thread that is not there")   \
  X(enrol_sees_done, "a waiter enrols in a flight that is over")                                \
  X(enrol_sees_limit, "a limit that struck early is lost")                                      \
  X(destroyed_leaves_list, "a destroyed waiter is resumed")                                     \
  X(batch_counts_waits, "a wait that is over frees what another waits in")                      \
  X(batch_stays_for_runners, "a wait that is over frees what a runner still works through")     \
  X(unlinked_before_done, "a caller is given an outcome that others had before its call")       \
  X(late_outcome_is_dropped, "a load that had timed out publishes again")                       \
  X(hand_over_holds_reference, "a flight is freed while its lead is handed on")                 \
  X(stop_outside_locks, "a stop callback finds the flight locked")                              \
  X(leaver_drops_reference, "a flight that somebody has left is never freed")                   \
  X(timeout_frees_key, "newcomers join a load that has timed out")                              \
  X(leaver_takes_load, "the load of a caller who has left may lead")                            \
  X(waiters_are_bounded, "a flight takes more callers than max_waiters")                        \
  X(ended_flight_is_not_counted, "max_flights counts flights that are over")                    \
  X(promoted_needs_a_place, "a load behind a forgotten one begins beyond max_flights")          \
  X(hand_overs_are_bounded, "a flight is handed on without end")                                \
  X(joiner_sees_the_offer, "an elected caller gives its place back, and nobody else can lead")  \
  X(load_ahead_is_claimed, "a pool's only thread waits behind a load that is queued there")     \
  X(queued_load_wakes_those_behind, "a pool's only thread sleeps behind a load queued later")   \
  X(absent_do_not_lead, "a failed flight waits for a caller that sleeps on another key")        \
  X(passed_over_looks_again, "a caller that slept elsewhere gets a failure from before it")     \
  X(unbegun_ends_with_interest, "callers go behind a load that nobody wants and nobody runs")   \
  X(claimers_are_told, "a pool's only thread sleeps on a load that is queued behind it")        \
  X(posted_batch_is_told, "the same, on a batch")                                               \
  X(posted_load_is_told, "a wait with limits on a full pool sleeps on what was queued later")   \
  X(close_ends_unbegun, "callers behind the last flight wait for ever")                         \
  X(growth_leaves_a_mark, "a newcomer enters the table that has been left")                     \
  X(waits_are_recorded, "two loads wait for each other")                                        \
  X(tasks_are_led, "a load waits for a task that waits for it")                                 \
  X(attempts_are_led, "a load waits for a retry whose attempt waits for it")                    \
  X(weaker_wait_is_struck, "a group goes whose task waits for what lets it go")                 \
  X(use_has_its_id, "a task is told of a cycle with a wait that is over")                       \
  X(over_is_no_edge, "a wait that is over is taken for part of a cycle")                        \
  X(strangers_go_to_the_pool, "a coroutine resumes on a thread that is inside run")             \
  X(dropped_promise_is_broken, "callers wait for a promise that died as an exception passed")   \
  X(leaving_error_is_answer, "callers get broken for the exception that left their load")       \
  X(stop_counts_as_load, "a stop callback waits for the load that waits for it")                \
  X(gone_stand_behind, "a flight is not found behind one that was forgotten")                   \
  X(growth_keeps_order, "a larger table has a forgotten flight in front of one to be found")    \
  X(cancel_waits_for_fire, "cancel returns while its node fires")                               \
  X(cancel_sees_rearmed, "cancel returns, and the fire has armed its node again")               \
  X(first_seed_stays, "two threads of one process hash by different secrets")                   \
  X(own_fire_may_cancel, "a node that is cancelled within its fire waits for itself")           \
  X(one_thread_fires, "two threads fire at a time, and cancel knows of one")                    \
  X(due_meanwhile_fires, "what comes due while a thread fires waits for the next advance")      \
  X(advance_waits_for_fires, "advance returns before what is due has fired")                    \
  X(slot_moves_before_fires, "a node fires before an earlier one that is still moved")          \
  X(clock_ticks_before_fires, "the coarse clock goes back to the time before a long fire")      \
  X(earlier_alarm_wakes_timer, "the timer sleeps past a node that was armed later")             \
  X(ticking_wakes_timer, "the coarse clock stands still")                                       \
  X(post_wakes_idle, "a task is queued, and its thread sleeps on")                              \
  X(post_ends_with_unlock, "a post notifies a pool that has gone")                              \
  X(idle_is_promised, "two tasks wait for one idle thread")                                     \
  X(kept_node_waits, "a resumption is refused for want of a thread")                            \
  X(leaver_is_replaced, "a thread leaves as a task is queued, and nobody runs it")              \
  X(leaver_is_not_idle, "a task is left to a thread that has gone")                             \
  X(stop_wakes_idle, "the destructor waits for threads that sleep")                             \
  X(stop_runs_what_is_left, "the destructor leaves a task in the queue")                        \
  X(thread_has_its_place, "a thread runs that no memory was left to note")                      \
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
  X(ring_changes_word, "a thread goes to sleep past the stop that was to wake it")              \
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
  X(late_waiter_sees_result, "a coroutine waits for a result that is there")                    \
  X(limit_yields_to_result, "a wait is given up that had its result")                           \
  X(abandoned_producer_is_told, "a retry goes on that nobody waits for")                        \
  X(sleeper_hears_early_ring, "a retry sleeps past the stop that came as it fell asleep")       \
  X(first_ring_resumes, "two that end one sleep resume a retry twice")                          \
  X(awake_run_is_disarmed, "an alarm rings for a retry that has gone")                          \
  X(overdue_probe_makes_room, "a probe that hangs keeps a breaker half open for ever")          \
  X(sleeper_holds_group, "a waiter that was told comes to a group that has gone")               \
  X(summons_holds_executor, "a ticket goes to an executor that its group has let go")           \
  X(worker_keeps_order, "a waiter begins later tasks before the one it has taken")              \
  X(stop_counts_as_task, "a stop callback waits for its own group")                             \
  X(claimed_strike_stays_away, "a deadline strikes at a group that has gone")                   \
  X(found_is_confirmed, "a reader holds an entry that had left before it was announced")        \
  X(held_is_kept, "an entry is freed under a reader")                                           \
  X(left_table_is_emptied, "a reader of an old table finds what has left the new one")          \
  X(forgotten_is_not_stored, "a load stores a value that is older than an invalidation")        \
  X(invalidation_forgets_flight, "a newcomer joins a load that began before an invalidation")   \
  X(put_forgets_flight, "a load overwrites a value that was put after it began")                \
  X(clear_forgets_flights, "a load that began before a clear is stored after it")               \
  X(filter_forgets_flights, "a load that began before invalidate_if is stored after it")        \
  X(cleared_before_forgotten, "a load serves what it found as the cache was cleared")           \
  X(filter_forgets_finders, "a load serves what it found as invalidate_if took it out")         \
  X(changed_as_forgotten, "a load serves what it found before an invalidation took it out")     \
  X(forgotten_error_is_not_stored, "a load stores an error that is older than an invalidation") \
  X(table_is_confirmed, "a reader searches a table that was freed before it was announced")     \
  X(overtaken_search_repeats, "a search does not find what a growth has moved")                 \
  X(search_sees_moves, "a search does not find what has come home meanwhile")                   \
  X(nobody_makes_way_for_himself, "an entry that was removed is still found")                   \
  X(who_makes_way_is_told, "a search does not find what has made way meanwhile")                \
  X(counted_before_withdrawn, "an entry is freed as its reader goes from slot to count")        \
  X(last_handle_reclaims, "an entry that was kept for a handle stays when that has gone")       \
  X(newcomer_is_stamped, "what was just stored is stored again, beside it")                     \
  X(load_looks_again, "a call that comes late loads again what was just stored")                \
  X(refused_barrier_is_replaced, "where the barrier is refused, nothing is freed any more")     \
  X(nothing_ends_within_a_load, "a value ends within the load that its destructor waits for")   \
  X(late_comer_sees_failure, "a call that comes late loads again what has just failed")         \
  X(claim_spares_failure, "a hit on a value that is due forgets that its load has just failed") \
  X(store_needs_sweep, "an entry that is stored as a sweep ends is never swept")                \
  X(stop_waits_for_sweep, "a sweep runs in a cache that has gone")                              \
  X(stop_waits_for_arming, "a sweep's alarm is armed for a cache that has gone")                \
  X(stopped_sweep_stays, "a sweep is posted, or armed, for a cache that has gone")              \
  X(sweep_ends_before_flights, "a sweep's listener asks a cache that ends")                     \
  X(overtaken_is_not_shown, "a load replaces what was set, or loaded, after it began")          \
  X(replaced_is_compared_again, "a change takes the place of a version that it does not know")  \
  X(one_task_tells, "two tasks tell one listener at once")                                      \
  X(task_holds_listeners, "the task that tells comes to a value that has gone")                 \
  X(removal_moves_cursor, "the next change is told to a listener that has ended")               \
  X(removal_waits_for_call, "a listener runs after its subscription has ended")                 \
  X(listener_may_end_itself, "a listener that ends itself waits for itself")                    \
  X(newcomer_hears_no_past, "a listener is told of a change from before it came")               \
  X(changes_are_bounded, "a listener that hangs keeps every version")                           \
  X(end_waits_for_teller, "a listener runs after its value has gone")                           \
  X(end_waits_for_report, "an error is reported to a value that has gone")                      \
  X(late_report_stays_away, "a report comes to a value that has gone")                          \
  X(fork_holds_locks, "a child inherits a lock whose holder is not there")                      \
  X(child_is_mended, "a child counts on threads that are not there")                            \
  X(dropped_runner_goes_to_the_pool, "a child's executor refuses, and nobody is resumed")       \
  X(pool_node_stands_once, "a child queues one node twice, and loses what stands behind it")    \
  X(lost_runner_strands, "a child resumes who is resumed in the parent as well")                \
  X(done_flight_is_mended_late, "the same, where a flight was over as its process forked")      \
  X(stranded_grant_returns, "a child's permits stay with a coroutine of the parent's")          \
  X(parents_ticket_is_void, "a change is told on two threads of a child at once")               \
  X(cut_turn_stays_away, "a child arms the alarm of a schedule that is armed")                  \
  X(parents_batches_are_set_aside, "a key of a child's goes with a batch of the parent's")      \
  X(child_goes_on, "what happens by itself has ended in a child, without a word")               \
  X(starved_pool_asks_again, "what waits for a thread is not run when there are threads again")

// X(order, what breaks without it)
#define SINGLEFLIGHT_ORDER_RULES(X)                                                           \
  X(unlock_releases, "what a lock's holder wrote does not reach the next one")                \
  X(lock_acquires, "a lock's holder does not see what the one before wrote")                  \
  X(enter_releases, "a leader's node is found before it is made")                             \
  X(enter_acquires, "a leader does not see what the load before its own did")                 \
  X(leave_releases, "what a load did does not reach the next leader")                         \
  X(leave_acquires, "a node's memory is reused while somebody looks at it")                   \
  X(end_releases, "a flight is over before its load's effects are there (P7)")                \
  X(waiter_acquires, "a waiter does not see its load's effects (P7)")                         \
  X(attach_releases, "a block is shown to its load before it is made")                        \
  X(context_acquires, "a load uses a block that is not made yet")                             \
  X(drop_releases, "an owner's use of a block does not end before its deletion")              \
  X(last_drop_acquires, "the last owner deletes a block that others still use")               \
  X(growth_releases, "a larger array is shown before it is filled")                           \
  X(locate_acquires, "a larger array is read before it is filled")                            \
  X(executor_drop_releases, "an owner's use of an executor does not end before its deletion") \
  X(last_executor_drop_acquires, "the last owner deletes an executor that others still use")  \
  X(stripes_release, "counters are shown before they are zero")                               \
  X(stripes_acquire, "counters are used before they are zero")                                \
  X(take_acquires, "a permit is taken, and what was done under it is not seen")               \
  X(give_releases, "a permit is returned before what was done under it")                      \
  X(told_acquires, "a thread that was told does not see what it was told of")                 \
  X(tell_releases, "a thread is told before that is there which it is told of")               \
  X(settled_acquires, "a handle is ready, and what was done under its permit is not seen")    \
  X(settle_releases, "a handle is ready before what was done under its permit")               \
  X(sole_owner_acquires, "the last owner frees an entry that others still use")               \
  X(owner_drop_releases, "an owner's use of an entry does not end before its deletion")       \
  X(withdraw_releases, "a reader's use of an entry does not end before its deletion")         \
  X(look_acquires, "an entry is freed that its last reader still uses")                       \
  X(free_slot_acquires, "a slot is used again, and who used it before is forgotten")          \
  X(entry_releases, "an entry is found before it is made")                                    \
  X(find_acquires, "a reader does not see what stands in an entry")                           \
  X(table_releases, "a larger table is found before it is filled")                            \
  X(table_acquires, "a larger table is searched before it is filled")                         \
  X(departed_releases, "what has left is given back before it has been taken out")            \
  X(departed_acquires, "what has left is given back, and who took it out is not seen")

enum class rule {
  none,
#define SINGLEFLIGHT_RULE(name, what) name,
  SINGLEFLIGHT_RULES(SINGLEFLIGHT_RULE) SINGLEFLIGHT_ORDER_RULES(SINGLEFLIGHT_RULE)
#undef SINGLEFLIGHT_RULE
};

namespace platform {

#if defined(SINGLEFLIGHT_MUTANTS)
inline rule broken_rule = rule::none;
inline bool holds(rule which) noexcept { return which != broken_rule; }
inline std::memory_order order(rule which, std::memory_order as) noexcept {
  return holds(which) ? as : std::memory_order_relaxed;
}
inline std::memory_order acquire_release(rule acquires, rule releases) noexcept {
  return !holds(acquires)   ? std::memory_order_release
         : !holds(releases) ? std::memory_order_acquire
                            : std::memory_order_acq_rel;
}
#else
/// Whether the code keeps a rule: always.
consteval bool holds(rule) noexcept { return true; }
/// The order that a rule asks for.
consteval std::memory_order order(rule, std::memory_order as) noexcept { return as; }
/// memory_order_acq_rel, where each half is a rule of its own.
consteval std::memory_order acquire_release(rule, rule) noexcept {
  return std::memory_order_acq_rel;
}
#endif

}  // namespace platform

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE
