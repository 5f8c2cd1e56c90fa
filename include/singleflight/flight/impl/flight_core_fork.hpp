// SPDX-License-Identifier: Apache-2.0
#pragma once

// flight_core_fork: the flights of a group around a fork (core/support/fork.hpp). Members of
// flight_core.
//
// The forking thread may be inside loads: those flights continue in the child, without the threads
// that waited for them. All other flights have lost their leader in the child, or the queue of
// their load. There they are removed from the table, so their keys are free, and end as `broken`
// for any handle that the forking thread has. No waiter is resumed: it continues in the parent.
//
// V1  All buckets are held, and the blocks of all flights in them. Since a block lock is taken
//     before a bucket lock, a block lock is only tried; if that fails, all locks are released, and
//     it begins again.
// V2  A lost block has no node. Its load is claimed, so that no queue runs it. If its promise still
//     answers, the answer is too late, and the group may be destroyed: finish() checks that first.
// V3  The nodes of run() leaders, and the waiters in `blocked` and `timed`, are on the stacks of
//     threads that do not exist in the child: afterwards nothing points to them.
// V4  While all buckets are held, every flight that other threads know is in the table, or done
//     (E1). The lock of a block that is done may be held by a thread that does not exist in the
//     child: leaving it takes no lock, and its waiters are guarded by locks that are held around
//     the fork (done_locks).

#include "singleflight/flight/detail/flight_core.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

/// Calls visit(block) for the blocks of all flights and their successors, until it returns false.
template <class Visit>
bool flight_core::each_block_held(Visit&& visit) noexcept {
  return table.each_held([&](flight_table::bucket& bucket) {
    for (const flight_node* node = bucket.first(); node != nullptr; node = node->next) {
      block_base* const block = node->block.load(memory_order_relaxed);
      if (block != nullptr && !visit(*block)) return false;
      if (node->successor != nullptr && !visit(*node->successor)) return false;
    }
    return true;
  });
}

SINGLEFLIGHT_BODY void flight_core::hold() noexcept {
  for (;;) {
    table.hold_all();
    std::size_t taken = 0;
    const bool all = each_block_held([&](block_base& block) {
      if (bit_lock<std::uint32_t, block_base::locked>::try_lock(block.state)) {
        ++taken;
        return true;
      }
      return false;
    });
    if (all) return;
    (void)each_block_held([&](block_base& block) {
      if (taken == 0) return false;
      --taken;
      block.unlock();
      return true;
    });
    table.release_all();
    const atomic<std::uint32_t> nothing{0};  // not the block's word: it may be freed
    const steady_time until = platform::now() + std::chrono::microseconds(20);
    platform::wait(nothing, std::uint32_t{0}, platform::nap_channel, &until);
  }
}

SINGLEFLIGHT_BODY void flight_core::release() noexcept {
  (void)each_block_held([](block_base& block) {
    block.unlock();
    return true;
  });
  table.release_all();
}

SINGLEFLIGHT_BODY void flight_core::repair() noexcept {
  const bool closing = closed_.load(memory_order_relaxed);
  table.repair_held();
  (void)table.each_held([&](flight_table::bucket& bucket) {
    flight_node* own = nullptr;
    for (flight_node* node = bucket.first(); node != nullptr;) {
      flight_node* const next = node->next;
      block_base* const block = node->block.load(memory_order_relaxed);
      if (block_base* const successor = std::exchange(node->successor, nullptr)) lose(*successor);
      if (is_led_here(*node)) {
        if (block != nullptr) {
          forget_waiters(*block);
          if (block->has_waiting_room()) call_errands_back(*block);
        }
        node->next = own;
        own = node;
      } else {
        if (!node->unplaced) dismiss_flight();
        if (block != nullptr) lose(*block);
      }
      node = next;
    }
    bucket.value = own != nullptr || closing ? flight_table::slow : 0;
    while (flight_node* const node = own) {
      own = node->next;
      table.link_locked(bucket, *node);
    }
    return true;
  });
}

