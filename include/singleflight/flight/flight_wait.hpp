// SPDX-License-Identifier: Apache-2.0
#pragma once

/// flight_wait: one wait on a flight, with limits, on an executor, for a load, or without throwing.
///
/// Use when    never by name: `flight::until`, `on`, `within` and `as_outcome` make one, to be
///             awaited, blocked on (`get`) or given a callback (`on_ready`) in the same expression.
/// Threads     the one of its flight.
/// Cancel      its deadline and its stop token end this wait, and with it this caller's interest.
/// Lifetime    the flight outlives it. A coroutine that waits may be destroyed on the executor
///             where it would resume.
/// Cost        stands in its coroutine's frame: 96 bytes, more only for what is named.

#include <chrono>
#include <coroutine>
#include <cstdint>
#include <memory>
#include <new>
#include <stop_token>
#include <type_traits>
#include <utility>

#include "singleflight/core/outcome.hpp"
#include "singleflight/flight/detail/async_wait.hpp"
#include "singleflight/flight/shared_result.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE

template <class V>
class flight;

namespace detail {
struct no_executor {};
}  // namespace detail

/// A wait on a flight with limits, an executor, or without throwing: made by flight's members, used
/// at once. `Executor` is any_executor where one was named; `AsOutcome`: the result is an outcome;
/// `Within`: a load was named. What is not used takes no room: a wait stands in its coroutine's
/// frame.
template <class V, class Executor = detail::no_executor, bool AsOutcome = false,
          bool Within = false>
class [[nodiscard]] flight_wait : private timer_node {
  static constexpr bool named = std::is_same_v<Executor, any_executor>;
  using time_point = std::chrono::steady_clock::time_point;

 public:
  using result = std::conditional_t<AsOutcome, outcome<shared_result<V>>, shared_result<V>>;

  flight_wait(flight<V>& of, time_point deadline, std::stop_token stop, within_ref within,
              Executor executor) noexcept
      : timer_node(&strike), of_(&of), token_(std::move(stop)) {
    when = deadline;
    if constexpr (Within) within_.frame = within.frame;
    if constexpr (named) executor_.executor = std::move(executor);
  }
  flight_wait(const flight_wait&) = delete;
  flight_wait& operator=(const flight_wait&) = delete;
  ~flight_wait() {
    abandon();
    if (!has(armed_stop)) token_.~stop_token();
  }

  // ---- more of the same -------------------------------------------------------------------------
  flight_wait until(time_point deadline) && {
    return {*of_, deadline, {}, named_load(), take_executor()};
  }
  flight_wait until(time_point deadline, const std::stop_token& stop) && {
    return {*of_, deadline, stop, named_load(), take_executor()};
  }
  flight_wait<V, any_executor, AsOutcome, Within> on(any_executor executor) && {
    return {*of_, when, std::move(token_), named_load(), std::move(executor)};
  }
  flight_wait<V, Executor, AsOutcome, true> within(const flight_context& context) && {
    return {*of_, when, std::move(token_), within_ref(context), take_executor()};
  }
  flight_wait<V, Executor, true, Within> as_outcome() && {
    return {*of_, when, std::move(token_), named_load(), take_executor()};
  }

  // ---- blocking ---------------------------------------------------------------------------------
  result get() && {
    if constexpr (AsOutcome) {
      return std::move(*this).get_outcome();
    } else {
      return std::move(*this).get_outcome().value();
    }
  }
  outcome<shared_result<V>> get_outcome() && {
    const limits bounds{.deadline = when, .stop = token_, .within = named_load()};
    return of_->blocked_outcome(bounds);
  }

  // ---- calling back -----------------------------------------------------------------------------
  /// Calls `callback(outcome<shared_result<V>>)` once, on the executor. Consumes the flight.
  template <class Callback>
  void on_ready(Callback&& callback) && {
    of_->template call_back<Within>(when, std::move(token_), named_load(), take_executor(),
                                    std::forward<Callback>(callback));
  }

  // ---- awaiting ---------------------------------------------------------------------------------
  bool await_ready() { return !named && of_->settled(); }
  bool await_suspend(std::coroutine_handle<> frame) {
    return begin(reinterpret_cast<std::uintptr_t>(frame.address()), named);
  }
  result await_resume() {
    if constexpr (AsOutcome) {
      return end();
    } else {
      return end().value();
    }
  }

 private:
  template <class, class, bool, bool>
  friend class flight_wait;
  friend class flight<V>;

  // What the wait has done so far; kept in the handle, where there is room for it.
  enum progress : std::uint8_t { waiting = 1, armed = 2, armed_stop = 4 };
  bool has(progress p) const noexcept { return (of_->wait_progress_ & p) != 0; }
  void set(progress p) noexcept { of_->wait_progress_ = of_->wait_progress_ | p; }

  struct named_executor {
    any_executor executor;
    detail::resume_batch* batch = nullptr;
  };
  struct claimer {
    flight_wait* wait;
    void operator()() const {
      detail::cancel_wait(*wait->of_->block_, *wait->of_, wait->batch(),
                          detail::wait_verdict::cancelled);
    }
  };
  using stop_callback = detail::platform::stop_callback<claimer>;

  static void strike(timer_node& node) noexcept {
    auto& wait = static_cast<flight_wait&>(node);
    detail::cancel_wait(*wait.of_->block_, *wait.of_, wait.batch(),
                        detail::wait_verdict::timed_out);
  }

  Executor take_executor() noexcept {
    if constexpr (named) {
      return std::move(executor_.executor);
    } else {
      return {};
    }
  }
  within_ref named_load() const noexcept {
    within_ref load;
    if constexpr (Within) load.frame = within_.frame;
    return load;
  }
  bool bounded() const noexcept { return when != time_point::max(); }
  detail::resume_batch& batch() const noexcept {
    if constexpr (named) {
      return *executor_.batch;
    } else {
      return of_->block_->room.batch;
    }
  }

  /// Arms the limits, then enters the wait; false: go on at once.
  bool begin(std::uintptr_t target, bool always) {
    detail::block_base& b = *of_->block_;
    if constexpr (named) {
      if (executor_.batch == nullptr) executor_.batch = &detail::batch_for(b, executor_.executor);
    }
    of_->target = target;
    if constexpr (Within) {
      within_.record = std::make_unique<detail::wait_graph::record>();
      if (!b.done() && !within_.record->enter(b, nullptr, within_.frame) && !b.done()) {
        of_->verdict.store(detail::wait_verdict::recursive, detail::memory_order_relaxed);
      }
    }
    set(waiting);
    if (bounded()) {
      b.clock->arm(*this, when);
      set(armed);
    }
    if (token_.stop_possible()) {
      std::stop_token token = std::move(token_);
      token_.~stop_token();
      set(armed_stop);
      ::new (static_cast<void*>(&callback_)) stop_callback(std::move(token), claimer{this});
    }
    return detail::enrol(b, *of_, batch(), bounded() ? &when : nullptr, always);
  }

  /// Disarms; afterwards no limit strikes any more.
  void disarm() noexcept {
    detail::block_base& b = *of_->block_;
    if (has(armed)) b.clock->cancel(*this);
    if (has(armed_stop)) {
      callback_.~stop_callback();
      ::new (static_cast<void*>(&token_)) std::stop_token();
    }
    if constexpr (Within) within_.record.reset();
    if (of_->limit != nullptr && !b.done()) {
      b.lock();
      if (b.phase(detail::memory_order_relaxed) != detail::flight_phase::done) --b.room.bounded;
      of_->limit = nullptr;
      b.unlock();
    }
    of_->wait_progress_ = 0;
  }

  outcome<shared_result<V>> end() {
    if (has(waiting)) disarm();
    return of_->take(of_->verdict.load(detail::memory_order_relaxed));
  }

  /// The coroutine is destroyed while it waits: leave the lists; the handle leaves the flight.
  void abandon() noexcept {
    if (!has(waiting) || of_->block_ == nullptr) return;
    detail::block_base& b = *of_->block_;
    detail::resume_batch& from = batch();
    disarm();
    detail::take_out(b, *of_, from);
  }

  struct named_within {
    const detail::led_frame* frame = nullptr;
    std::unique_ptr<detail::wait_graph::record> record;
  };

  flight<V>* of_;
  union {
    std::stop_token token_;   // until the wait begins
    stop_callback callback_;  // armed_stop
  };
  struct no_within {};
  [[no_unique_address]] std::conditional_t<Within, named_within, no_within> within_;
  [[no_unique_address]] std::conditional_t<named, named_executor, detail::no_executor> executor_;
};

SINGLEFLIGHT_END_NAMESPACE
