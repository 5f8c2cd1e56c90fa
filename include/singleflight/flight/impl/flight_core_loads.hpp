// SPDX-License-Identifier: Apache-2.0
#pragma once

// flight_core_loads: the life of an owned load from its start() to the call of its loader. The load
// is opened, submitted to the executor, claimed by the executor's task or by a thread that waits
// for it, and run. Members of flight_core and load_base.

#include <memory>

#include "singleflight/core/support/stop_token.hpp"
#include "singleflight/flight/detail/flight_core.hpp"
#include "singleflight/flight/detail/rules.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

SINGLEFLIGHT_BODY void flight_core::open_load(load_base& load) {
  block_base& b = *load.block;
  b.lock();
  load.state.store(load_base::queued, memory_order_release);
  b.unlock();
}

SINGLEFLIGHT_BODY void flight_core::notify_claimers(block_base& b) {
  b.lock();
  const bool claimers = b.room.claimers && platform::holds(rule::claimers_are_notified);
  block_base* const behind = b.room.claimers_behind &&
                                     b.phase(memory_order_relaxed) != flight_phase::done &&
                                     platform::holds(rule::queued_load_wakes_those_behind)
                                 ? successor_of(b)
                                 : nullptr;
  b.unlock();
  if (claimers) b.wake(block_base::claimer_channel);
  if (behind != nullptr) {
    behind->wake_claimers();
    behind->drop_reference();
  }
}

SINGLEFLIGHT_BODY void flight_core::submit_load(load_base& load) {
  const any_executor executor = load.block->executor;  // the task may take the block with it
  // A wait with limits asks the executor whether a thread is free, which the executor knows only
  // once it has the task: so the claimers are notified afterwards. An inline executor may run the
  // task before execute() returns: they are notified before.
  struct notifying {
    notifying(block_base& b, bool before) noexcept : block(b), after(!before) {
      block.add_reference();
      if (before) notify_claimers(block);
    }
    notifying(const notifying&) = delete;
    notifying& operator=(const notifying&) = delete;
    ~notifying() {
      if (after && platform::holds(rule::posted_load_notifies_claimers)) notify_claimers(block);
      block.drop_reference();
    }
    block_base& block;
    const bool after;
  } const claimers(*load.block, executor.is_inline());
  try {
    executor.execute(task(&load));
  } catch (...) {  // refused: dropping the task has ended the flight as broken
    if (platform::is_thread_exit()) throw;
  }
}

SINGLEFLIGHT_BODY void load_base::act_on(task_node* node, bool run) {
  auto& load = *static_cast<load_base*>(node);
  if (!run && drop_later(node)) return;
  // Leaves the queue and claims the load in one step; a waiter may have claimed it before.
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

/// Called when the executor has dropped the load: the flight ends as `broken`, or with the reason
/// why a pool of the library refused it.
SINGLEFLIGHT_BODY void flight_core::finish_dropped(block_base& b) {
  if (const std::exception_ptr* const why = this_thread().refusal) {
    finish_and_drop(b, flight_result::error, {}, keep_alive(*why));
  } else {
    finish_and_drop(b, flight_result::code, flight_errc::broken);
  }
}

SINGLEFLIGHT_BODY void load_base::run() { flight_core::run_owned(*this); }

SINGLEFLIGHT_INLINE_BODY void flight_core::run_owned(load_base& load) {
  // Waiters that the end resumes on this thread run after the load has left this thread's chain.
  const call_scope scope;
  block_base& b = *load.block;
  flight_core& group = *b.core;
  if (const flight_errc code = group.unbegun_end(b); code != flight_errc{}) {
    group.finish_and_drop(b, flight_result::code, code);
    load.end_run();
    return;
  }
  thread_state& self = this_thread();
  load.frame = {b.id, nullptr, nullptr, &group, false};
  group.stats.add(counter::begun);
  try {
    group.begin(b);
  } catch (...) {
    group.finish_and_drop(b, flight_result::error, {}, keep_alive(std::current_exception()));
    load.end_run();
    return;
  }
  led_frame on_thread{b.id, self.led, nullptr, &group, false};
  self.led = &on_thread;
  struct ending {
    thread_state& self;
    const led_frame* outer;
    load_base& load;
    const bool awaits = load.awaits;  // `load` may be destroyed when its call returns
    ~ending() {
      self.led = outer;
      if (!awaits) load.end_run();
    }
  } const end{self, on_thread.outer, load};
  load.call();
}

SINGLEFLIGHT_BODY flight_errc flight_core::unbegun_end(block_base& b) const noexcept {
  if (closed()) return flight_errc::closed;
  return b.interest() > 0 ? flight_errc{} : unwanted_end(b);
}
SINGLEFLIGHT_COLD SINGLEFLIGHT_BODY flight_errc flight_core::unwanted_end(block_base& b) noexcept {
  b.lock();
  const bool unwanted = b.room.stop_wanted && b.interest() == 0;
  b.unlock();
  return unwanted ? flight_errc::cancelled : flight_errc{};
}

SINGLEFLIGHT_BODY void flight_core::arm_timeout(block_base& b) {
  if (b.alarm == nullptr) b.alarm = std::make_unique<block_base::timeout_alarm>(b);
  clock_.arm(*b.alarm, deadline_after(clock_.now(), options_.load_timeout));
  b.alarm->armed = true;
}

}  // namespace detail

SINGLEFLIGHT_END_NAMESPACE
