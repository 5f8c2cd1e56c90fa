// SPDX-License-Identifier: Apache-2.0
#pragma once

/// flight_context: lets a load inspect its own flight.
///
/// Use when    a load can stop early, needs the deadline of its callers, or calls the group again
///             from another thread and must name itself (`.within = ctx`).
/// Threads     any thread, while the load runs.
/// Lifetime    a reference passed to a loader is valid until the loader returns; for a promise
///             loader as long as the promise exists; for an awaitable loader until its coroutine
///             ends.
/// Cost        flight_id, forgotten, revoked: one atomic load at most. stop_token: two allocations
///             on first use. deadline: a walk over the callers if all of them have a deadline.

#include <chrono>
#include <cstddef>
#include <cstdint>

#include "singleflight/core/limits.hpp"
#include "singleflight/core/support/stop_token.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE

namespace detail {
class flight_core;
struct flight_node;
}  // namespace detail

class flight_context {
 public:
  flight_context(detail::flight_core& group, detail::flight_node& node,
                 const detail::led_frame& frame) noexcept
      : group_(&group), node_(&node), frame_(&frame) {}
  flight_context(const flight_context&) = delete;
  flight_context& operator=(const flight_context&) = delete;

  /// A stop is requested when the last interested caller has left (unless on_abandon is finish), at
  /// load_timeout, and when the group closes. Throws std::bad_alloc.
  std::stop_token stop_token() const;
  /// Returns the latest deadline of the interested callers; time_point::max() if one of them has
  /// none.
  std::chrono::steady_clock::time_point deadline() const noexcept;
  /// Returns the flight's id, which is unique in the process, never reused and never 0.
  std::uint64_t flight_id() const noexcept { return frame_->flight_id; }
  /// Returns how many callers are interested now.
  std::size_t callers() const noexcept;
  /// Whether later calls no longer join this flight, for any reason.
  bool forgotten() const noexcept;
  /// Whether forget or forget_all was called for it since it began: its value may be older than the
  /// change that the call was made for.
  bool revoked() const noexcept;

 private:
  friend class within_ref;
  detail::flight_core* group_;
  detail::flight_node* node_;
  const detail::led_frame* frame_;
};

inline within_ref::within_ref(const flight_context& context) noexcept : frame(context.frame_) {}

SINGLEFLIGHT_END_NAMESPACE
