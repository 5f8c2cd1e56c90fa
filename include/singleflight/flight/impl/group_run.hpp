// SPDX-License-Identifier: Apache-2.0
#pragma once

// group_run: how a run() leads a thin flight, and how it publishes or takes its value. What does
// not depend on the value is in flight_call_run.hpp.

#include "singleflight/flight/group.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE

template <class Key, class Value, class Hash, class Equal>
auto group<Key, Value, Hash, Equal>::run_contended(node& own, detail::thread_state& self,
                                                   const detail::lent_loader& load,
                                                   const limits& bounds, bool fresh)
    -> outcome<result> {
  using namespace detail;
  const inside_run inside(self);
  const run_end end = flight_call::run(core_, own, self, load, bounds, fresh);
  if (end.how == run_end::kind::alone) return lead_alone(own, self, load, bounds.within.frame);
  return outcome_of(end);
}

template <class Key, class Value, class Hash, class Equal>
auto group<Key, Value, Hash, Equal>::outcome_of(const detail::run_end& end) -> outcome<result> {
  using namespace detail;
  if (end.how == run_end::kind::refused) return end.code;
  if (end.how == run_end::kind::outcome) {
    return flight_share<Value>::outcome_of(*end.shared, end.role);
  }
  auto alone = result_door::make_empty<Value>();
  result_door::take_back(alone, static_cast<block&>(*end.shared));
  return alone;
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
    flight_call::fail_alone(core_, own, self, frame);
    throw;
  }
  self.led = frame.outer;
  if (!core_.plain() || !flight_table::leave_alone(core_.table.locate(own.hash), own))
      [[unlikely]] {
    settle(own, self, r);
  }
  return r;
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
    flight_call::end_in_error(core_, own, *b, {}, std::current_exception(), 1);
    throw;
  }
  if (core_.finish_and_drop(*b, flight_result::value)) {
    result_door::become_share(r, *b);
  } else {
    result_door::take_back(r, *b);  // expired: no other caller gets it
  }
}

SINGLEFLIGHT_END_NAMESPACE
