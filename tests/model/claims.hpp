// SPDX-License-Identifier: Apache-2.0
#pragma once

// Which world claims to notice when a rule is broken.

#include <singleflight/core/detail/rules.hpp>

namespace model {

struct claim {
  singleflight::detail::rule broken;
  const char* world;
};

#define SINGLEFLIGHT_CLAIM(name, world) \
  { singleflight::detail::rule::name, world }
inline constexpr claim claims[] = {
    SINGLEFLIGHT_CLAIM(attach_marks_bucket, "a load that asks for its stop token"),
    SINGLEFLIGHT_CLAIM(join_marks_bucket, "a load that ends within start"),
    SINGLEFLIGHT_CLAIM(second_node_marks_bucket, "three keys, one hot"),
    SINGLEFLIGHT_CLAIM(close_marks_bucket, "23: close beside two runs"),
    SINGLEFLIGHT_CLAIM(closed_refuses, "23: close beside two runs"),
    SINGLEFLIGHT_CLAIM(unlink_by_identity, "10: run, run_fresh and run_fresh"),
    SINGLEFLIGHT_CLAIM(forgotten_is_not_found, "3: a handle dropped beside the load"),
    SINGLEFLIGHT_CLAIM(done_wakes_sleepers, "10: run beside run"),
    SINGLEFLIGHT_CLAIM(alone_sees_sleepers, "9: a blocking wait for a queued load"),
    SINGLEFLIGHT_CLAIM(sleepers_are_marked, "10: run beside run"),
    SINGLEFLIGHT_CLAIM(phase_moves_epoch, "10: run beside run, hands over"),
    SINGLEFLIGHT_CLAIM(joins_count_interest, "3: nobody joins a flight that was given up"),
    SINGLEFLIGHT_CLAIM(leader_is_interested, "10: a joiner leaves a run"),
    SINGLEFLIGHT_CLAIM(successor_takes_place, "18: a call after forget"),
    SINGLEFLIGHT_CLAIM(promoter_holds_reference, "18: a call after forget"),
    SINGLEFLIGHT_CLAIM(fresh_goes_behind, "10: run beside run_fresh"),
    SINGLEFLIGHT_CLAIM(leaver_passes_lead_on, "19: the fresh caller elected is stopped"),
    SINGLEFLIGHT_CLAIM(abandoned_is_forgotten,
                       "4: a newcomer does not wait for a load that was given up"),
    SINGLEFLIGHT_CLAIM(abandoned_is_stopped, "4: an abandoned load is told"),
    SINGLEFLIGHT_CLAIM(departure_wakes_close, "23: close beside two runs"),
    SINGLEFLIGHT_CLAIM(handle_leaves, "4: an abandoned load is told"),
    SINGLEFLIGHT_CLAIM(load_runs_once, "23: close beside a started load"),
    SINGLEFLIGHT_CLAIM(cancel_yields_to_outcome, "16: a stop after publication"),
    SINGLEFLIGHT_CLAIM(enrol_sees_done, "10: await beside await"),
    SINGLEFLIGHT_CLAIM(enrol_sees_limit, "16: a stop beside the begin of a wait"),
    SINGLEFLIGHT_CLAIM(destroyed_leaves_list, "28b: a coroutine destroyed while it waits"),
    SINGLEFLIGHT_CLAIM(unlinked_before_done, "10: run, await and run_fresh"),
    SINGLEFLIGHT_CLAIM(late_outcome_is_dropped, "27: the load that hangs ends after its flight"),
    SINGLEFLIGHT_CLAIM(hand_over_holds_reference, "17: hand-over to a load that its waiter claims"),
    SINGLEFLIGHT_CLAIM(stop_outside_locks, "4: a stop callback that calls the group"),
    SINGLEFLIGHT_CLAIM(leaver_drops_reference, "10: await beside drop"),
    SINGLEFLIGHT_CLAIM(timeout_frees_key, "27: a load that hangs, load_timeout"),
    SINGLEFLIGHT_CLAIM(leaver_takes_load, "17: the load of one who has left does not lead"),
    SINGLEFLIGHT_CLAIM(waiters_are_bounded, "28: one waiter, and one too many"),
    SINGLEFLIGHT_CLAIM(ended_flight_is_not_counted, "28: one flight, and one too many"),
    SINGLEFLIGHT_CLAIM(hand_overs_are_bounded, "17: hand-over is bounded"),
    SINGLEFLIGHT_CLAIM(claimers_are_told, "21: a blocking wait on the pool of one thread"),
    SINGLEFLIGHT_CLAIM(close_ends_unbegun, "10: run, run_fresh and close"),
    SINGLEFLIGHT_CLAIM(growth_leaves_a_mark, "the table grows beside a run"),
    SINGLEFLIGHT_CLAIM(waits_are_recorded, "13: A waits for B while B waits for A"),
    SINGLEFLIGHT_CLAIM(strangers_go_to_the_pool, "28a: a coroutine waits, a thread leads by run"),
    SINGLEFLIGHT_CLAIM(cancel_waits_for_fire, "manual_timer: cancel beside advance"),
    SINGLEFLIGHT_CLAIM(cancel_sees_rearmed, "manual_timer: cancel beside a fire that arms again"),
    SINGLEFLIGHT_CLAIM(own_fire_may_cancel, "manual_timer: cancel within the node's fire"),
    SINGLEFLIGHT_CLAIM(one_thread_fires, "manual_timer: cancel beside advance and arm"),
    SINGLEFLIGHT_CLAIM(due_meanwhile_fires, "manual_timer: a fire arms another"),
    SINGLEFLIGHT_CLAIM(advance_waits_for_fires, "manual_timer: advance beside a node due at once"),
    SINGLEFLIGHT_CLAIM(earlier_alarm_wakes_timer, "default_timer: an earlier node overtakes"),
    SINGLEFLIGHT_CLAIM(ticking_wakes_timer, "default_timer: coarse_now"),
    SINGLEFLIGHT_CLAIM(post_wakes_idle, "thread_pool: a post beside an idle thread"),
    SINGLEFLIGHT_CLAIM(post_ends_with_unlock,
                       "thread_pool: the pool goes as its last task has run, a fault"),
    SINGLEFLIGHT_CLAIM(idle_is_promised, "thread_pool: two posts beside one idle thread"),
    SINGLEFLIGHT_CLAIM(kept_node_waits, "thread_pool: a kept node, and no thread"),
    SINGLEFLIGHT_CLAIM(leaver_is_replaced, "thread_pool: a task waits for another at the end"),
    SINGLEFLIGHT_CLAIM(leaver_is_not_idle, "thread_pool: a task waits for another at the end"),
    SINGLEFLIGHT_CLAIM(stop_wakes_idle, "thread_pool: the destructor beside an idle thread"),
    SINGLEFLIGHT_CLAIM(stop_runs_what_is_left, "thread_pool: a kept node, and the pool's end"),
    SINGLEFLIGHT_CLAIM(thread_has_its_place, "thread_pool: a task ends its thread, a fault"),
    SINGLEFLIGHT_CLAIM(newcomers_queue, "30: semaphore: a small request behind a large one"),
    SINGLEFLIGHT_CLAIM(release_serves_queue, "30: semaphore: three threads, one permit"),
    SINGLEFLIGHT_CLAIM(cancel_yields_to_grant, "30: semaphore: a stop beside the grant"),
    SINGLEFLIGHT_CLAIM(change_serves_queue, "30: semaphore: the front waiter is stopped"),
    SINGLEFLIGHT_CLAIM(dropped_grant_returns, "30: semaphore: a handle dropped beside the grant"),
    SINGLEFLIGHT_CLAIM(close_tells_the_queue, "30: semaphore: close beside those who queue"),
    SINGLEFLIGHT_CLAIM(resize_refuses_the_heavy, "30: semaphore: resize below a queued request"),
    SINGLEFLIGHT_CLAIM(handles_hold_reference,
                       "30: semaphore: it goes beside a limit that strikes"),
    SINGLEFLIGHT_CLAIM(server_holds_reference, "30: semaphore: it goes with the last it served"),
    SINGLEFLIGHT_CLAIM(late_result_is_dropped, "circuit_breaker: a late result"),
    SINGLEFLIGHT_CLAIM(probe_looks_again, "circuit_breaker: two calls as open_for ends"),
    SINGLEFLIGHT_CLAIM(probe_sees_closed, "circuit_breaker: a call as the probe closes"),
    SINGLEFLIGHT_CLAIM(probe_takes_place, "circuit_breaker: two calls as open_for ends"),
    SINGLEFLIGHT_CLAIM(probe_gives_place_back, "circuit_breaker: a cancelled probe beside a call"),
    SINGLEFLIGHT_CLAIM(changes_are_told_in_turn, "circuit_breaker: a failure beside reset"),
    SINGLEFLIGHT_CLAIM(ring_changes_word, "retry: a stop beside a sleep"),
    SINGLEFLIGHT_CLAIM(late_waiter_sees_result, "start_retry: a wait begins beside the end"),
    SINGLEFLIGHT_CLAIM(limit_yields_to_result, "start_retry: a limit of the wait after the end"),
    SINGLEFLIGHT_CLAIM(abandoned_producer_is_told,
                       "start_retry: a handle dropped beside the begin of a sleep"),
    SINGLEFLIGHT_CLAIM(sleeper_hears_early_ring, "start_retry: a stop beside the begin of a sleep"),
    SINGLEFLIGHT_CLAIM(first_ring_resumes, "start_retry: a stop beside the alarm"),
    SINGLEFLIGHT_CLAIM(awake_run_is_disarmed, "start_retry: a stop beside the alarm"),
};
#undef SINGLEFLIGHT_CLAIM

}  // namespace model
