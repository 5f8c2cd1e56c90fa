// SPDX-License-Identifier: Apache-2.0
#pragma once

// rules: the rules that the promises of this floor rest on (core/support/rules.hpp).

#include "singleflight/core/support/rules.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

// X(rule, what breaks without it)
#define SINGLEFLIGHT_FLIGHT_RULES(X)                                                               \
  X(attach_marks_bucket, "a thin leader leaves fast, past the block that its load needed")         \
  X(join_marks_bucket, "a started load ends alone, past its first joiner")                         \
  X(second_node_marks_bucket, "a fast leave drops the rest of the chain")                          \
  X(close_marks_bucket, "a new call enters a closed group fast")                                   \
  X(closed_refuses, "a closed group admits new calls")                                             \
  X(unlink_by_identity, "a flight that ends takes its successor out of the table")                 \
  X(forgotten_is_not_found, "a new call joins a forgotten flight")                                 \
  X(done_wakes_sleepers, "blocked threads sleep on after the end")                                 \
  X(alone_sees_sleepers, "a load that ends alone misses a thread that fell asleep")                \
  X(sleepers_are_marked, "a thread sleeps, and no mark shows it")                                  \
  X(phase_moves_epoch, "a thread falls asleep on a phase that has changed")                        \
  X(joins_count_interest, "a caller that leaves ends the others' flight")                          \
  X(leader_is_interested, "a joiner that leaves ends the leader's flight")                         \
  X(successor_takes_place, "callers of run_fresh wait forever")                                    \
  X(promoter_holds_reference, "a successor is freed while it is promoted")                         \
  X(fresh_goes_behind, "run_fresh returns the result of a load that had begun before")             \
  X(leaver_passes_lead_on, "the elected caller leaves, and nobody leads")                          \
  X(abandoned_is_forgotten, "a new call joins a flight that was asked to stop")                    \
  X(abandoned_is_stopped, "an abandoned load is not asked to stop")                                \
  X(removal_wakes_close, "close waits for a flight that has ended")                                \
  X(handle_leaves, "a dropped handle still counts")                                                \
  X(load_runs_once, "a claimed load runs again from its queue")                                    \
  X(cancel_yields_to_outcome, "a wait is completed twice")                                         \
  X(cancelled_counts_no_more, "a caller whose wait is cancelled counts until it is resumed")       \
  X(timer_leaves_errands, "a stop callback runs on the timer's thread")                            \
  X(resumed_runs_errands, "the last caller returns, and its load has not been asked to stop")      \
  X(leader_leaves_in_one_step, "a caller is refused that fits before and after the leader left")   \
  X(resumed_leaves_what_is_done, "a coroutine in a child waits for the lock of a past flight")     \
  X(enrol_sees_done, "a waiter enrols in a flight that is over")                                   \
  X(enrol_sees_limit, "a limit that expired early is lost")                                        \
  X(unlinked_before_done, "a caller gets an outcome that others had before its call")              \
  X(late_outcome_is_dropped, "a load that had timed out publishes again")                          \
  X(hand_over_holds_reference, "a flight is freed while its lead is passed on")                    \
  X(stop_outside_locks, "a stop callback finds the flight locked")                                 \
  X(leaver_drops_reference, "a flight that a caller has left is never freed")                      \
  X(timeout_frees_key, "new calls join a load that has timed out")                                 \
  X(leaver_takes_load, "the load of a caller that has left may lead")                              \
  X(waiters_are_bounded, "a flight takes more callers than max_waiters")                           \
  X(ended_flight_is_not_counted, "max_flights counts flights that are over")                       \
  X(promoted_needs_a_place, "a load behind a forgotten one begins beyond max_flights")             \
  X(hand_overs_are_bounded, "a flight is handed over without end")                                 \
  X(joiner_sees_the_offer, "an elected caller gives the lead back, and nobody else can lead")      \
  X(load_ahead_is_claimed, "a pool's only thread waits behind a load that is queued there")        \
  X(queued_load_wakes_those_behind, "a pool's only thread sleeps behind a load queued later")      \
  X(absent_do_not_lead, "a failed flight waits for a caller that sleeps on another key")           \
  X(passed_over_looks_again, "a caller that slept elsewhere gets a failure from before it")        \
  X(unbegun_ends_with_interest, "calls wait behind a load that nobody needs and nobody runs")      \
  X(claimers_are_notified, "a pool's only thread sleeps on a load that is queued behind it")       \
  X(posted_load_notifies_claimers, "a wait with limits on a full pool misses a load queued later") \
  X(close_ends_unbegun, "callers behind the last flight wait forever")                             \
  X(growth_leaves_a_mark, "a new call enters an array that was replaced")                          \
  X(dropped_promise_is_broken, "callers wait for a promise destroyed while an exception passed")   \
  X(leaving_error_is_answer, "callers get broken instead of the exception that left their load")   \
  X(stop_counts_as_load, "a stop callback waits for the load that waits for it")                   \
  X(forgotten_are_linked_last, "a flight is not found behind a forgotten one")                     \
  X(growth_keeps_order, "a larger table has forgotten flights before found ones")                  \
  X(changed_as_forgotten, "a load serves a value that an invalidation has removed")

// X(order, what breaks without it)
#define SINGLEFLIGHT_FLIGHT_ORDER_RULES(X)                                          \
  X(enter_releases, "a leader's node is found before it is constructed")            \
  X(enter_acquires, "a leader does not see the effects of the load before its own") \
  X(leave_releases, "the next leader does not see a load's effects")                \
  X(leave_acquires, "a node's memory is reused while another thread reads it")      \
  X(end_releases, "a flight is done before its load's effects are visible (P7)")    \
  X(waiter_acquires, "a waiter does not see its load's effects (P7)")               \
  X(attach_releases, "a load finds its block before it is constructed")             \
  X(context_acquires, "a load uses a block that is not constructed yet")            \
  X(drop_releases, "an owner's use of a block does not end before its deletion")    \
  X(last_drop_acquires, "the last owner deletes a block that others still use")     \
  X(growth_releases, "a larger array is published before it is filled")             \
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
