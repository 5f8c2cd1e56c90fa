// SPDX-License-Identifier: Apache-2.0
#pragma once

// Which world claims to notice when a rule is broken.

#include <singleflight/core/detail/platform.hpp>

namespace model {

struct claim {
  singleflight::detail::rule broken;
  const char* world;
};
inline constexpr claim claims[] = {
    {singleflight::detail::rule::attach_marks_bucket, "a load that asks for its stop token"},
    {singleflight::detail::rule::join_marks_bucket, "a load that ends within start"},
    {singleflight::detail::rule::second_node_marks_bucket, "three keys, one hot"},
    {singleflight::detail::rule::close_marks_bucket, "23: close beside two runs"},
    {singleflight::detail::rule::closed_refuses, "23: close beside two runs"},
    {singleflight::detail::rule::unlink_by_identity, "19: two fresh behind a run"},
    {singleflight::detail::rule::forgotten_is_not_found, "3: a handle dropped beside the load"},
    {singleflight::detail::rule::done_wakes_sleepers, "2: two runs"},
    {singleflight::detail::rule::alone_sees_sleepers, "9: a blocking wait for a queued load"},
    {singleflight::detail::rule::sleepers_are_marked, "2: two runs"},
    {singleflight::detail::rule::phase_moves_epoch, "17: hand-over between runs"},
    {singleflight::detail::rule::joins_count_interest,
     "3: nobody joins a flight that was given up"},
    {singleflight::detail::rule::leader_is_interested, "10: a joiner leaves a run"},
    {singleflight::detail::rule::successor_takes_place, "18: a call after forget"},
    {singleflight::detail::rule::promoter_holds_reference, "18: a call after forget"},
    {singleflight::detail::rule::fresh_goes_behind, "19: fresh behind a run"},
    {singleflight::detail::rule::leaver_passes_lead_on, "19: the fresh caller elected is stopped"},
    {singleflight::detail::rule::abandoned_is_forgotten, "10: a joiner leaves a run"},
    {singleflight::detail::rule::abandoned_is_stopped, "4: an abandoned load is told"},
    {singleflight::detail::rule::departure_wakes_close, "23: close beside two runs"},
    {singleflight::detail::rule::handle_leaves, "3: a handle dropped beside the load"},
    {singleflight::detail::rule::load_runs_once, "23: close beside a started load"},
    {singleflight::detail::rule::cancel_yields_to_outcome, "16: a stop after the outcome"},
    {singleflight::detail::rule::enrol_sees_done, "10: two coroutines"},
    {singleflight::detail::rule::enrol_sees_limit, "16: a stop beside the begin of a wait"},
    {singleflight::detail::rule::destroyed_leaves_list,
     "28b: a coroutine destroyed while it waits"},
};

}  // namespace model
