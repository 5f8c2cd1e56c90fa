// SPDX-License-Identifier: Apache-2.0
#pragma once

// permit_waiter: one who asks a semaphore for permits.
//
// Guarded by the semaphore's lock. Its handle reads `is_settled` and the verdict without, and
// `refused` once it is settled.

#include <cstddef>

#include "singleflight/core/errors.hpp"
#include "singleflight/core/handle_wait.hpp"
#include "singleflight/core/support/require.hpp"
#include "singleflight/core/support/sleeper.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

class semaphore_core;
using permit_batch = resume_batch<semaphore_core>;

/// A coroutine or a thread, or neither yet.
struct permit_waiter : handle_base {
  /// `blocks_here`: it stands on the stack of the calling thread, which is about to block.
  permit_waiter(std::ptrdiff_t n, bool blocks_here) noexcept : weight(n), blocks(blocks_here) {}

  /// Settled, or given up by a limit that has struck.
  bool over_locked() const noexcept {
    return is_settled.load(memory_order_relaxed) ||
           verdict.load(memory_order_relaxed) != wait_verdict::outcome;
  }
  bool granted_locked() const noexcept {
    return is_settled.load(memory_order_relaxed) && refused == flight_errc{};
  }
  void require_idle_locked() const noexcept {
    require(state == wait_state::idle && thread == nullptr,
            "pending_permit: waited for twice at a time");
  }
  /// Its coroutine will not be resumed any more.
  void leave_batch_locked() noexcept {
    require_not_resuming_locked();
    if (state == wait_state::ready && platform::holds(rule::destroyed_leaves_list)) {
      batch->ready.remove(*this);
    }
    state = wait_state::idle;
  }

  const std::ptrdiff_t weight;
  const bool blocks;
  sleeper* thread = nullptr;      ///< a blocked one
  permit_batch* batch = nullptr;  ///< of a suspended one
  bool queued = false;
  flight_errc refused{};  ///< settled so; 0: granted
  /// Released by who settles it, as the last touch of one that is neither suspended nor asleep.
  atomic<bool> is_settled{false};
};

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE
