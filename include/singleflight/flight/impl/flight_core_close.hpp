// SPDX-License-Identifier: Apache-2.0
#pragma once

// flight_core_close: the beginning and the end of a group. Members of flight_core.
//
// 1. `closed_` is set: a call that locks a bucket from now on is refused, and no queued load begins
//    any more. (A run() that has entered, or was elected, before that leads its load.)
// 2. Every bucket gets `slow`, so that the fast enter fails and every leave takes the lock.
// 3. After that, successors that have not begun end as closed, and running loads are asked to stop,
//    one after the other.
// 4. close() waits until every chain is empty. A leaver increments `removals_` and wakes the
//    closing thread under the bucket lock, and that thread checks the chain under the same lock: so
//    the leaver's last access to the group is the unlock that admits the closing thread.

#include <stdexcept>
#include <utility>

#include "singleflight/flight/detail/flight_core.hpp"
#include "singleflight/flight/detail/rules.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

SINGLEFLIGHT_BODY void flight_core::make_shared_state() {
  make_shared_pools();
  (void)wait_graph::instance();
  (void)thread_indexes::instance();
}

SINGLEFLIGHT_BODY flight_core::flight_core(group_options&& options, const keyed_steps& of_group)
    : fork_member(rank::group),
      steps(of_group),
      options_(std::move(options)),
      clock_(options_.timer != nullptr ? *options_.timer : default_timer()),
      plain_(options_.max_flights == 0 && options_.observer == nullptr &&
             options_.join_window <= options_.join_window.zero() &&
             options_.load_timeout <= options_.load_timeout.zero()) {
  if (options_.join_window.count() < 0 || options_.load_timeout.count() < 0) {
    throw std::invalid_argument(
        "group_options: join_window and load_timeout must not be negative; zero means none");
  }
  make_shared_state();
  enter_forks();
}
SINGLEFLIGHT_BODY flight_core::~flight_core() { leave_forks(); }

SINGLEFLIGHT_COLD SINGLEFLIGHT_BODY bool flight_core::close_until(steady_time deadline) {
  const call_scope scope;
  closed_.store(true, memory_order_release);
  table.each([](flight_table::head& at) { return shut_bucket(at); });
  table.each([this](flight_table::head& at) { return end_bucket(at); });
  for (;;) {
    const std::uint32_t seen = removals_.load(memory_order_acquire);
    bool empty = true;
    table.each([&empty](flight_table::head& at) {
      const flight_table::bucket bucket = flight_table::lock_at(at);
      if (bucket.first() != nullptr) empty = false;
      flight_table::unlock(bucket);
      return !bucket.has_moved();
    });
    if (empty) return true;
    if (!wait_removal(seen, deadline)) return false;
  }
}

SINGLEFLIGHT_COLD SINGLEFLIGHT_BODY bool flight_core::shut_bucket(flight_table::head& at) noexcept {
  flight_table::bucket bucket = flight_table::lock_at(at);
  const bool moved = bucket.has_moved();
  if (!moved && platform::holds(rule::close_marks_bucket)) bucket.value |= flight_table::slow;
  flight_table::unlock(bucket);
  return !moved;
}

/// Called once all buckets are shut: a stop callback of one load must find the whole group closed.
/// One bucket at a time, since a fork does not see what has been taken out of a bucket.
SINGLEFLIGHT_COLD SINGLEFLIGHT_BODY bool flight_core::end_bucket(flight_table::head& at) {
  block_base* running = nullptr;
  block_base* unbegun = nullptr;
  const auto take = [](block_base& block, block_base*& list) {
    block.next_shut = list;
    list = &block;
  };
  const flight_table::bucket bucket = flight_table::lock_at(at);
  // Only successors still enter; they end as closed when their turn comes. (A bucket that has moved
  // has no nodes.)
  for (flight_node* node = bucket.first(); node != nullptr; node = node->next) {
    if (std::exchange(node->close_seen, true)) continue;  // another close() ends it
    block_base* const behind = std::exchange(node->successor, nullptr);
    if (behind != nullptr) take(*behind, unbegun);
    block_base* const block = node->block.load(memory_order_relaxed);
    if (block == nullptr) continue;
    block->add_reference();
    take(*block, running);
  }
  flight_table::unlock(bucket);
  while (block_base* const block = unbegun) {
    unbegun = block->next_shut;
    if (platform::holds(rule::close_ends_unbegun)) end_unbegun(*block);
  }
  while (block_base* const block = running) {
    running = block->next_shut;
    block->lock();
    const bool lost = block->node == nullptr;  // a stop callback has forked; this is the child
    block->unlock();
    if (!lost) {
      request_stop(*block);
      end_if_not_begun(*block);
    }
    block->drop_reference();
  }
  return !bucket.has_moved();
}

SINGLEFLIGHT_COLD SINGLEFLIGHT_BODY void flight_core::end_unbegun(block_base& b) {
  after_unlock a;
  b.lock();
  if (b.phase(memory_order_relaxed) != flight_phase::done) {
    stats.add_error(flight_errc::closed, b.interest());
    publish_locked(b, flight_result::code, flight_errc::closed, a);
  }
  b.unlock();
  carry_out(a);
  b.drop_reference();
}

SINGLEFLIGHT_COLD SINGLEFLIGHT_BODY void flight_core::end_if_not_begun(block_base& b) {
  b.lock();
  load_base* const load = b.phase(memory_order_relaxed) == flight_phase::running ? b.load : nullptr;
  const bool vacant = b.phase(memory_order_relaxed) == flight_phase::vacant;
  after_unlock a;
  bool over = false;
  if (vacant) over = elect_locked(b, a);
  b.unlock();
  carry_out(a);
  if (over) b.drop_reference();
  if (load != nullptr && load->claim()) {
    finish_and_drop(b, flight_result::code, flight_errc::closed);
  }
}

SINGLEFLIGHT_COLD SINGLEFLIGHT_BODY bool flight_core::wait_removal(std::uint32_t seen,
                                                                   steady_time deadline) {
  settle_promises();
  if (deadline != steady_time::max() && clock_.now() >= deadline) return false;
  hand_queue_over();
  if (deadline == steady_time::max()) {
    platform::wait(removals_, seen);
    return true;
  }
  if (clock_.follows_steady_clock()) {
    platform::wait(removals_, seen, platform::all_channels, &deadline);
    return true;
  }
  struct alarm : thread_timer_node {
    explicit alarm(atomic<std::uint32_t>& w) noexcept
        : thread_timer_node(
              [](timer_node& n) noexcept {
                auto& woken = static_cast<alarm&>(n).word;
                woken.fetch_add(1, memory_order_release);
                platform::wake(woken, block_base::all_sleepers);
              },
              this_thread()),
          word(w) {}
    atomic<std::uint32_t>& word;
  } at_deadline(removals_);
  clock_.arm(at_deadline, deadline);
  platform::wait(removals_, seen);
  clock_.cancel(at_deadline);
  return true;
}

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE
