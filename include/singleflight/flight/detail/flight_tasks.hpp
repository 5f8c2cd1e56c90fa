// SPDX-License-Identifier: Apache-2.0
#pragma once

// flight_tasks: what runs later: queued loads, timeouts.

#include "singleflight/flight/detail/flight_core.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

inline block_base::~block_base() {
  if (load != nullptr && load->home != this) load->home->drop_reference();
  if ((state.load(memory_order_relaxed) & unfurnished) == 0) room.~waiting_room();
}

inline waiting_room::waiting_room(block_base& block, const any_executor& executor) noexcept
    : batch(executor) {
  batch.owner = &block;
}
inline waiting_room::~waiting_room() {
  while (flight_batch* const b = more_batches) {
    more_batches = b->next;
    b->dispose(b);
  }
}

/// The stop callback of a run() leader.
struct withdrawing {
  block_base& block;
  void operator()() const { flight_core::withdraw(block); }
};

// ---- tasks: loads, timeouts ---------------------------------------------------------------------

inline void load_base::act_on(task_node* node, bool run) {
  auto& load = *static_cast<load_base*>(node);
  // Leaves the queue and claims in one step; a waiter may have claimed it before.
  if ((load.state.exchange(claimed, memory_order_acq_rel) & claimed) != 0 &&
      platform::holds(rule::load_runs_once)) {
    load.home->drop_reference();
    return;
  }
  flight_core& group = *load.block->core;
  if (run) {
    load.run();
  } else {
    group.finish_and_drop(*load.block, flight_result::code, flight_errc::broken);
    load.end_run();
  }
}

inline void block_base::fire_timeout(timer_node& node) noexcept {
  auto& alarm = static_cast<timeout_alarm&>(node);
  if (alarm.queued.exchange(true, memory_order_acq_rel)) return;
  alarm.block->add_reference();
  timeout_pool().post(&alarm, true);
}

inline void block_base::run_timeout(task_node* node, bool) {
  auto& alarm = static_cast<timeout_alarm&>(*node);
  block_base& block = *alarm.block;
  // A fire that saw true leaves the look to this task. Its exchange came before this one, which
  // reads from it: so what the fire knew, the time that the load was armed for, is seen below.
  (void)alarm.queued.exchange(false, memory_order_acq_rel);
  flight_core::expire(block);
  block.drop_reference();
}

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE
