// SPDX-License-Identifier: Apache-2.0
#pragma once

/// group_options, group_stats, flight_info: options and statistics of a group.

#include <chrono>
#include <cstddef>
#include <cstdint>

#include "singleflight/core/executor.hpp"
#include "singleflight/core/limits.hpp"
#include "singleflight/core/observable.hpp"
#include "singleflight/core/timer.hpp"
#include "singleflight/flight/context.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE

/// What happens to a load when its last interested caller has left.
enum class abandon : std::uint8_t {
  stop,    ///< it is asked to stop; later calls start a new load, which may overlap its end
  finish,  ///< it continues, and later calls may still join it
  drain,   ///< it is asked to stop; later calls wait behind it, so that no two loads overlap
};

/// What the callers of a flight get when its load fails.
class error_policy {
 public:
  constexpr error_policy() noexcept = default;  ///< share()
  /// Every caller that shares the flight gets the error.
  static constexpr error_policy share() noexcept { return error_policy(0); }
  /// The load is tried again, at most `max` times per flight: with the load of a waiter if one has
  /// brought one, else with its own once more if that can be copied. After that, every caller gets
  /// the error.
  static constexpr error_policy hand_over(std::uint32_t max) noexcept { return error_policy(max); }

  /// How often the load may be tried again; if 0, every caller gets the error.
  constexpr std::uint32_t hand_overs() const noexcept { return hand_overs_; }

 private:
  explicit constexpr error_policy(std::uint32_t max) noexcept : hand_overs_(max) {}
  std::uint32_t hand_overs_ = 0;
};

struct group_options {
  /// Runs started loads, and resumes their waiters unless they name another executor. A pool must
  /// outlive the group, and every call on the group that has not returned.
  any_executor executor{};
  /// The clock of every limit of this group; if null, default_timer(). Must outlive the group and
  /// its handles.
  singleflight::timer* timer = nullptr;
  abandon on_abandon = abandon::stop;
  error_policy on_error = error_policy::share();
  /// A flight older than this takes no more joiners; if zero, there is no window. Costs a clock
  /// call per load.
  std::chrono::nanoseconds join_window{0};
  /// A load that runs longer than this is asked to stop, its waiters get timed_out, and later calls
  /// start a new load; if zero, there is no timeout. Costs one allocation and a timer node per
  /// load.
  std::chrono::nanoseconds load_timeout{0};
  /// The most callers on one flight in addition to its leader; further calls get overloaded. If
  /// zero, there is no bound.
  std::size_t max_waiters = 0;
  /// The most flights that load at a time, forgotten ones included; further calls get overloaded.
  /// If zero, there is no bound. A flight that waits behind another one takes over its place. If it
  /// must begin before that one ends, since the key was forgotten, and no place is free, its
  /// callers get overloaded.
  std::size_t max_flights = 0;
  /// Is notified of every load; if null, there is no observer. Costs two clock calls per load. Must
  /// outlive the group.
  singleflight::observer* observer = nullptr;
};

/// Totals since the group was made; exact while no call is in progress.
struct group_stats : ended_calls {
  std::uint64_t calls = 0;        ///< each position of a bulk call counts as one
  std::uint64_t loads = 0;        ///< loads that began
  std::uint64_t joined = 0;       ///< calls that found a flight to share
  std::uint64_t handed_over = 0;  ///< how often a waiter took over from a failed leader
  std::uint64_t abandoned = 0;    ///< flights whose last caller left

  /// Calls visit(name, value) for each counter.
  template <class Visit>
  void each(const Visit& visit) const {
    visit("calls", calls);
    visit("loads", loads);
    visit("joined", joined);
    visit("handed_over", handed_over);
    visit("abandoned", abandoned);
    ended_calls::each(visit);
  }
};

/// A flight as in_flight() reports it.
template <class Key>
struct flight_info {
  Key key;
  std::uint64_t flight_id = 0;
  std::size_t callers = 0;  ///< interested at that moment
  std::chrono::nanoseconds
      age{};  ///< since its load began; zero without an observer or a join_window
};

SINGLEFLIGHT_END_NAMESPACE
