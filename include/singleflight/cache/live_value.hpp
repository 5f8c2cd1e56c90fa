// SPDX-License-Identifier: Apache-2.0
#pragma once

/// live_value: one value that is loaded once, read by all, and reloaded while they read it.
///
/// Use when    configuration, a routing table, a set of flags: read all the time, changed now and
///             then.
/// Not for     values by key (cache/loading_cache.hpp); a value that each caller needs freshly
///             loaded (flight/group.hpp).
/// Example     examples/17_live_value.cpp
///
/// Threads     every member, from any thread; the destructor once no new call can begin. One load
///             runs at a time, except that it may overlap one that a set or a load_timeout has
///             given up.
/// Ordering    after reload() returns, no get that begins later sees a value whose load began
///             before reload was called; after set(), none whose load began before set was called,
///             nor an older one. Versions of one thread's gets never go back. A listener is
///             notified of each change after its subscription, in the order of versions, one
///             listener at a time, after the change: a get within it sees that version or a later
///             one. When listeners fall behind by max_changes, changes are merged.
/// Blocking    the constructor loads, unless it is given an initial value. get never waits. reload
///             loads on the calling thread, or waits for the call that does; calls made while one
///             load runs share the next one. Loads that are started or scheduled, and listeners,
///             run on the group's executor. No lock is held in a loader, a listener, or a
///             comparison of values.
/// Cancel      a limit ends its own caller's wait; the load continues.
/// Errors      a load that fails changes nothing: the last good value stays. The loader's exception
///             is thrown to the callers that wait for that load, with its own type; one of a
///             scheduled load is passed to on_error, and the load is tried again after retry_after.
///             The constructor throws what its load throws. std::invalid_argument for options out
///             of range. A reload within the loader: recursive. Within a listener it loads; the
///             listeners are notified of that change once this listener has returned. A listener
///             must not throw.
/// Lifetime    owns its loader. The destructor ends the schedule, asks a running load to stop, and
///             waits for it and for the listener that is running; listeners are not notified of
///             other changes any more. It aborts within a loader, a listener or on_error. Handles
///             and subscriptions may outlive the value.
/// Cost        get: no lock, no allocation, no read-modify-write. A change: one allocation, one
///             short critical section, and one task if there is a listener.

#include <algorithm>
#include <chrono>
#include <concepts>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>

#include "singleflight/cache/detail/backoff.hpp"
#include "singleflight/cache/detail/live_door.hpp"
#include "singleflight/cache/detail/live_listeners.hpp"
#include "singleflight/cache/detail/rules.hpp"
#include "singleflight/cache/live_options.hpp"
#include "singleflight/cache/live_snapshot.hpp"
#include "singleflight/cache/subscription.hpp"
#include "singleflight/core/default_timer.hpp"
#include "singleflight/core/support/random.hpp"
#include "singleflight/core/support/signature.hpp"
#include "singleflight/flight/detail/group_door.hpp"
#include "singleflight/flight/group.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE

template <class T>
class live_value final : public observable {
  static_assert(
      std::is_object_v<T> && !std::is_const_v<T> && std::move_constructible<T>,
      "singleflight: a live_value keeps a T: an object type that can be moved, not const");
  using place = detail::live_place<T>;
  using node = detail::live_node<T>;
  enum class only : std::uint8_t { one };  // the key of all loads

 public:
  using value_type = T;
  using options = live_options<T>;

  /// `loader()`, `loader(flight_context&)` or `loader(std::stop_token)` returns a T. It is called
  /// from any thread.
  template <class Loader>
    requires(!std::same_as<std::remove_cvref_t<Loader>, live_value>)
  explicit live_value(Loader&& loader, options settings = {})
      : options_(checked(std::move(settings))),
        clock_(options_.group.timer != nullptr ? *options_.group.timer : default_timer()),
        loader_(std::make_unique<loader_of<std::decay_t<Loader>>>(std::forward<Loader>(loader))),
        listeners_(std::make_shared<detail::live_listeners>(options_.group.executor,
                                                            options_.max_changes)),
        alarm_(*this),
        flights_(group_options_of(options_)) {
    detail::make_shared_cache_state();
    if (options_.initial) {
      publish(*std::move(options_.initial), by_hand);
      options_.initial.reset();
    } else {
      flights_.run(only::one, load_now{*this});
    }
    if (options_.reload_every.count() > 0) arm();
    after_fork_.enter();
  }
  live_value(const live_value&) = delete;
  live_value& operator=(const live_value&) = delete;
  ~live_value() {
    after_fork_.leave();
    listeners_->stop();     // from now on no listener is called, and the alarm is not armed
    clock_.cancel(alarm_);  // a fire has ended: no scheduled load begins
  }                         // the group waits for the load that runs

  // ---- reading ----------------------------------------------------------------------------------

  /// Returns the current version.
  [[nodiscard]] live_snapshot<T> get() const noexcept {
    detail::hazard_hold hold = place_.hold(listeners_->lock());
    return detail::live_door::make_snapshot<T>(std::move(hold), clock_);
  }

  // ---- changing ---------------------------------------------------------------------------------

  /// Loads, and returns once the new value can be seen. Returns whether there is a new version: not
  /// if T has a == by which the value is the same, nor if a set, or a load that began later, has
  /// overtaken this one.
  bool reload(const limits& bounds = {}) {
    const detail::end_scope scope;  // the version that is replaced is destroyed after its load
    return *flights_.run_fresh(only::one, load_now{*this}, bounds);
  }
  /// Like reload, for a caller that awaits, or that must not load itself.
  [[nodiscard]] flight<bool> start_reload() {
    return flights_.start_fresh(only::one, load_now{*this});
  }
  /// Sets a value without a load. The result of a load in progress is not stored, and the load is
  /// given up: later callers do not wait for it. Returns whether there is a new version.
  template <class V = T>
    requires std::constructible_from<T, V&&>
  bool set(V&& value) {
    const bool changed = publish(T(detail::value_from<T>(std::forward<V>(value))), by_hand);
    flights_.forget(only::one);
    return changed;
  }

  /// `listener(const T& before, const T& now)` is called, on the executor, for each change from now
  /// on, as long as the subscription exists. The first call may come before this returns.
  template <class Listener>
    requires std::invocable<std::decay_t<Listener>&, const T&, const T&>
  subscription on_change(Listener&& listener) {
    return detail::live_door::subscribe(
        listeners_,
        std::make_unique<listener_of<std::decay_t<Listener>>>(std::forward<Listener>(listener)));
  }

  // ---- looking ----------------------------------------------------------------------------------

  live_stats stats() const noexcept;
  void observe(metric_visitor& visitor) const override;

 private:
  // ---- the user's functions ---------------------------------------------------------------------

  struct any_loader {
    virtual ~any_loader() = default;
    virtual T load(const flight_context& flight) = 0;
  };
  template <class Fn>
  struct loader_of;
  template <class Fn>
  struct listener_of;
  static bool same(const T& a, const T& b) {
    if constexpr (std::equality_comparable<T>) {
      return a == b;
    } else {
      return false;
    }
  }
  static options checked(options&& settings);
  static group_options group_options_of(const options& settings) {
    group_options group = settings.group;
    group.on_abandon = abandon::finish;
    return group;
  }

  // ---- loads ------------------------------------------------------------------------------------

  struct load_now {
    live_value& owner;
    bool operator()(flight_context& flight) const { return owner.load(flight); }
  };
  bool load(const flight_context& flight);
  /// Returns a load's number, in the order in which loads begin and values are set.
  std::uint64_t begin() {
    const detail::platform::unique_lock hold(listeners_->lock());
    return ++begun_;
  }
  static constexpr std::uint64_t by_hand = 0;  ///< of a set, which begins as it is published
  bool publish(T&& value, std::uint64_t began);
  std::uint64_t version() const noexcept {
    const detail::hazard_hold now = place_.hold(listeners_->lock());
    return now.object() != nullptr ? static_cast<const node*>(now.object())->version : 0;
  }

  // ---- the schedule -----------------------------------------------------------------------------
  // The alarm is armed, or a load is in progress, or its report: one of these at a time, and only
  // that uses failures_. In a child of fork too: the listeners count the turns (L9).

  struct alarm : timer_node {
    explicit alarm(live_value& value) noexcept : timer_node(&on_fire), owner(value) {}
    live_value& owner;
  };
  std::chrono::nanoseconds next_wait() const;
  std::uint64_t random_bits() const;
  void arm() { clock_.arm(alarm_, detail::deadline_after(clock_.now(), next_wait())); }
  void arm_again() {
    (void)detail::arm_patiently(clock_, alarm_, detail::deadline_after(clock_.now(), next_wait()));
  }
  struct turn_end;
  static void on_fire(timer_node& fired) noexcept;
  void report(const outcome<shared_result<bool>>& got);

  /// Continues the schedule in a child of fork.
  struct after_fork final : detail::fork_member {
    explicit after_fork(live_value& value) noexcept : fork_member(rank::last), owner(value) {}
    void enter() { this->enter_forks(); }
    void leave() noexcept { this->leave_forks(); }
    SINGLEFLIGHT_COLD void hold() noexcept override {}
    SINGLEFLIGHT_COLD void release() noexcept override {}
    SINGLEFLIGHT_COLD void repair() noexcept override;
    SINGLEFLIGHT_COLD void go_on() noexcept override;
    live_value& owner;
    bool cut_ = false;
  };

  options options_;
  timer& clock_;
  const std::unique_ptr<any_loader> loader_;
  const std::shared_ptr<detail::live_listeners> listeners_;
  place place_;              // written under the lock of listeners_, which also guards the next two
  std::uint64_t begun_ = 0;  // loads, and sets
  std::uint64_t published_ = 0;  // the number of the current value
  detail::atomic<std::uint64_t> loads_{0};
  detail::atomic<std::uint64_t> load_failures_{0};
  detail::atomic<std::uint64_t> not_stored_{0};
  detail::atomic<std::chrono::nanoseconds> success_{};
  alarm alarm_;
  std::uint32_t failures_ = 0;  // of the schedule, consecutive
  after_fork after_fork_{*this};
  group<only, bool> flights_;  // the last member: its loads end first
};

SINGLEFLIGHT_END_NAMESPACE

#include "singleflight/cache/impl/live_value.hpp"
