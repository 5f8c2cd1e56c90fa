// SPDX-License-Identifier: Apache-2.0
#pragma once

/// live_value: one value that is loaded once, read by everybody, and loaded anew while they read.
///
/// Use when    configuration, a routing table, a set of flags: read all the time, changed now and
///             then.
/// Not for     values by key (cache/loading_cache.hpp); what each caller wants freshly loaded
///             (flight/group.hpp).
/// Example     examples/17_live_value.cpp
///
/// Threads     every member, from any thread; the destructor once no new call can begin. The loader
///             runs once at a time, but beside a load that a set or a load_timeout has given up.
/// Ordering    after reload() returns, no get that begins later sees a value whose load began
///             before reload was called; after set(), none whose load began before set was called,
///             nor an older one. Versions of one thread's gets never go back. A listener is told of
///             each change after its subscription, in the order of versions, one listener at a
///             time, after the change: a get within it sees that version or a later one. When
///             listeners fall behind by max_changes, changes are told together.
/// Blocking    the constructor loads, unless it is given an initial value. get never waits. reload
///             loads on the calling thread, or waits for who does; those who ask while one load
///             runs share the next one. Loads that are started or due, and listeners, run on the
///             group's executor. No lock is held in a loader, a listener, or a comparison of
///             values.
/// Cancel      a limit ends its own caller's wait; the load goes on.
/// Errors      a load that fails changes nothing: the last good value stays. The loader's exception
///             reaches who waits for that load, with its own type; of the schedule's loads,
///             on_error, and then it tries again after retry_after. The constructor throws what its
///             load throws. std::invalid_argument for options out of range. A reload within the
///             loader: recursive. Within a listener it loads; that change is told once the listener
///             has returned. A listener must not throw.
/// Lifetime    owns its loader. The destructor ends the schedule, tells a running load to stop, and
///             waits for it and for the listener that is running; other changes are not told any
///             more. It aborts within a loader, a listener or on_error. Handles and subscriptions
///             may outlive the value.
/// Cost        get: no lock, no allocation, no read-modify-write. A change: one allocation, one
///             short critical section, and one task where somebody listens.

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
  explicit live_value(Loader&& loader, options how = {})
      : options_(checked(std::move(how))),
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
    listeners_->stop();     // nobody is told from now on, nor is the alarm armed
    clock_.cancel(alarm_);  // a fire has ended: no load of the schedule begins
  }                         // the group waits for the load that runs

  // ---- reading ----------------------------------------------------------------------------------

  /// The present version.
  [[nodiscard]] live_snapshot<T> get() const noexcept {
    return {place_.hold(listeners_->lock()), clock_};
  }

  // ---- changing ---------------------------------------------------------------------------------

  /// Loads, and returns once the new value can be seen. Whether there is a new version: not where
  /// T has a == by which the value is the same, nor where a set, or a load that began later, has
  /// overtaken this one.
  bool reload(const limits& bounds = {}) {
    const detail::end_scope scope;  // the version that it replaces ends after its load
    return *flights_.run_fresh(only::one, load_now{*this}, bounds);
  }
  /// The same for a caller that awaits, or does not want to load itself.
  [[nodiscard]] flight<bool> start_reload() {
    return flights_.start_fresh(only::one, load_now{*this});
  }
  /// A value by hand, of which the next load knows nothing. A load that is under way is not stored,
  /// and given up: nobody who comes later waits for it. Whether there is a new version.
  template <class V = T>
    requires std::constructible_from<T, V&&>
  bool set(V&& value) {
    const bool changed = publish(T(detail::value_from<T>(std::forward<V>(value))), by_hand);
    flights_.forget(only::one);
    return changed;
  }

  /// `listener(const T& before, const T& now)` is told, on the executor, of each change from now
  /// on, perhaps before this returns; as long as the subscription lives.
  template <class Listener>
    requires std::invocable<std::decay_t<Listener>&, const T&, const T&>
  subscription on_change(Listener&& listener) {
    return {listeners_, std::make_unique<listener_of<std::decay_t<Listener>>>(
                            std::forward<Listener>(listener))};
  }

  // ---- looking ----------------------------------------------------------------------------------

  live_stats stats() const noexcept {
    using detail::memory_order_relaxed;
    const detail::steady_time last(success_.load(memory_order_relaxed));
    return {.version = version(),
            .loads = loads_.load(memory_order_relaxed),
            .load_failures = load_failures_.load(memory_order_relaxed),
            .not_stored = not_stored_.load(memory_order_relaxed),
            .changes_merged = listeners_->merged(),
            .since_success = detail::time_between(last, clock_.now())};
  }
  void observe(metric_visitor& visitor) const override {
    const live_stats s = stats();
    visitor.gauge("version", s.version);
    detail::observe_counters(visitor, s);
    visitor.gauge("seconds_since_success", std::chrono::duration<double>(s.since_success).count());
  }

 private:
  // ---- what is the user's -----------------------------------------------------------------------

  struct any_loader {
    virtual ~any_loader() = default;
    virtual T load(const flight_context& flight) = 0;
  };
  template <class Fn>
  struct loader_of final : any_loader {
    template <class From>
    explicit loader_of(From&& from) : fn(std::forward<From>(from)) {}
    T load(const flight_context& flight) override {
      using returned = decltype(detail::call_loader<T>(fn, flight));
      if constexpr (std::is_same_v<returned, T>) {
        return detail::call_loader<T>(fn, flight);
      } else if constexpr (detail::fits_a_value<!std::is_void_v<returned>>()) {
        return detail::value_from<T>(detail::call_loader<T>(fn, flight));
      }
    }
    Fn fn;
  };
  template <class Fn>
  struct listener_of final : detail::live_listeners::listener {
    template <class From>
    explicit listener_of(From&& from) : fn(std::forward<From>(from)) {}
    void tell(const detail::live_node_base& now) override {
      detail::invoke_whole(fn, static_cast<const node*>(now.before)->value,
                           static_cast<const node&>(now).value);
    }
    Fn fn;
  };
  static bool same(const T& a, const T& b) {
    if constexpr (std::equality_comparable<T>) {
      return a == b;
    } else {
      return false;
    }
  }

  static options checked(options&& how) {
    const auto refuse = [](const std::string& why) {
      throw std::invalid_argument("live_value: " + why);
    };
    if (how.reload_every.count() < 0) {
      refuse("reload_every is negative (" + std::to_string(how.reload_every.count()) + " ns)");
    }
    if (how.retry_after.count() <= 0) {
      refuse("retry_after is not positive (" + std::to_string(how.retry_after.count()) + " ns)");
    }
    if (how.max_changes == 0) refuse("max_changes is zero: one change must find a place");
    if (!(how.jitter >= 0 && how.jitter <= 1)) {
      refuse("jitter " + std::to_string(how.jitter) + " is not in [0, 1]");
    }
    return std::move(how);
  }
  static group_options group_options_of(const options& how) {
    group_options of = how.group;
    of.on_abandon = abandon::finish;
    return of;
  }

  // ---- loads ------------------------------------------------------------------------------------

  struct load_now {
    live_value& of;
    bool operator()(flight_context& flight) const { return of.load(flight); }
  };
  bool load(const flight_context& flight) {
    loads_.fetch_add(1, detail::memory_order_relaxed);
    const std::uint64_t began = begin();
    try {
      return publish(loader_->load(flight), began);
    } catch (...) {
      if (!detail::platform::is_thread_exit()) {
        load_failures_.fetch_add(1, detail::memory_order_relaxed);
      }
      throw;
    }
  }

  /// A load's number, in the order in which loads begin and values are set.
  std::uint64_t begin() {
    const detail::platform::unique_lock hold(listeners_->lock());
    return ++begun_;
  }
  static constexpr std::uint64_t by_hand = 0;  ///< begins as it is published

  /// The next version, unless what is there began later. Whoever sees a number as overtaken sees
  /// the value that has overtaken it: both change at once, under the lock. Values are compared with
  /// no lock held, once more where another has come.
  bool publish(T&& value, std::uint64_t began) {
    const auto made = new node(std::move(value));
    const detail::hazard_hold mine(*made, nullptr);
    made->since = clock_.now();
    for (;;) {
      detail::hazard_hold seen = place_.hold(listeners_->lock());
      seen.count();
      auto* const before = static_cast<node*>(seen.object());
      const bool equal = before != nullptr && same(before->value, made->value);
      detail::live_listeners::change_note note;
      {
        const detail::platform::unique_lock hold(listeners_->lock());
        if (began != by_hand && began < shown_ &&
            detail::platform::holds(detail::rule::overtaken_is_not_shown)) {
          not_stored_.fetch_add(1, detail::memory_order_relaxed);
          return false;
        }
        if (place_.present_locked() != before &&
            detail::platform::holds(detail::rule::replaced_is_compared_again)) {
          continue;
        }
        shown_ = began != by_hand ? began : ++begun_;
        success_.store(made->since.time_since_epoch(), detail::memory_order_relaxed);
        if (equal) return false;
        made->version = before != nullptr ? before->version + 1 : 1;
        made->add_reference();  // the place's
        place_.store_locked(*made);
        note = listeners_->change_locked(before, *made);
      }
      place::leave(before);
      if (note.merged != nullptr) note.merged->drop_reference();
      if (note.post != nullptr) listeners_->post(*note.post);
      return true;
    }
  }

  // ---- the schedule -----------------------------------------------------------------------------
  // Armed, or in a load, or in its report: one of these at a time, which alone uses failures_. In a
  // child of fork too: its listeners keep count of the turns (L9).

  struct alarm : timer_node {
    explicit alarm(live_value& value) noexcept : timer_node(&on_fire), of(value) {}
    live_value& of;
  };

  std::chrono::nanoseconds next_wait() const {
    auto wait = options_.reload_every;
    if (failures_ > 0) {
      wait = detail::backoff(std::min(options_.retry_after, wait), failures_, wait);
    }
    const std::int64_t most = detail::part_of(wait.count(), options_.jitter);
    return wait - std::chrono::nanoseconds(detail::random_up_to(most, random_bits()));
  }
  std::uint64_t random_bits() const {
    try {
      if (options_.random) return options_.random();
    } catch (...) {  // the schedule goes on
      if (detail::platform::is_thread_exit()) throw;
    }
    return detail::random_bits();
  }
  void arm() { clock_.arm(alarm_, detail::deadline_after(clock_.now(), next_wait())); }
  void arm_again() {
    (void)detail::arm_patiently(clock_, alarm_, detail::deadline_after(clock_.now(), next_wait()));
  }

  /// In a child of fork, a load of the schedule that was under way on another thread is the
  /// parent's: the alarm is armed again. (Its options' random is the user's, and is not called
  /// within a fork.) Whether it is to be, is seen while the child is alone and all is held: later
  /// the timer's thread may have taken the alarm out to fire it. The timer and the flights come
  /// before this in the ranks: the fires of other threads are over, and what is left in the table
  /// is led here.
  struct schedule final : detail::fork_member {
    explicit schedule(live_value& value) noexcept : fork_member(rank::last), of(value) {}
    void enter() { this->enter_forks(); }
    void leave() noexcept { this->leave_forks(); }
    SINGLEFLIGHT_COLD void hold() noexcept override {}
    SINGLEFLIGHT_COLD void release() noexcept override {}
    SINGLEFLIGHT_COLD void mend() noexcept override {
      if (of.options_.reload_every.count() <= 0) return;
      if (of.alarm_.next != nullptr) return;  // it is armed
      cut_ = of.listeners_->cut_turn_held([this](std::uint64_t id) {
        return detail::group_door::core(of.flights_).is_under_way_held(id);
      });
    }
    SINGLEFLIGHT_COLD void go_on() noexcept override {
      if (!std::exchange(cut_, false)) return;
      const auto every = of.options_.reload_every;
      (void)detail::arm_patiently(of.clock_, of.alarm_,
                                  detail::deadline_after(of.clock_.now(), every));
    }
    live_value& of;
    bool cut_ = false;
  };

  /// The end of a turn, also where on_error ends its thread: arms the alarm, lets the value go.
  struct turn_end {
    live_value& self;
    detail::live_listeners& alive;
    ~turn_end() {
      self.arm_again();
      alive.leave();
    }
  };
  static void on_fire(timer_node& fired) noexcept {
    const detail::fire_scope fires;
    live_value& self = static_cast<alarm&>(fired).of;
    const auto alive = self.listeners_;
    const std::uint64_t turn = alive->begin_turn();
    try {
      flight<bool> load = self.flights_.start(only::one, load_now{self});
      const std::uint64_t id = detail::group_door::id_of(load);
      std::move(load).on_ready([&self, turn, alive](outcome<shared_result<bool>> got) {
        if (!alive->enter(turn)) return;  // self is going, or gone; or this is not its turn
        const turn_end at_end{self, *alive};
        self.report(got);
      });
      alive->await(turn, id);  // after it has begun to wait: before, a child would wait for nobody
    } catch (const std::bad_alloc&) {
      if (!alive->enter(turn)) return;
      const turn_end at_end{self, *alive};
      ++self.failures_;
    }
  }
  void report(const outcome<shared_result<bool>>& got) {
    if (got.has_value()) {
      failures_ = 0;
      return;
    }
    ++failures_;
    if (options_.on_error) options_.on_error(got.exception());
  }

  std::uint64_t version() const noexcept {
    const detail::hazard_hold now = place_.hold(listeners_->lock());
    return now.object() != nullptr ? static_cast<const node*>(now.object())->version : 0;
  }

  options options_;
  timer& clock_;
  const std::unique_ptr<any_loader> loader_;
  const std::shared_ptr<detail::live_listeners> listeners_;
  place place_;  // written under the lock of listeners_, which guards the next two as well
  std::uint64_t begun_ = 0;  // loads, and what was set
  std::uint64_t shown_ = 0;  // the number of what is there
  detail::atomic<std::uint64_t> loads_{0};
  detail::atomic<std::uint64_t> load_failures_{0};
  detail::atomic<std::uint64_t> not_stored_{0};
  detail::atomic<std::chrono::nanoseconds> success_{};
  alarm alarm_;
  std::uint32_t failures_ = 0;  // of the schedule, in a row
  schedule after_fork_{*this};
  group<only, bool> flights_;  // the last: its loads end first
};

SINGLEFLIGHT_END_NAMESPACE