SINGLEFLIGHT_BODY bool flight_core::is_led_here(const flight_node& node) const noexcept {
  for (const led_frame* f = this_thread().led; f != nullptr; f = f->outer) {
    if (f->group == this && f->flight_id == node.id) return true;
  }
  return false;
}

SINGLEFLIGHT_COLD SINGLEFLIGHT_BODY bool flight_core::is_under_way_held(
    std::uint64_t id) const noexcept {
  return !table.each_held([&](const flight_table::bucket& bucket) {
    const flight_node* node = bucket.first();
    while (node != nullptr && node->id != id) node = node->next;
    if (node == nullptr) return true;
    const block_base* const block = node->block.load(memory_order_relaxed);
    // A flight that has timed out is over for its waiters, though its load still runs.
    return block != nullptr && block->phase(memory_order_relaxed) == flight_phase::done;
  });
}

/// Makes a flight lost (V2). Releases the block's lock.
SINGLEFLIGHT_COLD SINGLEFLIGHT_BODY void flight_core::lose(block_base& b) noexcept {
  if (b.phase(memory_order_relaxed) != flight_phase::done) {
    b.result = flight_result::code;
    b.code = flight_errc::broken;
    b.callers = b.interest();
    if (b.load != nullptr) (void)b.load->claim();
  }
  b.node = nullptr;
  forget_waiters(b);
  b.set_done_and_unlock();
}

/// Marks errands that were queued, or that a thread was running, so that go_on() queues them again.
/// That thread, or a caller's, may have been about to ask the load to stop.
SINGLEFLIGHT_COLD SINGLEFLIGHT_BODY void flight_core::call_errands_back(block_base& b) noexcept {
  waiting_room& room = b.room;
  const std::stop_source& stop = room.stop;
  if (room.stop_wanted && stop.stop_possible() && !stop.stop_requested()) {
    if (!room.errands) room.errands.emplace(b);
    if (!std::exchange(room.errands->queued, true)) b.add_reference();
  }
  if (room.errands) room.errands->cut = room.errands->queued;  // so no other thread posts them
}

/// Makes a block forget its waiters (V3). Suspended ones may still be destroyed.
SINGLEFLIGHT_COLD SINGLEFLIGHT_BODY void flight_core::forget_waiters(block_base& b) noexcept {
  b.lenders.store(0, memory_order_relaxed);
  b.absent.store(0, memory_order_relaxed);
  if (!b.has_waiting_room()) return;
  b.room.blocked = {};
  b.room.timed = {};
  b.room.claimers = b.room.claimers_behind = false;
  const bool lost = b.node == nullptr;
  b.room.batch.repair_locked(lost);
  for (flight_batch* r = b.room.more_batches; r != nullptr; r = r->next) r->repair_locked(lost);
}

/// Queues again the errands of this thread's flights that were queued on the pool of timeouts, or
/// were running there. Other threads of the child, such as its timer's, may use these flights.
SINGLEFLIGHT_BODY void flight_core::go_on() noexcept {
  for (const led_frame* f = this_thread().led; f != nullptr; f = f->outer) {
    if (f->group != this) continue;
    block_base* found = nullptr;
    table.each([&](flight_table::head& at) {
      const flight_table::bucket bucket = flight_table::lock_at(at);
      for (flight_node* node = bucket.first(); node != nullptr; node = node->next) {
        if (node->id != f->flight_id) continue;
        found = node->block.load(memory_order_relaxed);
        if (found != nullptr) found->add_reference();
      }
      flight_table::unlock(bucket);
      return !bucket.has_moved();
    });
    if (found == nullptr) continue;
    found->lock();
    std::optional<errands>& e = found->room.errands;
    const bool posts = e && std::exchange(e->cut, false);
    found->unlock();
    if (posts) timeout_pool().post(&*e, true);
    found->drop_reference();
  }
}

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE
