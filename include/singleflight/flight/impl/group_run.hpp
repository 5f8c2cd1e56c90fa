// SPDX-License-Identifier: Apache-2.0
#pragma once

// group_run: a run() that is not alone: it enters (group_enter.hpp) and leads, or joins and waits
// (blocked_wait.hpp); and how the outcome of a run() that leads is published.

#include "singleflight/flight/group.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE

template <class Key, class Value, class Hash, class Equal>
auto group<Key, Value, Hash, Equal>::run_contended(node& own, view key, detail::thread_state& self,
                                                   const lent& load, const limits& bounds,
                                                   bool fresh) -> outcome<result> {
  using namespace detail;
  const inside_run inside(self);
  if (const auto code = expired(bounds, core_.clock())) return refuse(*code).code;
  own.deadline = bounds.deadline;
  caller call{.core = core_, .own = &own};
  if (bounds.stop.stop_possible() || core_.options().load_timeout.count() > 0) {
    call.first_block = make_block_for(core_, own.hash, key);
  }
  const admission admitted = enter(call, own.hash, key, fresh);
  if (admitted.decision == admission::kind::refused) return admitted.code;
  if (admitted.decision == admission::kind::leads) {
    if (core_.table.crowded()) core_.table.grow();
    if (admitted.shared == nullptr) return lead_alone(own, self, load, bounds.within.frame);
    core_.stats.add(counter::led);
    return lead_shared(own, *admitted.shared, self, load, bounds);
  }
  if (admitted.watch != nullptr) admitted.watch->joined(admitted.shared->id);
  return await_joined(*admitted.shared, self, load, bounds);
}

/// Leads a thin flight: it has no other caller yet, and mostly never gets one.
template <class Key, class Value, class Hash, class Equal>
template <class Load>
auto group<Key, Value, Hash, Equal>::lead_alone(node& own, detail::thread_state& self,
                                                const Load& load, const detail::led_frame* within)
    -> result {
  using namespace detail;
  const led_frame frame{own.id, self.led, within, &core_, true};
  self.led = &frame;
  core_.stats.add(counter::led);
  if (!core_.plain()) core_.mark_begin(own);
  auto r = result_door::make_empty<Value>();
  try {
    const flight_context context(core_, own, frame);
    result_door::emplace(r, [&](void* at) { load(at, context); });
  } catch (...) {
    fail_alone(own, self, frame);
    throw;
  }
  self.led = frame.outer;
  if (!core_.plain() || !flight_table::leave_alone(core_.table.locate(own.hash), own))
      [[unlikely]] {
    settle(own, self, r);
  }
  return r;
}

/// Leads a flight that has a block, because an option or a limit needs one from the beginning, or
/// because this caller was elected. The caller's reference on `b` goes into the result.
template <class Key, class Value, class Hash, class Equal>
auto group<Key, Value, Hash, Equal>::lead_shared(detail::flight_node& n, block& b,
                                                 detail::thread_state& self, const lent& load,
                                                 const limits& bounds) -> result {
  using namespace detail;
  const led_frame frame{b.id, self.led, bounds.within.frame, &core_, true};
  self.led = &frame;
  try {
    core_.begin(b);
    std::optional<platform::stop_callback<leader_cancellation>> on_stop;
    if (bounds.stop.stop_possible()) on_stop.emplace(bounds.stop, leader_cancellation{b});
    const flight_context context(core_, n, frame);
    b.construct_by([&](void* at) { load(at, context); });
  } catch (...) {
    if (platform::is_thread_exit()) {
      self.led = frame.outer;
      const inside_run inside(self);
      end_in_error(n, b, flight_errc::broken, nullptr, 1);
      throw;
    }
    self.led = frame.outer;
    const inside_run inside(self);
    end_in_error(n, b, {}, std::current_exception(), 1);
    throw;
  }
  self.led = frame.outer;
  const inside_run inside(self);
  if (core_.finish_and_drop(b, flight_result::value)) {
    return result_door::make_share(b, flight_role::leader);
  }
  auto alone = result_door::make_empty<Value>();  // expired: no other caller gets it
  result_door::take_back(alone, b);
  return alone;
}

template <class Key, class Value, class Hash, class Equal>
auto group<Key, Value, Hash, Equal>::await_joined(block& b, detail::thread_state& self,
                                                  const lent& load, const limits& bounds)
    -> outcome<result> {
  using namespace detail;
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
    case wait_verdict::outcome: return flight_share<Value>::outcome_of(b, flight_role::joiner);
    case wait_verdict::lead:
      core_.stats.add(counter::begun);
      b.lock();
      b.set_phase_locked(flight_phase::running);
      b.leader_left.store(false, memory_order_relaxed);
      b.run_leads = true;
      b.node->deadline = bounds.deadline;
      b.unlock();
      return lead_shared(*b.node, b, self, load, bounds);
    case wait_verdict::timed_out:
    case wait_verdict::cancelled:
    case wait_verdict::recursive: break;
  }
  {
    const inside_run inside(self);
    wait.leave(verdict);
  }
  return errc_of(verdict);
}

/// Publishes the value of a thin leader that could not leave alone: it may have joiners.
template <class Key, class Value, class Hash, class Equal>
void group<Key, Value, Hash, Equal>::settle(node& own, detail::thread_state& self, result& r) {
  using namespace detail;
  const inside_run inside(self);
  auto* const b = static_cast<block*>(core_.leave_table(own, load_result::value));
  if (b == nullptr) return;
  b->add_reference();  // the leader's own
  try {
    b->construct(std::move(result_door::inline_value(r)));
  } catch (...) {
    end_in_error(own, *b, {}, std::current_exception(), 1);
    throw;
  }
  if (core_.finish_and_drop(*b, flight_result::value)) {
    result_door::become_share(r, *b);
  } else {
    result_door::take_back(r, *b);  // expired: no other caller gets it
  }
}

template <class Key, class Value, class Hash, class Equal>
void group<Key, Value, Hash, Equal>::fail_alone(node& own, detail::thread_state& self,
                                                const detail::led_frame& frame) {
  self.led = frame.outer;
  if (detail::platform::is_thread_exit()) {
    settle_error(own, self, flight_errc::broken, nullptr);
  } else {
    settle_error(own, self, {}, std::current_exception());
  }
}

template <class Key, class Value, class Hash, class Equal>
void group<Key, Value, Hash, Equal>::settle_error(node& own, detail::thread_state& self,
                                                  flight_errc code, std::exception_ptr error) {
  using namespace detail;
  const inside_run inside(self);
  const load_result ended = error == nullptr ? load_result::broken : load_result::error;
  const flight_errc counted = errc_of(error).value_or(code);
  if (block_base* const b = core_.leave_table(own, ended, counted)) {
    end_in_error(own, static_cast<block&>(*b), code, std::move(error), 0);
  }
}

template <class Key, class Value, class Hash, class Equal>
void group<Key, Value, Hash, Equal>::end_in_error(detail::flight_node& n, block& b,
                                                  flight_errc code, std::exception_ptr error,
                                                  std::uint32_t references) {
  using namespace detail;
  flight_core::finished end{};
  if (error == nullptr) {
    end = core_.finish(b, flight_result::code, code);
  } else {
    error = keep_alive(std::move(error));
    end = core_.hand_over_from(n, b, error);
    if (!end.published) {
      end = core_.finish(b, flight_result::error, {}, std::move(error), false);
    }
  }
  // If there is nothing to drop, the flight has a new leader, and `b` may already have been freed.
  if (end.over || references > 0) b.drop_references(references + (end.over ? 1U : 0U));
}

SINGLEFLIGHT_END_NAMESPACE
