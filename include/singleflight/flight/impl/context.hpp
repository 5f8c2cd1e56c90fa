// SPDX-License-Identifier: Apache-2.0
#pragma once

// context: how a load gets its flight's stop token, deadline and callers. Members of
// flight_context, and those of flight_core that they call.

#include <algorithm>
#include <memory>

#include "singleflight/core/support/stop_token.hpp"
#include "singleflight/flight/detail/flight_core.hpp"
#include "singleflight/flight/detail/rules.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

SINGLEFLIGHT_COLD SINGLEFLIGHT_BODY void flight_core::request_stop(block_base& b) {
  b.lock();
  b.room.stop_wanted = true;
  std::stop_source source = b.room.stop;
  b.unlock();
  fire_stop(b, source);
}

SINGLEFLIGHT_COLD SINGLEFLIGHT_BODY void flight_core::fire_stop(const block_base& b,
                                                                std::stop_source& source) {
  if (!source.stop_possible()) return;  // no load has a token
  const inside_flight here(b);          // the destructor of a stop callback waits for its call
  const on_errand errand;               // the load's stop callbacks
  platform::request_stop(source);
}

SINGLEFLIGHT_COLD SINGLEFLIGHT_BODY std::stop_token flight_core::stop_token_of(block_base& b) {
  std::stop_source fresh;
  b.lock();
  if (!b.room.stop.stop_possible()) b.room.stop.swap(fresh);
  std::stop_source source = b.room.stop;
  const bool wanted = b.room.stop_wanted;
  b.unlock();
  if (wanted || closed()) fire_stop(b, source);
  return source.get_token();
}

SINGLEFLIGHT_COLD SINGLEFLIGHT_BODY steady_time
flight_core::deadline_of(block_base& b, const flight_node& node) noexcept {
  b.lock();
  steady_time latest = steady_time::min();
  const bool leader_bound = node.deadline != steady_time::max() && !b.room.leader_cancelled;
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

SINGLEFLIGHT_BODY std::stop_token flight_context::stop_token() const {
  using namespace detail;
  block_base* block =
      node_->block.load(platform::order(rule::context_acquires, memory_order_acquire));
  if (block == nullptr) {
    std::unique_ptr<block_base> fresh(
        group_->steps.make_block(*group_, *node_, detail::flight_phase::running));
    flight_table::bucket bucket = group_->table.lock(node_->hash);
    block = node_->block.load(memory_order_relaxed);
    if (block == nullptr) {
      block = fresh.release();
      flight_core::attach_locked(bucket, *node_, *block);
    }
    group_->table.unlock(bucket);
  }
  return group_->stop_token_of(*block);
}

SINGLEFLIGHT_BODY std::chrono::steady_clock::time_point flight_context::deadline() const noexcept {
  detail::block_base* const block = node_->block.load(
      detail::platform::order(detail::rule::context_acquires, detail::memory_order_acquire));
  return block == nullptr ? node_->deadline : group_->deadline_of(*block, *node_);
}

SINGLEFLIGHT_BODY std::size_t flight_context::callers() const noexcept {
  const detail::block_base* const block = node_->block.load(
      detail::platform::order(detail::rule::context_acquires, detail::memory_order_acquire));
  return block == nullptr ? 1 : block->interest();
}

SINGLEFLIGHT_BODY bool flight_context::revoked() const noexcept {
  return node_->revoked.load(detail::memory_order_acquire);
}

SINGLEFLIGHT_BODY bool flight_context::forgotten() const noexcept {
  return node_->mode.load(detail::memory_order_acquire) != detail::flight_mode::open;
}

SINGLEFLIGHT_END_NAMESPACE
