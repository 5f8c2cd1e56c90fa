// SPDX-License-Identifier: Apache-2.0
#pragma once

// permit_waiter: one request for permits of a semaphore.
//
// Guarded by the semaphore's lock. Its handle reads `is_settled` and the verdict without the lock,
// and `refused` once it is settled.

#include <cstddef>

#include "singleflight/core/errors.hpp"
#include "singleflight/core/handle_wait.hpp"
#include "singleflight/core/support/require.hpp"
#include "singleflight/core/support/resume_batch.hpp"
#include "singleflight/core/support/sleeper.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

class semaphore_core;
using permit_batch = resume_batch<semaphore_core>;

/// A coroutine or a thread that waits, or neither yet.
struct permit_waiter : handle_base {
  /// `blocks_here` is true if it is on the stack of the calling thread, which is about to block.
  permit_waiter(std::ptrdiff_t n, bool blocks_here) noexcept : weight(n), blocks(blocks_here) {}

  /// Returns whether it is settled, or was given up because a limit expired.
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
  /// Called when its coroutine will not be resumed any more.
  void leave_batch_locked() noexcept {
    require_not_resuming_locked();
    if (state == wait_state::ready && platform::holds(rule::destroyed_leaves_list)) {
      batch->ready.remove(*this);
    }
    state = wait_state::idle;
  }

  const std::ptrdiff_t weight;
  const bool blocks;
  sleeper* thread = nullptr;      ///< of a blocked thread
  permit_batch* batch = nullptr;  ///< of a suspended coroutine
  bool queued = false;
  flight_errc refused{};  ///< how it was settled; 0 if granted
  /// Stored with release when it is settled, as the last touch of one that is neither suspended nor
  /// asleep.
  atomic<bool> is_settled{false};
};

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE
