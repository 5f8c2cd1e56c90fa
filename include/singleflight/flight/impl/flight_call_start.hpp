// SPDX-License-Identifier: Apache-2.0
#pragma once

// flight_call_start: how a started call enters under the bucket lock, and begins its load.

#include <utility>

#include "singleflight/flight/detail/flight_call.hpp"
#include "singleflight/flight/detail/flight_share.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

SINGLEFLIGHT_BODY started_share flight_call::start(const start_mode& mode) {
  const admission admitted = enter(mode.fresh);
  switch (admitted.decision) {
    case admission::kind::needs_block: return {};
    case admission::kind::leads: return lead_started(core, *made.release(), *load, mode);
    case admission::kind::refused:
      return {.block = new ended_block(core, core.options().executor, core.clock(), admitted.code)};
    case admission::kind::joined: break;
  }
  std::uint32_t kept = admitted.kept;
  if (admitted.keeps) {
    kept = core.keep(*admitted.shared, *load);
    made.release()->drop_reference();
  }
  if (admitted.watch != nullptr) admitted.watch->joined(admitted.shared->id);
  return {.block = admitted.shared, .kept = kept};
}

SINGLEFLIGHT_BODY started_share flight_call::lead_started(flight_core& core, block_base& b,
                                                          load_base& load, const start_mode& mode) {
  if (core.table.crowded()) core.table.grow();
  core.stats.add(counter::started);
  struct holding {  // drops the handle's share if the load ends this thread
    block_base* mine;
    ~holding() {
      if (mine != nullptr) (void)share_base(mine, flight_role::leader, 0);
    }
  } hold{&b};
  if (mode.unlaunched != nullptr) {
    *mode.unlaunched = &load;
  } else if (mode.outermost && core.options().executor.is_inline() &&
             !is_inside_run(this_thread())) {
    // The trampoline would run it at the end of this call: it runs here, without the queue.
    struct running {  // resets within_start, also if the load ends this thread
      atomic<const thread_state*>& on;
      ~running() { on.store(nullptr, memory_order_relaxed); }
    } const here{load.within_start};
    load.within_start.store(&this_thread(), memory_order_relaxed);
    flight_core::run_owned(load);
  } else {
    flight_core::open_load(load);
    flight_core::submit_load(load);
  }
  return {.block = std::exchange(hold.mine, nullptr), .role = flight_role::leader};
}

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE
