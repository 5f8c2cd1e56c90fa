// SPDX-License-Identifier: Apache-2.0
#pragma once

/// cached: an answer of a cache: a shared value, whether it is fresh, and its age.
///
/// Use when    never by name: loading_cache::get returns one.
/// Threads     one handle, one thread at a time; it may be passed to another thread. The value is
///             shared and const.
/// Ordering    what the load did happens-before every use (P7).
/// Lifetime    the value lives as long as a handle to it: eviction, invalidation and the end of the
///             cache do not affect it. Its destructor runs on a thread that drops a handle or
///             changes a cache, perhaps another one, or on the default pool, and not always at
///             once: it must not acquire a lock that is held around such calls. It may wait for
///             loads (own a cache, a group): it never runs within one.
/// Cost        40 bytes. Of a hit: a slot of the calling thread, no reference count; a thread has
///             six slots for all its caches, and any further handle is counted. A copy is counted:
///             one read-modify-write.

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <utility>

#include "singleflight/cache/detail/entry.hpp"
#include "singleflight/core/support/require.hpp"
#include "singleflight/core/timer.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE

namespace detail {
struct cache_door;
}

enum class freshness : std::uint8_t {
  fresh,
  stale,   ///< its ttl has ended; no newer value was available
  absent,  ///< the loader returned no value
};

template <class Value>
class cached {
 public:
  using value_type = Value;

  cached(cached&& other) noexcept
      : hold_(std::move(other.hold_)),
        value_(std::exchange(other.value_, nullptr)),
        clock_(other.clock_),
        freshness_(other.freshness_) {}
  cached& operator=(cached&& other) noexcept {
    hold_ = std::move(other.hold_);
    value_ = this == &other ? value_ : std::exchange(other.value_, nullptr);
    clock_ = other.clock_;
    freshness_ = other.freshness_;
    return *this;
  }
  cached(const cached& other) noexcept
      : hold_(other.hold_.share()),
        value_(other.value_),
        clock_(other.clock_),
        freshness_(other.freshness_) {}
  cached& operator=(const cached& other) noexcept {
    if (this != &other) *this = cached(other);
    return *this;
  }
  ~cached() = default;

  /// Returns false for an absence.
  bool has_value() const noexcept { return value_ != nullptr; }
  explicit operator bool() const noexcept { return has_value(); }
  /// Throws std::bad_optional_access for an absence.
  const Value& value() const {
    if (value_ == nullptr) throw std::bad_optional_access();
    return *value_;
  }
  /// Requires has_value(); aborts for an absence.
  const Value& operator*() const noexcept { return *present(); }
  const Value* operator->() const noexcept { return present(); }

  singleflight::freshness freshness() const noexcept { return freshness_; }
  bool stale() const noexcept { return freshness_ == singleflight::freshness::stale; }
  /// Returns the time since its load ended. One clock call. Requires that the handle was not moved
  /// from.
  std::chrono::nanoseconds age() const noexcept {
    const auto* const entry = static_cast<const detail::entry_base*>(hold_.object());
    return detail::from_ticks(entry->age(detail::to_ticks(clock_->now())));
  }

  /// Returns the value as a shared_ptr, or null for an absence. One allocation.
  std::shared_ptr<const Value> share() && {
    if (value_ == nullptr) return nullptr;
    hold_.count();
    const Value* const value = std::exchange(value_, nullptr);
    return {value, [hold = std::move(hold_)](const Value*) {}};
  }

 private:
  friend detail::cache_door;
  cached(detail::hazard_hold&& hold, const Value* value, timer& clock,
         singleflight::freshness freshness) noexcept
      : hold_(std::move(hold)), value_(value), clock_(&clock), freshness_(freshness) {}

  const Value* present() const noexcept {
    detail::require(value_ != nullptr, "cached: * or -> of an absence; ask has_value() first");
    return value_;
  }

  detail::hazard_hold hold_;  // of the entry of value_
  const Value* value_;
  timer* clock_;
  singleflight::freshness freshness_;
};

SINGLEFLIGHT_END_NAMESPACE
