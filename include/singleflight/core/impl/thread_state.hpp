// SPDX-License-Identifier: Apache-2.0
#pragma once

// thread_state: assigns indexes and ranges of ids, and settles a dropped promise before its thread
// blocks.

#include <bit>
#include <cstddef>
#include <cstdint>
#include <exception>

#include "singleflight/core/support/thread_state.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

SINGLEFLIGHT_BODY void settle_promises() {
  for (promise_call* c = this_thread().promise_calls; c != nullptr; c = c->outer) {
    if (c->dropped && std::uncaught_exceptions() <= c->exceptions_before) c->settle(*c);
  }
}

SINGLEFLIGHT_COLD SINGLEFLIGHT_BODY void wandering_load::count_shared(
    atomic<std::uint32_t> cell::*which) noexcept {
  use(own_cells);
  (cells[own_cells].*which).fetch_add(1, memory_order_release);
}

SINGLEFLIGHT_COLD SINGLEFLIGHT_BODY void wandering_load::use(std::uint32_t index) noexcept {
  std::uint32_t now = used.load(memory_order_relaxed);
  while (now <= index &&
         !used.compare_exchange_weak(now, index + 1, memory_order_relaxed, memory_order_relaxed)) {
  }
}

SINGLEFLIGHT_COLD SINGLEFLIGHT_BODY void refill_ids(thread_state& self) noexcept {
  constexpr std::uint64_t range = std::uint64_t{1} << 16;
  self.next_id = id_ranges().fetch_add(1, memory_order_relaxed) * range;
  self.ids_end = self.next_id + range - 1;
}

SINGLEFLIGHT_BODY thread_indexes::thread_indexes() : fork_member(rank::last) { enter_forks(); }

SINGLEFLIGHT_BODY std::uint32_t thread_indexes::take() noexcept {
  platform::unique_lock hold(lock_);
  for (std::size_t word = 0; word < words; ++word) {
    if (const int bit = std::countr_one(used_[word]); bit < 64) {
      used_[word] |= std::uint64_t{1} << bit;
      return static_cast<std::uint32_t>(word * 64 + static_cast<std::size_t>(bit));
    }
  }
  return words * 64;  // any further threads share one index
}

SINGLEFLIGHT_BODY void thread_indexes::give_back(std::uint32_t index) noexcept {
  if (index >= words * 64) return;
  platform::unique_lock hold(lock_);
  used_[index / 64] &= ~(std::uint64_t{1} << (index % 64));
}

SINGLEFLIGHT_BODY void thread_indexes::repair() noexcept {
  thread_state& self = this_thread();
  thread_state::forker = &self;
  self.forked = true;
  const std::uint32_t mine = self.index;
  for (std::uint64_t& word : used_) word = 0;
  if (mine < words * 64) used_[mine / 64] |= std::uint64_t{1} << (mine % 64);
}

SINGLEFLIGHT_BODY void give_thread_index_back() noexcept {
  thread_state& self = this_thread();
  thread_indexes::instance().give_back(self.index);
  self.index = shared_thread_index;  // used by calls from thread-exit code that runs later
}

SINGLEFLIGHT_COLD SINGLEFLIGHT_BODY std::uint32_t assign_thread_index(thread_state& self) noexcept {
  self.index = thread_indexes::instance().take();
  platform::at_thread_exit<&give_thread_index_back>();
  return self.index;
}

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE
