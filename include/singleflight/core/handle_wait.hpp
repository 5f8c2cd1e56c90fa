// SPDX-License-Identifier: Apache-2.0
#pragma once

/// handle_wait: one wait on a one-shot handle, with limits, on an executor, for a load, or without
/// throwing.
///
/// Use when    never by name: `until`, `on`, `within` and `as_outcome` of a handle (flight,
///             pending_permit) make one, to be awaited, blocked on (`get`) or given a callback
///             (`on_ready`) in the same expression.
/// Threads     the one of its handle.
/// Cancel      its deadline and its stop token end this wait, and with it this caller's interest:
///             in one step, however late the executor resumes the caller.
/// Lifetime    the handle outlives it. A coroutine that waits may be destroyed in a task of the
///             executor where it would resume, if that runs one task at a time (not on a pool), or
///             where nothing can resume it. After its verdict its handle is over with that.
/// Cost        stands in its coroutine's frame: 96 bytes, more only for what is named.

#include <chrono>
#include <coroutine>
#include <cstdint>
#include <memory>
#include <new>
#include <type_traits>
#include <utility>

#include "singleflight/core/limits.hpp"
#include "singleflight/core/outcome.hpp"
#include "singleflight/core/support/require.hpp"
#include "singleflight/core/support/stop_token.hpp"
#include "singleflight/core/support/wait_graph.hpp"
#include "singleflight/core/support/waiter.hpp"
#include "singleflight/core/timer.hpp"
#include "singleflight/core/waitable_handle.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE

namespace detail {

struct no_executor {};
struct no_within {};

/// The load that a coroutine or a callback names as the one that waits. Of a handle it asks
/// graph_target().
struct recorded_within {
  template <class Handle>
  void enter(Handle& h) {
    const wait_graph::target what = h.graph_target();
    record = std::make_unique<wait_graph::record>();
    if (!what.is_over() && !record->enter(what, nullptr, frame) && !what.is_over()) {
      h.cancel(h.home_batch(), wait_verdict::recursive);
    }
  }
  void leave() noexcept { record.reset(); }

  const led_frame* frame = nullptr;
  std::unique_ptr<wait_graph::record> record;
};

}  // namespace detail

/// `Executor` is any_executor where one was named; `AsOutcome`: the result is an outcome; `Within`
/// is what keeps the load that was named. What is not used takes no room: a wait stands in its
/// coroutine's frame.
template <class Handle, class Executor = detail::no_executor, bool AsOutcome = false,
          class Within = detail::no_within>
class [[nodiscard]] handle_wait : private timer_node {
  static constexpr bool named = std::is_same_v<Executor, any_executor>;
  static constexpr bool within_load = !std::is_same_v<Within, detail::no_within>;
  using time_point = std::chrono::steady_clock::time_point;
  using batch_type = typename Handle::batch_type;
  using value = typename Handle::result;

 public:
  using result = std::conditional_t<AsOutcome, outcome<value>, value>;

  handle_wait(Handle& of, time_point deadline, std::stop_token stop, within_ref load,
              Executor executor) noexcept
      : timer_node(&strike), of_(&of), token_(std::move(stop)) {
    static_assert(waitable_handle<Handle>);
    when = deadline;
    if constexpr (within_load) within_.frame = load.frame;
    if constexpr (named) executor_.executor = std::move(executor);
  }
  handle_wait(const handle_wait&) = delete;
  handle_wait& operator=(const handle_wait&) = delete;
  ~handle_wait() {
    abandon();
    if (!has(armed_stop)) token_.~stop_token();
  }

