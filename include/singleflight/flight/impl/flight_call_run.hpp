// SPDX-License-Identifier: Apache-2.0
#pragma once

// flight_call_run: a run() that is not alone: it enters (flight_call_enter.hpp) and leads, or joins
// and waits (blocked_wait.hpp); and how a run() ends its flight without a value.

#include <exception>
#include <optional>
#include <utility>

#include "singleflight/core/support/stop_token.hpp"
#include "singleflight/flight/detail/flight_call.hpp"
#include "singleflight/flight/detail/rules.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

SINGLEFLIGHT_BODY run_end flight_call::run(flight_core& core, flight_node& own, thread_state& self,
                                           const lent_loader& loader, const limits& bounds,
                                           bool fresh) {
  if (const auto code = expired(bounds, core.clock())) {
    return {.how = run_end::kind::refused, .code = core.refuse(*code)};
  }
  own.deadline = bounds.deadline;
  flight_call call{.core = core, .own = own, .lends = true};
  call.prepare_block(bounds);
  const admission admitted = call.enter(fresh);
  if (admitted.decision == admission::kind::refused) {
    return {.how = run_end::kind::refused, .code = admitted.code};
  }
  if (admitted.decision == admission::kind::leads) {
    if (core.table.crowded()) core.table.grow();
    if (admitted.shared == nullptr) return {.how = run_end::kind::alone};
    core.stats.add(counter::led);
    return lead_shared(core, own, *admitted.shared, self, loader, bounds);
  }
  if (admitted.watch != nullptr) admitted.watch->joined(admitted.shared->id);
  return await_joined(core, *admitted.shared, self, loader, bounds);
}

/// Leads a flight that has a block, because an option or a limit needs one from the beginning, or
/// because this caller was elected. The caller's reference on `b` goes into the result.
SINGLEFLIGHT_BODY run_end flight_call::lead_shared(flight_core& core, flight_node& n, block_base& b,
                                                   thread_state& self, const lent_loader& loader,
                                                   const limits& bounds) {
  const led_frame frame{b.id, self.led, bounds.within.frame, &core, true};
  self.led = &frame;
  try {
    core.begin(b);
    std::optional<platform::stop_callback<leader_cancellation>> on_stop;
    if (bounds.stop.stop_possible()) on_stop.emplace(bounds.stop, leader_cancellation{b});
    const flight_context context(core, n, frame);
    b.construct_by([&](void* at) { loader(at, context); });
  } catch (...) {
    const bool thread_ends = platform::is_thread_exit();
    self.led = frame.outer;
    const inside_run inside(self);
    if (thread_ends) {
      end_in_error(core, n, b, flight_errc::broken, nullptr, 1);
    } else {
      end_in_error(core, n, b, {}, std::current_exception(), 1);
    }
    throw;
  }
  self.led = frame.outer;
  const inside_run inside(self);
  const bool published = core.finish_and_drop(b, flight_result::value);
  return {.how = published ? run_end::kind::outcome : run_end::kind::own_value,
          .shared = &b,
          .role = flight_role::leader};
}

SINGLEFLIGHT_BODY run_end flight_call::await_joined(flight_core& core, block_base& b,
                                                    thread_state& self, const lent_loader& loader,
                                                    const limits& bounds) {
  wait_verdict verdict{};
  blocked_wait wait(b, bounds, blocked_wait::form::run, {.lender = true});
  try {
    verdict = wait.wait();
  } catch (...) {
    const inside_run inside(self);
    wait.leave(wait_verdict::outcome);
    throw;
  }
  switch (verdict) {
    case wait_verdict::outcome: return {.how = run_end::kind::outcome, .shared = &b};
    case wait_verdict::lead:
      core.stats.add(counter::begun);
      b.lock();
      b.set_phase_locked(flight_phase::running);
      b.leader_left.store(false, memory_order_relaxed);
      b.run_leads = true;
      b.node->deadline = bounds.deadline;
      b.unlock();
      return lead_shared(core, *b.node, b, self, loader, bounds);
    case wait_verdict::timed_out:
    case wait_verdict::cancelled:
    case wait_verdict::recursive: break;
  }
  {
    const inside_run inside(self);
    wait.leave(verdict);
  }
  return {.how = run_end::kind::refused, .code = errc_of(verdict)};
}

SINGLEFLIGHT_COLD SINGLEFLIGHT_BODY void flight_call::fail_alone(flight_core& core,
                                                                 flight_node& own,
                                                                 thread_state& self,
                                                                 const led_frame& frame) {
  self.led = frame.outer;
  if (platform::is_thread_exit()) {
    end_thin(core, own, self, flight_errc::broken, nullptr);
  } else {
    end_thin(core, own, self, {}, std::current_exception());
  }
}

SINGLEFLIGHT_COLD SINGLEFLIGHT_BODY void flight_call::end_thin(flight_core& core, flight_node& own,
                                                               thread_state& self, flight_errc code,
                                                               std::exception_ptr error) {
  const inside_run inside(self);
  const load_result ended = error == nullptr ? load_result::broken : load_result::error;
  const flight_errc counted = errc_of(error).value_or(code);
  if (block_base* const b = core.leave_table(own, ended, counted)) {
    end_in_error(core, own, *b, code, std::move(error), 0);
  }
}

SINGLEFLIGHT_BODY void flight_call::end_in_error(flight_core& core, flight_node& n, block_base& b,
                                                 flight_errc code, std::exception_ptr error,
                                                 std::uint32_t references) {
  flight_core::finished end{};
  if (error == nullptr) {
    end = core.finish(b, flight_result::code, code);
  } else {
    error = keep_alive(std::move(error));
    end = core.hand_over_from(n, b, error);
    if (!end.published) {
      end = core.finish(b, flight_result::error, {}, std::move(error), false);
    }
  }
  // If there is nothing to drop, the flight has a new leader, and `b` may already have been freed.
  if (end.over || references > 0) b.drop_references(references + (end.over ? 1U : 0U));
}

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE
