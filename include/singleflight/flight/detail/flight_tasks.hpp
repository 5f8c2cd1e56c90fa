// SPDX-License-Identifier: Apache-2.0
#pragma once

// flight_tasks: what runs later: queued loads, resumptions, timeouts.

#include "singleflight/flight/detail/flight_core.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

inline block_base::~block_base() {
  if (load != nullptr && load->home != this) load->home->drop_reference();
  if ((state.load(memory_order_relaxed) & unfurnished) == 0) room.~waiting_room();
}

inline waiting_room::waiting_room(block_base& block, const any_executor& executor) noexcept
    : batch(executor) {
  batch.block = &block;
}
inline waiting_room::~waiting_room() {
  while (resume_batch* const b = more_batches) {
    more_batches = b->next;
    b->dispose(b);
  }
}

/// The stop callback of a run() leader.
struct withdrawing {
  block_base& block;
  void operator()() const { flight_core::withdraw(block); }
};

// ---- tasks: loads, resumptions, timeouts --------------------------------------------------------

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

inline void resume(waiter& w) {
  if ((w.target & 1) != 0) {
    auto* const callback = reinterpret_cast<ready_action*>(w.target & ~std::uintptr_t{1});
    callback->act(callback);
  } else {
    std::coroutine_handle<>::from_address(reinterpret_cast<void*>(w.target)).resume();
  }
}

/// Resumes the ready waiters of a batch one after the other, never nested. Each is taken out under
/// the block's lock, so that one that is destroyed before its turn is simply not there any more.
inline void run_batch(resume_batch::runner& self) {
  resume_batch& batch = *self.batch;
  block_base& block = *batch.block;
  bool offer = &self == &batch.main;
  for (;;) {
    block.lock();
    const bool done = block.phase(memory_order_relaxed) == flight_phase::done;
    waiter_list& from = done && !batch.pending.empty() ? batch.pending : batch.ready;
    waiter* const w = from.pop();
    if (w == nullptr) {
      self.active = false;
      block.unlock();
      block.drop_reference();
      return;
    }
    w->state = wait_state::resumed;
    const waiter* const next = from.first();
    const bool second = offer && next != nullptr && !batch.spare.active;
    if (second) {
      batch.spare.active = true;
      block.add_reference();
    }
    block.unlock();
    offer = false;
    if (second) flight_core::submit_runner(batch.spare);
#if defined(__GNUC__)
    __builtin_prefetch(next, 1);
#endif
    struct
        resuming {  // a resumption that throws, or ends its thread, leaves the rest to another run
      resume_batch::runner& runner;
      bool finished = false;
      ~resuming() {
        if (!finished) flight_core::submit_runner(runner);
      }
    } guard{self};
    try {
      resume(*w);
    } catch (...) {  // nobody is there to take what a callback or a coroutine lets escape
      if (!platform::is_thread_exit()) std::terminate();
      throw;
    }
    guard.finished = true;
  }
}

inline void act_on_runner(task_node* node, bool run) {
  auto& self = *static_cast<resume_batch::runner*>(node);
  if (run) {
    run_batch(self);
  } else {
    default_pool().post(&self, true);
  }
}

inline resume_batch::resume_batch(any_executor on) noexcept
    : executor(std::move(on)), main(&act_on_runner), spare(&act_on_runner) {
  main.batch = spare.batch = this;
}

inline void block_base::fire_timeout(timer_node& node) noexcept {
  auto& alarm = static_cast<timeout_alarm&>(node);
  if (alarm.queued.exchange(true, memory_order_acq_rel)) return;
  alarm.block->add_reference();
  timeout_pool().post(&alarm, true);
}

inline void block_base::run_timeout(task_node* node, bool) {
  auto& alarm = *static_cast<timeout_alarm*>(node);
  block_base& block = *alarm.block;
  alarm.queued.store(false, memory_order_release);
  flight_core::expire(block);
  block.drop_reference();
}

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE
