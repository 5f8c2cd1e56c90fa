// SPDX-License-Identifier: Apache-2.0
#pragma once

/// live_snapshot: one version of a live_value, the current one when get was called.
///
/// Use when    never by name: live_value::get returns one. Keep it for as long as a piece of work
///             has to see one and the same version.
/// Threads     one handle, one thread at a time; it may be passed to another thread. The value is
///             shared and const.
/// Ordering    what the load did happens-before every use (P7).
/// Lifetime    the version lives as long as a handle to it, even if the live_value is destroyed.
///             Its destructor runs on a thread that drops a handle or changes a live_value or a
///             cache, not always at once.
/// Cost        24 bytes. It uses one of the slots that a thread has for its handles
///             (cache/cached.hpp), no reference count; beyond these, and for a copy: one
///             read-modify-write.

#include <chrono>
#include <cstdint>
#include <memory>
#include <utility>

#include "singleflight/cache/detail/live_node.hpp"
#include "singleflight/core/timer.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE

namespace detail {
struct live_door;
}

template <class T>
class live_snapshot {
 public:
  using value_type = T;

  live_snapshot(live_snapshot&&) noexcept = default;
  live_snapshot& operator=(live_snapshot&&) noexcept = default;
  live_snapshot(const live_snapshot& other) noexcept
      : hold_(other.hold_.share()), clock_(other.clock_) {}
  live_snapshot& operator=(const live_snapshot& other) noexcept {
    if (this != &other) *this = live_snapshot(other);
    return *this;
  }
  ~live_snapshot() = default;

  const T& operator*() const noexcept { return node().value; }
  const T* operator->() const noexcept { return std::addressof(node().value); }

  /// Returns the version's number: 1 at first, and one more with each change.
  std::uint64_t version() const noexcept { return node().version; }
  /// Returns the time since its load ended. One clock call.
  std::chrono::nanoseconds age() const noexcept {
    return detail::time_between(node().since, clock_->now());
  }

  /// Returns the value as a shared_ptr. One allocation.
  std::shared_ptr<const T> share() && {
    hold_.count();
    const T* const value = std::addressof(node().value);
    return {value, [hold = std::move(hold_)](const T*) {}};
  }

 private:
  friend detail::live_door;
  live_snapshot(detail::hazard_hold&& hold, timer& clock) noexcept
      : hold_(std::move(hold)), clock_(&clock) {}

  const detail::live_node<T>& node() const noexcept {
    return static_cast<const detail::live_node<T>&>(*hold_.object());
  }

  detail::hazard_hold hold_;
  timer* clock_;
};

SINGLEFLIGHT_END_NAMESPACE
