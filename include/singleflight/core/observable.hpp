// SPDX-License-Identifier: Apache-2.0
#pragma once

/// observable: how the library tells what it does: events to an observer, totals to a visitor.
///
/// Use when    loads are to be logged, traced or exported as metrics.
/// Threads     an observer is called from any thread, also at the same time; it must be
///             thread-safe.
/// Blocking    called with no lock held, on the path of the call it speaks of, or on the timer's
///             thread for a caller who has timed out: it must not wait.
/// Errors      every member of an observer is noexcept.
/// Lifetime    an observer outlives every object it was given to.

#include <chrono>
#include <cstdint>
#include <string_view>
#include <type_traits>

#include "singleflight/core/support/config.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE

/// How a load ended.
enum class load_result : std::uint8_t { value, error, timed_out, broken };

/// Hears of loads and callers; override what is of interest. `flight_id` is never reused.
class observer {
 public:
  virtual ~observer() = default;
  virtual void load_began(std::uint64_t /*flight_id*/) noexcept {}
  virtual void load_ended(std::uint64_t /*flight_id*/, std::chrono::nanoseconds /*duration*/,
                          load_result /*result*/) noexcept {}
  virtual void joined(std::uint64_t /*flight_id*/) noexcept {}
  /// A caller gave up before the outcome was there.
  virtual void left(std::uint64_t /*flight_id*/) noexcept {}

 protected:
  observer() = default;
  observer(const observer&) = default;
  observer& operator=(const observer&) = default;
};

/// Whether a figure only grows (counter) or also falls (gauge).
enum class metric_kind : std::uint8_t { counter, gauge };

/// Receives the figures of an observable, one call each.
class metric_visitor {
 public:
  virtual void visit(std::string_view name, metric_kind kind, double value) = 0;

  // For those who are observed:
  void counter(std::string_view name, std::uint64_t total) {
    visit(name, metric_kind::counter, static_cast<double>(total));
  }
  template <class Number>
    requires(std::is_arithmetic_v<Number>)
  void gauge(std::string_view name, Number now) {
    visit(name, metric_kind::gauge, static_cast<double>(now));
  }

 protected:
  ~metric_visitor() = default;
};

/// Something that has figures: a group, a cache, a pool.
class observable {
 public:
  virtual void observe(metric_visitor& visitor) const = 0;

 protected:
  ~observable() = default;
};

SINGLEFLIGHT_END_NAMESPACE
