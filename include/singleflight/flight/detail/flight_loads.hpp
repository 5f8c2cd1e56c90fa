// SPDX-License-Identifier: Apache-2.0
#pragma once

// flight_loads: how an owned load begins, and what a load asks of its flight; the members of
// flight_core and of flight_context that do it.

#include <algorithm>
#include <memory>

#include "singleflight/core/detail/stop_token.hpp"
#include "singleflight/flight/detail/flight_core.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

inline void flight_core::open_load(load_base& load) {
  block_base& b = *load.block;
  b.lock();
  load.state.store(load_base::queued, memory_order_release);
  b.unlock();
}

inline void flight_core::tell_claimers(block_base& b) {
  b.lock();
  const bool claimers = b.room.claimers && platform::holds(rule::claimers_are_told);
  block_base* const behind = b.room.claimers_behind &&
                                     b.phase(memory_order_relaxed) != flight_phase::done &&
                                     platform::holds(rule::queued_load_wakes_those_behind)
                                 ? successor_of(b)
                                 : nullptr;
  b.unlock();
  if (claimers) b.poke(block_base::claimer_channel);
  if (behind != nullptr) {
    behind->poke_claimers();
    behind->drop_reference();
  }
}

inline void flight_core::submit_load(load_base& load) {
  const any_executor on = load.block->executor;  // the task may take the block with it
  // A wait with limits asks the executor whether a thread is free: that can tell once it has the
  // task. The inline one has it run before execute() returns, perhaps.
  struct telling {
    telling(block_base& b, bool before) noexcept : block(b), after(!before) {
      block.add_reference();
      if (before) tell_claimers(block);
    }
    telling(const telling&) = delete;
    telling& operator=(const telling&) = delete;
    ~telling() {
      if (after && platform::holds(rule::posted_load_is_told)) tell_claimers(block);
      block.drop_reference();
    }
    block_base& block;
    const bool after;
  } const claimers(*load.block, on.is_inline());
  try {
    on.execute(task(&load));
  } catch (...) {  // refused: dropping the task has ended the flight as broken
    if (platform::is_thread_exit()) throw;
  }
}

inline void load_base::run() { flight_core::run_owned(*this); }

inline void flight_core::run_owned(load_base& load) {
  // What the end resumes runs after the load has left this thread's chain.
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
  group.stats.add(figure::begun);
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
    const bool awaits = load.awaits;  // it may be gone when its call returns
    ~ending() {
      self.led = outer;
      if (!awaits) load.end_run();
    }
  } const end{self, on_thread.outer, load};
  load.call();
}

inline flight_errc flight_core::unbegun_end(block_base& b) const noexcept {
  if (closed()) return flight_errc::closed;
  return b.interest() > 0 ? flight_errc{} : unwanted_end(b);
}
SINGLEFLIGHT_COLD inline flight_errc flight_core::unwanted_end(block_base& b) noexcept {
  b.lock();
  const bool unwanted = b.room.stop_wanted && b.interest() == 0;
  b.unlock();
  return unwanted ? flight_errc::cancelled : flight_errc{};
}

inline void flight_core::arm_timeout(block_base& b) {
  if (b.alarm == nullptr) b.alarm = std::make_unique<block_base::timeout_alarm>(b);
  clock_.arm(*b.alarm, deadline_after(clock_.now(), options_.load_timeout));
  b.alarm->armed = true;
}

// ---- what a load asks of its flight -------------------------------------------------------------

SINGLEFLIGHT_COLD inline void flight_core::request_stop(block_base& b) {
  b.lock();
  b.room.stop_wanted = true;
  std::stop_source source = b.room.stop;
  b.unlock();
  fire_stop(b, source);
}

SINGLEFLIGHT_COLD inline void flight_core::fire_stop(const block_base& b,
                                                     std::stop_source& source) {
  if (!source.stop_possible()) return;  // no load has asked for a token
  const inside_flight here(b);          // the destructor of a stop callback waits for its call
  const on_errand errand;               // the load's stop callbacks
  platform::request_stop(source);
}

SINGLEFLIGHT_COLD inline std::stop_token flight_core::stop_token_of(block_base& b) {
  std::stop_source fresh;
  b.lock();
  if (!b.room.stop.stop_possible()) b.room.stop.swap(fresh);
  std::stop_source source = b.room.stop;
  const bool wanted = b.room.stop_wanted;
  b.unlock();
  if (wanted || closed()) fire_stop(b, source);
  return source.get_token();
}

SINGLEFLIGHT_COLD inline steady_time flight_core::deadline_of(block_base& b,
                                                              const flight_node& node) noexcept {
  b.lock();
  steady_time latest = steady_time::min();
  const bool leader_bound = node.deadline != steady_time::max() && !b.room.leader_withdrew;
  if (b.phase(memory_order_relaxed) == flight_phase::done) {
    latest = node.deadline;
  } else if (b.interest() > b.room.bounded + (leader_bound ? 1U : 0U)) {
    latest = steady_time::max();
  } else {
    if (leader_bound) latest = node.deadline;
    const auto take = [&latest](const waiter_list& list) {
      for (const waiter* w = list.first(); w != nullptr; w = w->next) {
        if (w->limit != nullptr) latest = std::max(latest, *w->limit);
      }
    };
    take(b.room.blocked);
    take(b.room.timed);
    take(b.room.batch.pending);
    for (const flight_batch* r = b.room.more_batches; r != nullptr; r = r->next) take(r->pending);
  }
  b.unlock();
  return latest;
}

}  // namespace detail

// ---- flight_context -----------------------------------------------------------------------------

inline std::stop_token flight_context::stop_token() const {
  using namespace detail;
  block_base* block =
      node_->block.load(platform::order(rule::context_acquires, memory_order_acquire));
  if (block == nullptr) {
    std::unique_ptr<block_base> fresh(group_->make_block(*group_, *node_));
    flight_table::bucket b = group_->table.lock(node_->hash);
    block = node_->block.load(memory_order_relaxed);
    if (block == nullptr) {
      block = fresh.release();
      flight_core::attach_locked(b, *node_, *block);
    }
    group_->table.unlock(b);
  }
  return group_->stop_token_of(*block);
}

inline std::chrono::steady_clock::time_point flight_context::deadline() const noexcept {
  detail::block_base* const block = node_->block.load(
      detail::platform::order(detail::rule::context_acquires, detail::memory_order_acquire));
  return block == nullptr ? node_->deadline : group_->deadline_of(*block, *node_);
}

inline std::size_t flight_context::callers() const noexcept {
  const detail::block_base* const block = node_->block.load(
      detail::platform::order(detail::rule::context_acquires, detail::memory_order_acquire));
  return block == nullptr ? 1 : block->interest();
}

inline bool flight_context::revoked() const noexcept {
  return node_->revoked.load(detail::memory_order_acquire);
}

inline bool flight_context::forgotten() const noexcept {
  return node_->mode.load(detail::memory_order_acquire) != detail::flight_mode::open;
}

SINGLEFLIGHT_END_NAMESPACE