  // ---- more of the same -------------------------------------------------------------------------
  handle_wait until(time_point deadline) && {
    return {*of_, deadline, {}, named_load(), take_executor()};
  }
  handle_wait until(time_point deadline, const std::stop_token& stop) && {
    return {*of_, deadline, stop, named_load(), take_executor()};
  }
  handle_wait<Handle, any_executor, AsOutcome, Within> on(any_executor executor) && {
    return {*of_, when, std::move(token_), named_load(), std::move(executor)};
  }
  template <class H = Handle>
  handle_wait<H, Executor, AsOutcome, typename H::within_type> within(
      const flight_context& context) && {
    return {*of_, when, std::move(token_), within_ref(context), take_executor()};
  }
  handle_wait<Handle, Executor, true, Within> as_outcome() && {
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
  outcome<value> get_outcome() && {
    const limits bounds{.deadline = when, .stop = token_, .within = named_load()};
    return of_->blocked_outcome(bounds);
  }

  // ---- calling back -----------------------------------------------------------------------------
  /// Calls `callback(outcome<value>)` once, on the executor. Consumes the handle.
  template <class Callback>
    requires(Handle::calls_back)
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
  template <class, class, bool, class>
  friend class handle_wait;
  friend Handle;

  // What the wait has done so far; kept in the handle, where there is room for it.
  enum progress : std::uint8_t { waiting = 1, armed = 2, armed_stop = 4 };
  bool has(progress p) const noexcept { return (of_->wait_progress & p) != 0; }
  void set(progress p) noexcept { of_->wait_progress = of_->wait_progress | p; }

  struct named_executor {
    any_executor executor;
    batch_type* batch = nullptr;  // from arm() to release_batch()
  };
  struct claimer {
    handle_wait* wait;
    void operator()() const {
      const detail::strike_scope strikes;
      wait->of_->cancel(wait->batch(), detail::wait_verdict::cancelled);
    }
  };
  using stop_callback = detail::platform::stop_callback<claimer>;

  static void strike(timer_node& node) noexcept {
    auto& wait = static_cast<handle_wait&>(node);
    const detail::fire_scope fires;
    wait.of_->cancel(wait.batch(), detail::wait_verdict::timed_out);
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
    if constexpr (within_load) load.frame = within_.frame;
    return load;
  }
  bool bounded() const noexcept { return when != time_point::max(); }
  batch_type& batch() const noexcept {
    if constexpr (named) {
      return *executor_.batch;
    } else {
      return of_->home_batch();
    }
  }

  /// Arms the limits, then enters the wait; false: go on at once.
  bool begin(std::uintptr_t target, bool always) {
    // What arming lets resume on this thread does so once this wait has been entered: it may
    // destroy this. So a wait that need not be entered is, if anything is to come.
    const detail::call_scope scope;
    arm(target);
    return enter(always || scope.drains());
  }
  bool enter(bool always) { return of_->enrol(batch(), bounded() ? &when : nullptr, always); }
  void arm(std::uintptr_t target) {
    if constexpr (named) executor_.batch = of_->batch_on(executor_.executor);
    of_->target = target;
    if constexpr (within_load) within_.enter(*of_);
    set(waiting);
    if (token_.stop_possible()) {
      std::stop_token token = std::move(token_);
      token_.~stop_token();
      set(armed_stop);
      ::new (static_cast<void*>(&callback_)) stop_callback(std::move(token), claimer{this});
    }
    if (bounded()) {  // after the token: where both have struck already, the wait is cancelled
      of_->clock().arm(*this, when);
      set(armed);
    }
  }

  /// Disarms; afterwards no limit strikes any more.
  void disarm() noexcept {
    if (has(armed)) of_->clock().cancel(*this);
    if (has(armed_stop)) {
      callback_.~stop_callback();
      ::new (static_cast<void*>(&token_)) std::stop_token();
    }
    if constexpr (within_load) within_.leave();
    of_->end_limit();
    of_->wait_progress = 0;
  }

  outcome<value> end() {
    if (has(waiting)) disarm();
    release_batch();
    return of_->take(of_->verdict.load(detail::memory_order_relaxed));
  }

  /// The coroutine is destroyed while it waits: leave the lists; the handle leaves what it waited
  /// for.
  void abandon() noexcept {
    if (has(waiting)) {
      disarm();
      of_->take_out(batch());
    }
    release_batch();
  }
  void release_batch() noexcept {
    if constexpr (named) {
      if (executor_.batch != nullptr) std::exchange(executor_.batch, nullptr)->release();
    }
  }

  Handle* of_;
  union {
    std::stop_token token_;   // until the wait begins
    stop_callback callback_;  // armed_stop
  };
  [[no_unique_address]] Within within_;
  [[no_unique_address]] std::conditional_t<named, named_executor, detail::no_executor> executor_;
};

namespace detail {

/// What one may say of the wait that follows, the same for every handle.
template <class Handle>
class handle_of {
  using time_point = std::chrono::steady_clock::time_point;

 public:
  /// Bounds the wait that follows. (By reference: g++ keeps a parameter by value in the caller's
  /// frame.)
  auto until(time_point by) & { return handle_wait<Handle>(self(), by, {}, {}, {}); }
  auto until(time_point by, const std::stop_token& stop) & {
    return handle_wait<Handle>(self(), by, stop, {}, {});
  }
  /// Where the wait that follows resumes.
  auto on(any_executor executor) & {
    return handle_wait<Handle, any_executor>(self(), time_point::max(), {}, {},
                                             std::move(executor));
  }
  /// The wait that follows does not throw.
  auto as_outcome() & {
    return handle_wait<Handle, no_executor, true>(self(), time_point::max(), {}, {}, {});
  }
  void until(time_point) && = delete;
  void until(time_point, const std::stop_token&) && = delete;
  void on(any_executor) && = delete;
  void as_outcome() && = delete;

  template <class H = Handle>
  typename H::awaiter operator co_await() && {
    static_assert(always_false<H>,
                  "singleflight: await a named handle, not a temporary: auto h = group.start(...), "
                  "or whatever was started; co_await h;");
    return detail::never<typename H::awaiter>();
  }

 private:
  Handle& self() noexcept { return static_cast<Handle&>(*this); }
};

}  // namespace detail

SINGLEFLIGHT_END_NAMESPACE
