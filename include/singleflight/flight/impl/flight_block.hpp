// SPDX-License-Identifier: Apache-2.0
#pragma once

// flight_block: members of the block that need flight_core: its destructor, errands and timeout.

#include "singleflight/flight/detail/flight_core.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

SINGLEFLIGHT_BODY block_base::~block_base() {
  if (load != nullptr && load->home != this) load->home->drop_reference();
  if ((state.load(memory_order_relaxed) & without_room) == 0) room.~waiting_room();
}

SINGLEFLIGHT_BODY ended_block::ended_block(flight_core& group, const any_executor& on, timer& time,
                                           flight_errc why) noexcept
    : block_base(group, on, time, flight_phase::done) {
  counts.store(one_reference, memory_order_relaxed);
  result = flight_result::code;
  code = why;
  id = 0;
}
SINGLEFLIGHT_BODY void* ended_block::value_place() noexcept { return nullptr; }

SINGLEFLIGHT_BODY waiting_room::waiting_room(block_base& block,
                                             const any_executor& executor) noexcept
    : batch(executor) {
  batch.owner = &block;
}

SINGLEFLIGHT_BODY errands::errands(block_base& of_block) noexcept
    : task_node([](task_node* node, bool) {
        auto& self = *static_cast<errands*>(node);
        block_base& b = self.block;
        b.lock();
        self.queued = false;
        b.unlock();
        flight_core::run_errands(b);
      }),
      block(of_block) {}

SINGLEFLIGHT_BODY void block_base::fire_timeout(timer_node& node) noexcept {
  const fire_scope fires;
  flight_core::expire(*static_cast<timeout_alarm&>(node).block);
}

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE
