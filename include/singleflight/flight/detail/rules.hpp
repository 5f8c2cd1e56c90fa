// SPDX-License-Identifier: Apache-2.0
#pragma once

// The rules that the promises of this floor rest on (core/support/rules.hpp).

#include "singleflight/core/support/rules.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

// X(rule, what breaks without it)
#define SINGLEFLIGHT_FLIGHT_RULES(X)                                                            \
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
  X(removal_wakes_close, "close waits for a flight that has gone")                              \
  X(handle_leaves, "a dropped handle still counts")                                             \
  X(load_runs_once, "a claimed load runs again from its queue")                                 \
  X(cancel_yields_to_outcome, "a wait is completed twice")                                      \
  X(cancelled_counts_no_more, "a caller whose wait is cancelled counts until it is resumed")    \
  X(timer_leaves_errands, "a stop callback runs on the timer's thread")                         \
  X(resumed_runs_errands, "the last caller returns, and its load has not been told to stop")    \
  X(leader_leaves_in_one_step, "a caller is refused who fits before and after a leader leaves") \
  X(resumed_leaves_what_is_done, "a coroutine in a child waits for the lock of what is over")   \
  X(enrol_sees_done, "a waiter enrols in a flight that is over")                                \
  X(enrol_sees_limit, "a limit that struck early is lost")                                      \
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
  X(claimers_are_notified, "a pool's only thread sleeps on a load that is queued behind it")    \
  X(posted_load_notifies_claimers,                                                              \
    "a wait with limits on a full pool sleeps on what was queued later")                        \
  X(close_ends_unbegun, "callers behind the last flight wait for ever")                         \
  X(growth_leaves_a_mark, "a newcomer enters the table that has been left")                     \
  X(dropped_promise_is_broken, "callers wait for a promise that died as an exception passed")   \
  X(leaving_error_is_answer, "callers get broken for the exception that left their load")       \
  X(stop_counts_as_load, "a stop callback waits for the load that waits for it")                \
  X(forgotten_are_linked_last, "a flight is not found behind one that was forgotten")           \
  X(growth_keeps_order, "a larger table has a forgotten flight in front of one to be found")    \
  X(changed_as_forgotten, "a load serves what it found before an invalidation took it out")

// X(order, what breaks without it)
#define SINGLEFLIGHT_FLIGHT_ORDER_RULES(X)                                       \
  X(enter_releases, "a leader's node is found before it is made")                \
  X(enter_acquires, "a leader does not see what the load before its own did")    \
  X(leave_releases, "what a load did does not reach the next leader")            \
  X(leave_acquires, "a node's memory is reused while somebody looks at it")      \
  X(end_releases, "a flight is over before its load's effects are there (P7)")   \
  X(waiter_acquires, "a waiter does not see its load's effects (P7)")            \
  X(attach_releases, "a block is shown to its load before it is made")           \
  X(context_acquires, "a load uses a block that is not made yet")                \
  X(drop_releases, "an owner's use of a block does not end before its deletion") \
  X(last_drop_acquires, "the last owner deletes a block that others still use")  \
  X(growth_releases, "a larger array is shown before it is filled")              \
  X(locate_acquires, "a larger array is read before it is filled")

namespace rule {
enum flight_rules : rule_id {
  first_of_flight = 1000,
#define SINGLEFLIGHT_RULE(name, what) name,
  SINGLEFLIGHT_FLIGHT_RULES(SINGLEFLIGHT_RULE) SINGLEFLIGHT_FLIGHT_ORDER_RULES(SINGLEFLIGHT_RULE)
#undef SINGLEFLIGHT_RULE
};
}  // namespace rule

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE
