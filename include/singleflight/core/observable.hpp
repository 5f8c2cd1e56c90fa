// SPDX-License-Identifier: Apache-2.0
#pragma once

/// observable: how the library reports what it does: events to an observer, totals to a visitor.
///
/// Use when    loads are to be logged, traced or exported as metrics.
/// Threads     an observer is called from any thread, also concurrently, and must be thread-safe.
/// Blocking    called with no lock held, on the path of the call that it is notified of, or on the
///             timer's thread for a caller that has timed out: it must not block.
/// Errors      every member of an observer is noexcept.
/// Lifetime    an observer outlives every object it was passed to.

#include <chrono>
#include <cstdint>
#include <string_view>
#include <type_traits>

#include "singleflight/core/errors.hpp"
#include "singleflight/core/support/config.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE

/// How a load ended.
enum class load_result : std::uint8_t { value, error, timed_out, broken };

/// Is notified of loads and callers; override the members of interest. `flight_id` is never reused.
class observer {
 public:
  virtual ~observer() = default;
  virtual void load_began(std::uint64_t /*flight_id*/) noexcept {}
  virtual void load_ended(std::uint64_t /*flight_id*/, std::chrono::nanoseconds /*duration*/,
                          load_result /*result*/) noexcept {}
  virtual void joined(std::uint64_t /*flight_id*/) noexcept {}
  /// A caller gave up before the outcome was available.
  virtual void left(std::uint64_t /*flight_id*/) noexcept {}

 protected:
  observer() = default;
  observer(const observer&) = default;
  observer& operator=(const observer&) = default;
};

/// Whether a value only grows (counter) or also falls (gauge).
enum class metric_kind : std::uint8_t { counter, gauge };

/// Receives the counters and gauges of an observable, one call each.
class metric_visitor {
 public:
  virtual void visit(std::string_view name, metric_kind kind, double value) = 0;

  // For implementations of observe():
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

/// Something that has counters: a group, a cache, a pool.
class observable {
 public:
  virtual void observe(metric_visitor& visitor) const = 0;

 protected:
  ~observable() = default;
};

/// How many calls ended with each of the library's errors, including those that a load threw. Part
/// of the statistics of every object whose callers wait for a load.
struct ended_calls {
  std::uint64_t timed_out = 0;
  std::uint64_t cancelled = 0;
  std::uint64_t overloaded = 0;
  std::uint64_t recursive = 0;
  std::uint64_t broken = 0;
  std::uint64_t closed = 0;
  std::uint64_t rejected = 0;

  /// Calls visit(error, name, &ended_calls::member) for each member.
  template <class Visit>
  static void each_code(const Visit& visit) {
    visit(flight_errc::timed_out, "timed_out", &ended_calls::timed_out);
    visit(flight_errc::cancelled, "cancelled", &ended_calls::cancelled);
    visit(flight_errc::overloaded, "overloaded", &ended_calls::overloaded);
    visit(flight_errc::recursive, "recursive", &ended_calls::recursive);
    visit(flight_errc::broken, "broken", &ended_calls::broken);
    visit(flight_errc::closed, "closed", &ended_calls::closed);
    visit(flight_errc::rejected, "rejected", &ended_calls::rejected);
  }
  /// Calls visit(name, value) for each member.
  template <class Visit>
  void each(const Visit& visit) const {
    each_code([&](flight_errc, const char* name, std::uint64_t ended_calls::*member) {
      visit(name, this->*member);
    });
  }
};

namespace detail {

/// Passes the counters of `stats`, which lists them in its each(visit), to a visitor.
template <class Stats>
void observe_counters(metric_visitor& visitor, const Stats& stats) {
  stats.each([&](const char* name, std::uint64_t total) { visitor.counter(name, total); });
}

}  // namespace detail

SINGLEFLIGHT_END_NAMESPACE
