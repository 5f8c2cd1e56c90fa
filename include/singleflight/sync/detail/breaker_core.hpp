// SPDX-License-Identifier: Apache-2.0
#pragma once

// breaker_core: the states of a circuit breaker, without the calls that it guards.
//
// state_ is one word, the state and the number of changes before it: a *generation*. A call carries
// the generation in which it was admitted, and its result counts in that one only.
//
// A *round* is one stay in half_open. It hands out `probes` places, and the first `probes` results
// decide it, whenever they come. When no place is left and the last was taken open_for ago, the
// probes under way may hang: an extra place is handed out, and as long as there is one, a result
// gives its place back. So a slow backend closes the breaker by slow results, one that hung can
// still be seen to have recovered, and no more than `probes` calls are under way, plus one for each
// open_for since.
//
// Rounds begin open_for apart, so probes that hang in several rounds grow by at most `probes` in
// each open_for.
//
// Invariants
// BR1 state_, places_, until_ and round_ change under lock_ only. Reads without it are hints, all
//     relaxed: what they lead to is checked again under the lock, or is wrong for a moment only (a
//     call admitted as the breaker opens, one rejected as it closes).
// BR2 places_ is 0 unless half_open: then it is how many probes may still begin. So in either state
//     that is not closed, a call is rejected while there is no place and until_ is not reached.
// BR3 Half-open, places_ + probes under way <= probes + extra_, and no less than the results that
//     are still to come. A probe that ends without a result gives its place back: an extra place is
//     removed, any other can be taken again. A probe of an older generation touches nothing.
//
// A result of a closed generation is counted without the lock, after a look at state_. A thread
// that is held up between the two, through a change to open, half_open and closed again, counts one
// call in a window that is not its own. Trips are decided under the lock, where a result of an
// older generation is certainly dropped.

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <limits>
#include <stdexcept>
#include <string>
#include <utility>

#include "singleflight/core/default_timer.hpp"
#include "singleflight/sync/circuit_breaker_options.hpp"
#include "singleflight/sync/detail/call_window.hpp"
#include "singleflight/sync/detail/rules.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

/// Throws std::invalid_argument for a value out of range.
inline void check_options(const circuit_breaker_options& o) {
  const auto refuse = [](const std::string& why) {
    throw std::invalid_argument("circuit_breaker: " + why);
  };
  const auto ns = [](std::chrono::nanoseconds d) { return std::to_string(d.count()) + " ns"; };
  const std::string rate = std::to_string(o.error_rate);
  const std::string slow_rate = std::to_string(o.slow_call_rate);
  if (!(o.error_rate > 0 && o.error_rate <= 1)) refuse("error_rate " + rate + " is not in (0, 1]");
  if (!(o.slow_call_rate >= 0 && o.slow_call_rate <= 1)) {
    refuse("slow_call_rate " + slow_rate + " is not in (0, 1], or 0 for none");
  }
  if (o.slow_call.count() < 0) refuse("slow_call " + ns(o.slow_call) + " is negative");
  if (o.slow_call_rate > 0 && o.slow_call.count() == 0) {
    refuse("slow_call_rate " + slow_rate + " needs slow_call: how long is slow?");
  }
  if (o.slow_call_rate == 0 && o.slow_call.count() > 0) {
    refuse("slow_call " + ns(o.slow_call) + " needs slow_call_rate: how many are too many?");
  }
  if (o.min_calls == 0) refuse("min_calls 0: there is no rate without calls");
  if (o.window.count() <= 0) refuse("window " + ns(o.window) + " is not positive");
  if (o.open_for.count() <= 0) refuse("open_for " + ns(o.open_for) + " is not positive");
  if (o.probes == 0) refuse("probes 0: an open breaker would never close");
}

enum class call_result : std::uint8_t {
  success,
  failure,
  none,  ///< no information about the backend: cancelled, or the end of the thread
};

class breaker_core final : fork_member {
 public:
  explicit breaker_core(circuit_breaker_options options)
      : fork_member(rank::lines),
        options_((check_options(options), std::move(options))),
        clock_(options_.timer != nullptr ? *options_.timer : default_timer()),
        window_(options_.window, clock_.now()) {
    enter_forks();
  }
  ~breaker_core() { leave_forks(); }
  breaker_core(const breaker_core&) = delete;
  breaker_core& operator=(const breaker_core&) = delete;

  /// A call's permission to begin.
  struct admission {
    std::uint64_t generation = rejected;
    steady_time began{};
    explicit operator bool() const noexcept { return generation != rejected; }
  };

  admission admit() noexcept {
    const std::uint64_t generation = state_.load(memory_order_relaxed);
    if (state_of(generation) == breaker_state::closed) [[likely]] {
      return {generation, timed() ? clock_.coarse_now() : steady_time{}};
    }
    return admit_probe();
  }

  void settle(const admission& call, call_result result) noexcept {
    if (state_of(call.generation) == breaker_state::half_open) return settle_probe(call, result);
    if (result == call_result::none || !is_current(call.generation)) return;
    const steady_time now = clock_.coarse_now();
    if (window_.due(now)) [[unlikely]] {
      turn(now);
    }
    const bool failed = result == call_result::failure;
    const bool slow = is_slow(call, now);
    window_.add(failed, slow);
    if (failed || slow) [[unlikely]] {
      trip_if_bad(call.generation, now);
    }
  }

  breaker_state state() const noexcept { return state_of(state_.load(memory_order_relaxed)); }
  circuit_breaker_stats stats() const noexcept {
    const call_counts sum = window_.totals();
    return {sum.calls, sum.failures, sum.slow, window_.rejected(),
            opened_.load(memory_order_relaxed)};
  }
  const circuit_breaker_options& options() const noexcept { return options_; }

  void reset() noexcept { move_to(breaker_state::closed); }
  void force_open() noexcept { move_to(breaker_state::open); }

 private:
  static constexpr std::uint64_t rejected = std::numeric_limits<std::uint64_t>::max();

  static breaker_state state_of(std::uint64_t generation) noexcept {
    return static_cast<breaker_state>(generation & 3);
  }
  bool is_current(std::uint64_t generation) const noexcept {
    return state_.load(memory_order_relaxed) == generation ||
           !platform::holds(rule::late_result_is_dropped);
  }
  bool timed() const noexcept { return options_.slow_call.count() > 0; }
  bool is_slow(const admission& call, steady_time now) const noexcept {
    return timed() && time_between(call.began, now) >= options_.slow_call;
  }
  /// Returns whether a rate is reached. Compares quotients, not products: 3 of 30 is a rate of 0.1.
  bool too_bad(const call_counts& counts) const noexcept {
    const auto calls = static_cast<double>(counts.calls);
    return static_cast<double>(counts.failures) / calls >= options_.error_rate ||
           (timed() && static_cast<double>(counts.slow) / calls >= options_.slow_call_rate);
  }

  // ---- closed -----------------------------------------------------------------------------------

  SINGLEFLIGHT_COLD void turn(steady_time now) noexcept {
    const platform::unique_lock hold(lock_);
    window_.turn_locked(now);
  }

  SINGLEFLIGHT_COLD void trip_if_bad(std::uint64_t generation, steady_time now) noexcept {
    platform::unique_lock hold(lock_);
    if (!is_current(generation)) return;
    const call_counts recent = window_.recent_locked();
    if (recent.calls < options_.min_calls || !too_bad(recent)) return;
    change_locked(breaker_state::open, now);
    report(hold);
  }

  // ---- open and half-open -----------------------------------------------------------------------

  SINGLEFLIGHT_COLD admission admit_probe() noexcept {
    const steady_time now = clock_.coarse_now();
    if (!may_probe(now)) return reject();  // most calls of an open breaker: no lock
    platform::unique_lock hold(lock_);
    const std::uint64_t current = state_.load(memory_order_relaxed);
    if (state_of(current) == breaker_state::closed && platform::holds(rule::probe_sees_closed)) {
      return {current, now};
    }
    if (!may_probe(now) && platform::holds(rule::probe_looks_again)) return reject();
    std::uint32_t places = places_.load(memory_order_relaxed);
    if (places == 0 && state_of(current) == breaker_state::half_open) {
      if (!platform::holds(rule::overdue_probe_makes_room)) return reject();
      ++extra_;
      places = 1;
    } else if (places == 0) {
      change_locked(breaker_state::half_open, now);
      places = options_.probes;
    }
    if (platform::holds(rule::probe_takes_place)) --places;
    places_.store(places, memory_order_relaxed);
    set_until_locked(now);
    const std::uint64_t generation = state_.load(memory_order_relaxed);
    report(hold);
    return {generation, timed() ? clock_.coarse_now() : now};  // on_change takes time of its own
  }
  bool may_probe(steady_time now) const noexcept {
    return places_.load(memory_order_relaxed) != 0 || now >= until_.load(memory_order_relaxed);
  }
  admission reject() noexcept {
    window_.add_rejected();
    return {};
  }

  SINGLEFLIGHT_COLD void settle_probe(const admission& call, call_result result) noexcept {
    const steady_time now = clock_.coarse_now();
    platform::unique_lock hold(lock_);
    if (!is_current(call.generation)) return;
    if (result == call_result::none) {
      if (extra_ != 0) {
        --extra_;
      } else if (platform::holds(rule::probe_gives_place_back)) {
        add_place_locked();
      }
      return;
    }
    if (extra_ != 0) add_place_locked();
    const bool failed = result == call_result::failure;
    const bool slow = is_slow(call, now);
    window_.add(failed, slow);
    ++round_.calls;
    if (failed) ++round_.failures;
    if (slow) ++round_.slow;
    // As soon as no result that is still to come can change the decision.
    const std::uint64_t to_come = options_.probes - round_.calls;
    if (too_bad({options_.probes, round_.failures, round_.slow})) {
      change_locked(breaker_state::open, now);
    } else if (!too_bad({options_.probes, round_.failures + to_come, round_.slow + to_come})) {
      change_locked(breaker_state::closed, now);
    }
    report(hold);
  }

  // ---- changes ----------------------------------------------------------------------------------

  void move_to(breaker_state to) noexcept {
    const steady_time now = clock_.now();
    platform::unique_lock hold(lock_);
    change_locked(to, now);
    report(hold);
  }

  void add_place_locked() noexcept {
    places_.store(places_.load(memory_order_relaxed) + 1, memory_order_relaxed);
  }
  void set_until_locked(steady_time now) noexcept {
    until_.store(deadline_after(now, options_.open_for), memory_order_relaxed);
  }
  /// Begins a generation.
  void change_locked(breaker_state to, steady_time now) noexcept {
    const std::uint64_t old = state_.load(memory_order_relaxed);
    places_.store(0, memory_order_relaxed);
    round_ = {};
    extra_ = 0;
    if (to == breaker_state::closed) {
      window_.restart_locked();
    } else {
      set_until_locked(now);
    }
    state_.store(((old | 3) + 1) | static_cast<std::uint64_t>(to), memory_order_relaxed);
    if (state_of(old) == to) return;
    if (to == breaker_state::open) {
      opened_.store(opened_.load(memory_order_relaxed) + 1, memory_order_relaxed);
    }
    if (options_.on_change) changes_[static_cast<std::size_t>(changed_++ % changes_.size())] = to;
  }
  /// Reports the changes to on_change, with lock_ released around each call. A caller that finds
  /// another thread, or itself, reporting leaves them to that call: so they are reported in order.
  /// Where changes were lost, the next one is reported as a change from the state reported last.
  void report(platform::unique_lock& hold) noexcept {
    if (reporting_ && platform::holds(rule::changes_are_reported_in_turn)) return;
    while (reported_ != changed_) {
      reporting_ = true;
      reporter_ = platform::this_thread_id();
      reported_ =
          std::max(reported_, changed_ - std::min<std::uint64_t>(changed_, changes_.size()));
      const breaker_state to = changes_[static_cast<std::size_t>(reported_++ % changes_.size())];
      const breaker_state from = std::exchange(notified_, to);
      if (from == to) continue;  // the changes between were lost
      hold.unlock();
      options_.on_change(from, to);
      hold.lock();
    }
    reporting_ = false;
  }

  // ---- fork -------------------------------------------------------------------------------------
  // Another thread that reports does not exist in a child: its change is reported in the parent.
  // Changes that were not reported yet are reported in both, in the child with its next change.

  SINGLEFLIGHT_COLD void hold() noexcept override { lock_.lock(); }
  SINGLEFLIGHT_COLD void release() noexcept override { lock_.unlock(); }
  SINGLEFLIGHT_COLD void repair() noexcept override {
    if (reporter_ != platform::this_thread_id()) reporting_ = false;
  }

  const circuit_breaker_options options_;
  timer& clock_;

  atomic<std::uint64_t> state_{static_cast<std::uint64_t>(breaker_state::closed)};
  atomic<std::uint32_t> places_{0};
  atomic<steady_time> until_{steady_time{}};
  atomic<std::uint64_t> opened_{0};
  call_window window_;

  platform::mutex lock_;     // guards all below, and what BR1 lists; no user code runs under it
  call_counts round_;        // the results of this round's probes
  std::uint32_t extra_ = 0;  // places beyond `probes`, for those that may hang
  std::array<breaker_state, 32> changes_{};         // to which states
  breaker_state notified_ = breaker_state::closed;  // the state that on_change was called with last
  std::uint64_t changed_ = 0;   // changes so far; changes_ keeps the last of them
  std::uint64_t reported_ = 0;  // of these, how many on_change was called for
  bool reporting_ = false;
  platform::thread_id reporter_{};  // while reporting_: on which thread
};

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE
