// SPDX-License-Identifier: Apache-2.0
#pragma once

// flight_core_begin: how a flight begins, is joined, gets a successor and is forgotten: the steps
// under the bucket lock. Members of flight_core.
//
// `max_flights` counts places, one for each flight that loads or may begin to. A successor has none
// while it waits: it takes over the place of the flight ahead when that ends. A successor that is
// to begin while a forgotten flight ahead of it still loads needs a place of its own, or ends as
// overloaded.

#include "singleflight/flight/detail/flight_core.hpp"
#include "singleflight/flight/detail/rules.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

/// The count never exceeds the bound, not even briefly, so a refusal here causes no other one.
SINGLEFLIGHT_BODY bool flight_core::admit_flight() noexcept {
  if (options_.max_flights == 0) return true;
  std::size_t count = flights_.load(memory_order_relaxed);
  do {
    if (count >= options_.max_flights) return false;
  } while (!flights_.compare_exchange_weak(count, count + 1, memory_order_relaxed,
                                           memory_order_relaxed));
  return true;
}

SINGLEFLIGHT_BODY void flight_core::dismiss_flight() noexcept {
  if (options_.max_flights != 0 && platform::holds(rule::ended_flight_is_not_counted)) {
    flights_.fetch_sub(1, memory_order_relaxed);
  }
}

SINGLEFLIGHT_BODY void flight_core::attach_locked(flight_table::bucket& bucket, flight_node& node,
                                                  block_base& block) noexcept {
  block.counts.store(
      block_base::one_reference +
          (platform::holds(rule::leader_is_interested) ? block_base::one_interest : 0),
      memory_order_relaxed);
  block.node = &node;
  block.id = node.id;
  // The release pairs with the acquire loads in flight_context.
  node.block.store(&block, platform::order(rule::attach_releases, memory_order_release));
  if (platform::holds(rule::attach_marks_bucket)) bucket.value |= flight_table::slow;
}

/// A leader's interest and `leader_left` end in one step, under the bucket lock: no join sees one
/// without the other.
SINGLEFLIGHT_COLD SINGLEFLIGHT_BODY bool flight_core::is_full(
    const block_base& block) const noexcept {
  if (!platform::holds(rule::waiters_are_bounded)) return false;
  const std::size_t leader = block.leader_left.load(memory_order_relaxed) ? 0 : 1;
  const std::size_t others = leader + block.detached.load(memory_order_relaxed);
  const std::size_t in = block.interest();
  return in >= others && in - others >= options_.max_waiters;
}

SINGLEFLIGHT_BODY bool flight_core::join_locked(flight_table::bucket& bucket, block_base& block,
                                                bool lender) noexcept {
  if (options_.max_waiters != 0 && is_full(block)) return false;
  block.counts.fetch_add(
      block_base::one_reference +
          (platform::holds(rule::joins_count_interest) ? block_base::one_interest : 0),
      memory_order_relaxed);
  // An election (under the block lock) that reads this lender also reads that it is absent: the
  // release pairs with the election's acquire.
  if (lender) block.lenders.fetch_add(1, memory_order_release);
  if (platform::holds(rule::join_marks_bucket)) bucket.value |= flight_table::slow;
  stats.add(counter::joined);
  return true;
}

SINGLEFLIGHT_BODY void flight_core::set_successor_locked(flight_table::bucket& bucket,
                                                         flight_node& node,
                                                         block_base& block) noexcept {
  node.successor = &block;
  block.behind.store(node.id, memory_order_release);
  bucket.value |= flight_table::slow;
}

SINGLEFLIGHT_BODY bool flight_core::too_old(const flight_node& node,
                                            steady_time now) const noexcept {
  if (options_.join_window.count() <= 0) return false;
  const steady_time began = node.began.load(memory_order_relaxed);
  return began != flight_node::not_begun && time_between(began, now) > options_.join_window;
}

SINGLEFLIGHT_BODY block_base* flight_core::forget_locked(flight_table::bucket& bucket,
                                                         flight_node& node) noexcept {
  table.retire_locked(bucket, node);
  if (node.successor != nullptr && platform::holds(rule::promoted_needs_a_place)) {
    node.successor->node->unplaced = !admit_flight();
  }
  return promote_locked(bucket, node);
}

SINGLEFLIGHT_BODY block_base* flight_core::promote_locked(flight_table::bucket& bucket,
                                                          flight_node& node) noexcept {
  block_base* const next = std::exchange(node.successor, nullptr);
  if (next != nullptr && platform::holds(rule::successor_takes_place)) {
    if (platform::holds(rule::promoter_holds_reference)) {
      next->add_reference();  // activate() drops it
    }
    table.link_locked(bucket, *next->node);
    next->behind.store(0, memory_order_release);
  }
  return next;
}

SINGLEFLIGHT_NOINLINE SINGLEFLIGHT_BODY block_base* flight_core::leave_table(flight_node& node,
                                                                             load_result result,
                                                                             flight_errc code) {
  observer* const watch = options_.observer;
  const steady_time began = node.began.load(memory_order_relaxed);
  const bool observed = watch != nullptr && began != flight_node::not_begun;
  const auto took = observed ? time_between(began, clock_.now()) : std::chrono::nanoseconds{};
  flight_table::bucket bucket = table.lock(node.hash);
  block_base* const block = node.block.load(memory_order_relaxed);
  block_base* successor = nullptr;
  if (block == nullptr) {
    if (code != flight_errc{}) stats.add_error(code);
    successor = unlink_locked(bucket, node);
  }
  table.unlock(bucket);
  if (block == nullptr && observed) watch->load_ended(node.id, took, result);
  if (successor != nullptr) activate(*successor);
  return block;
}

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE
