// SPDX-License-Identifier: Apache-2.0
#pragma once

// live_value: how a version is loaded and published, and the schedule of reloads.

#include "singleflight/cache/detail/rules.hpp"
#include "singleflight/cache/live_value.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE

// ---- the user's functions -----------------------------------------------------------------------

template <class T>
template <class Fn>
struct live_value<T>::loader_of final : any_loader {
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

template <class T>
template <class Fn>
struct live_value<T>::listener_of final : detail::live_listeners::listener {
  template <class From>
  explicit listener_of(From&& from) : fn(std::forward<From>(from)) {}
  void call(const detail::live_node_base& now) override {
    detail::invoke_whole(fn, static_cast<const node*>(now.before)->value,
                         static_cast<const node&>(now).value);
  }
  Fn fn;
};

template <class T>
auto live_value<T>::checked(options&& settings) -> options {
  const auto refuse = [](const std::string& why) {
    throw std::invalid_argument("live_value: " + why);
  };
  if (settings.reload_every.count() < 0) {
    refuse("reload_every is negative (" + std::to_string(settings.reload_every.count()) + " ns)");
  }
  if (settings.retry_after.count() <= 0) {
    refuse("retry_after is not positive (" + std::to_string(settings.retry_after.count()) + " ns)");
  }
  if (settings.max_changes == 0) refuse("max_changes is zero: one change must find a place");
  if (!(settings.jitter >= 0 && settings.jitter <= 1)) {
    refuse("jitter " + std::to_string(settings.jitter) + " is not in [0, 1]");
  }
  return std::move(settings);
}

// ---- loads --------------------------------------------------------------------------------------

template <class T>
bool live_value<T>::load(const flight_context& flight) {
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

/// Publishes the next version, unless the current one began later. A load that finds itself
/// overtaken finds the value that has overtaken it in place: the number and the value change
/// together, under the lock. Values are compared with no lock held, and compared again if another
/// version has been published meanwhile.
template <class T>
bool live_value<T>::publish(T&& value, std::uint64_t began) {
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
      if (began != by_hand && began < published_ &&
          detail::platform::holds(detail::rule::overtaken_is_not_shown)) {
        not_stored_.fetch_add(1, detail::memory_order_relaxed);
        return false;
      }
      if (place_.present_locked() != before &&
          detail::platform::holds(detail::rule::replaced_is_compared_again)) {
        continue;
      }
      published_ = began != by_hand ? began : ++begun_;
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

template <class T>
live_stats live_value<T>::stats() const noexcept {
  using detail::memory_order_relaxed;
  const detail::steady_time last(success_.load(memory_order_relaxed));
  return {.version = version(),
          .loads = loads_.load(memory_order_relaxed),
          .load_failures = load_failures_.load(memory_order_relaxed),
          .not_stored = not_stored_.load(memory_order_relaxed),
          .changes_merged = listeners_->merged(),
          .since_success = detail::time_between(last, clock_.now())};
}
template <class T>
void live_value<T>::observe(metric_visitor& visitor) const {
  const live_stats s = stats();
  visitor.gauge("version", s.version);
  detail::observe_counters(visitor, s);
  visitor.gauge("seconds_since_success", std::chrono::duration<double>(s.since_success).count());
}

// ---- the schedule -------------------------------------------------------------------------------

template <class T>
std::chrono::nanoseconds live_value<T>::next_wait() const {
  auto wait = options_.reload_every;
  if (failures_ > 0) {
    wait = detail::backoff(std::min(options_.retry_after, wait), failures_, wait);
  }
  const std::int64_t most = detail::part_of(wait.count(), options_.jitter);
  return wait - std::chrono::nanoseconds(detail::random_up_to(most, random_bits()));
}
template <class T>
std::uint64_t live_value<T>::random_bits() const {
  try {
    if (options_.random) return options_.random();
  } catch (...) {  // the schedule continues
    if (detail::platform::is_thread_exit()) throw;
  }
  return detail::random_bits();
}

/// Ends a turn, also if on_error ends its thread: arms the alarm, and no longer keeps the value's
/// destructor waiting.
template <class T>
struct live_value<T>::turn_end {
  live_value& self;
  detail::live_listeners& listeners;
  ~turn_end() {
    self.arm_again();
    listeners.leave();
  }
};
template <class T>
void live_value<T>::on_fire(timer_node& fired) noexcept {
  const detail::fire_scope fires;
  live_value& self = static_cast<alarm&>(fired).owner;
  const auto listeners = self.listeners_;
  const std::uint64_t turn = listeners->begin_turn();
  try {
    flight<bool> load = self.flights_.start(only::one, load_now{self});
    const std::uint64_t id = detail::group_door::id_of(load);
    std::move(load).on_ready([&self, turn, listeners](outcome<shared_result<bool>> got) {
      // It returns false if self is being destroyed, or has been, or if this is not the current
      // turn.
      if (!listeners->enter(turn)) return;
      const turn_end at_end{self, *listeners};
      self.report(got);
    });
    // After on_ready, which begins to wait: before that, a child would await a report that no
    // callback makes.
    listeners->await(turn, id);
  } catch (const std::bad_alloc&) {
    if (!listeners->enter(turn)) return;
    const turn_end at_end{self, *listeners};
    ++self.failures_;
  }
}
template <class T>
void live_value<T>::report(const outcome<shared_result<bool>>& got) {
  if (got.has_value()) {
    failures_ = 0;
    return;
  }
  ++failures_;
  if (options_.on_error) options_.on_error(got.exception());
}

// ---- fork ---------------------------------------------------------------------------------------

/// In a child of fork, a scheduled load that was in progress on another thread is the parent's: the
/// alarm is armed again. Whether it has to be is determined while the child has one thread and all
/// locks are held: later the timer's thread may have taken the alarm out to fire it. The timer and
/// the flights come before this in the ranks: fires of other threads are over, and the flights left
/// in the table are led by this thread.
template <class T>
void live_value<T>::after_fork::repair() noexcept {
  if (owner.options_.reload_every.count() <= 0) return;
  if (owner.alarm_.next != nullptr) return;  // it is armed
  cut_ = owner.listeners_->cut_turn_held([this](std::uint64_t id) {
    return detail::group_door::core(owner.flights_).is_under_way_held(id);
  });
}
/// Does not use the options' random, which is the user's and is not called within a fork.
template <class T>
void live_value<T>::after_fork::go_on() noexcept {
  if (!std::exchange(cut_, false)) return;
  const auto every = owner.options_.reload_every;
  (void)detail::arm_patiently(owner.clock_, owner.alarm_,
                              detail::deadline_after(owner.clock_.now(), every));
}

SINGLEFLIGHT_END_NAMESPACE
