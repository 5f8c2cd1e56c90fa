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

/// The stop callback of a run() leader, which waits for it before its call returns; so all that
/// runs here is inside of that flight, and nobody else's load runs here (strike_scope).
struct withdrawing {
  block_base& block;
  void operator()() const {
    const strike_scope strikes;
    const inside_flight here(block);
    flight_core::withdraw(block);
  }
};

// ---- tasks: loads, timeouts ---------------------------------------------------------------------

/// Its executor has dropped the load: `broken`, or why a pool of the library's has refused it.
inline void flight_core::finish_dropped(block_base& b) {
  if (const std::exception_ptr* const why = this_thread().refusal) {
    finish_and_drop(b, flight_result::error, {}, keep_alive(*why));
  } else {
    finish_and_drop(b, flight_result::code, flight_errc::broken);
  }
}

inline void load_base::act_on(task_node* node, bool run) {
  auto& load = *static_cast<load_base*>(node);
  if (!run && drop_later(node)) return;
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
    group.finish_dropped(*load.block);
    load.end_run();
  }
}

inline errands::errands(block_base& of) noexcept
    : task_node([](task_node* node, bool) {
        auto& self = *static_cast<errands*>(node);
        block_base& b = self.block;
        b.lock();
        self.queued = false;
        b.unlock();
        flight_core::run_errands(b);
      }),
      block(of) {}

inline void block_base::fire_timeout(timer_node& node) noexcept {
  const fire_scope fires;
  flight_core::expire(*static_cast<timeout_alarm&>(node).block);
}

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE
