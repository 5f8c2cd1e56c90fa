// SPDX-License-Identifier: Apache-2.0
#pragma once

/// handle_wait: one wait on a one-shot handle, with limits, on an executor, for a load, or without
/// throwing.
///
/// Use when    never by name: `until`, `on`, `within` and `as_outcome` of a handle (flight,
///             pending_permit) return one, to be awaited, blocked on (`get`) or given a callback
///             (`on_ready`) in the same expression.
/// Threads     the thread of its handle.
/// Cancel      its deadline and its stop token end this wait and this caller's interest, in one
///             step, however late the executor resumes the caller.
/// Lifetime    the handle outlives it. A waiting coroutine may be destroyed in a task of the
///             executor where it would resume, if that runs one task at a time (not on a pool), or
///             where nothing can resume it. A handle whose wait a limit has ended keeps that
///             result.
/// Cost        96 bytes in its coroutine's frame, and more only for what is named.

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

/// Records a wait for the load that a coroutine or a callback has named. Uses the handle's
/// graph_target().
struct recorded_within {
  template <class Handle>
  void enter(Handle& handle) {
    const wait_graph::target what = handle.graph_target();
    record = std::make_unique<wait_graph::record>();
    if (!what.is_over() && !record->enter(what, nullptr, frame) && !what.is_over()) {
      handle.cancel(handle.home_batch(), wait_verdict::recursive);
    }
  }
  void leave() noexcept { record.reset(); }

  const led_frame* frame = nullptr;
  std::unique_ptr<wait_graph::record> record;
};

}  // namespace detail

/// `Executor` is any_executor if one was named; with `AsOutcome` the result is an outcome; `Within`
/// holds the load that was named. What is not used takes no space, since a wait is stored in its
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

  handle_wait(Handle& handle, time_point deadline, std::stop_token stop, within_ref load,
              Executor executor) noexcept
      : timer_node(&on_alarm), handle_(&handle), token_(std::move(stop)) {
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

  // ---- further options --------------------------------------------------------------------------
  handle_wait until(time_point deadline) && {
    return {*handle_, deadline, {}, named_load(), take_executor()};
  }
  handle_wait until(time_point deadline, const std::stop_token& stop) && {
    return {*handle_, deadline, stop, named_load(), take_executor()};
  }
  handle_wait<Handle, any_executor, AsOutcome, Within> on(any_executor executor) && {
    return {*handle_, when, std::move(token_), named_load(), std::move(executor)};
  }
  template <class H = Handle>
  handle_wait<H, Executor, AsOutcome, typename H::within_type> within(
      const flight_context& context) && {
    return {*handle_, when, std::move(token_), within_ref(context), take_executor()};
  }
  handle_wait<Handle, Executor, true, Within> as_outcome() && {
    return {*handle_, when, std::move(token_), named_load(), take_executor()};
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
    return handle_->blocked_outcome(bounds);
  }

  // ---- calling back -----------------------------------------------------------------------------
  /// Calls `callback(outcome<value>)` once, on the executor. Consumes the handle.
  template <class Callback>
    requires(Handle::calls_back)
  void on_ready(Callback&& callback) && {
    handle_->template call_back<Within>(when, std::move(token_), named_load(), take_executor(),
                                        std::forward<Callback>(callback));
  }

  // ---- awaiting ---------------------------------------------------------------------------------
  bool await_ready() { return !named && handle_->settled(); }
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

  // The steps that the wait has taken; stored in the handle, whose padding has space for it.
  enum progress : std::uint8_t { waiting = 1, armed = 2, armed_stop = 4 };
  bool has(progress p) const noexcept { return (handle_->wait_progress & p) != 0; }
  void set(progress p) noexcept { handle_->wait_progress = handle_->wait_progress | p; }

  struct named_executor {
    any_executor executor;
    batch_type* batch = nullptr;  // from arm() to release_batch()
  };
  struct stop_action {
    handle_wait* wait;
    void operator()() const {
      const detail::limit_scope limit;
      wait->handle_->cancel(wait->batch(), detail::wait_verdict::cancelled);
    }
  };
  using stop_callback = detail::platform::stop_callback<stop_action>;

  static void on_alarm(timer_node& node) noexcept {
    auto& wait = static_cast<handle_wait&>(node);
    const detail::fire_scope fires;
    wait.handle_->cancel(wait.batch(), detail::wait_verdict::timed_out);
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
      return handle_->home_batch();
    }
  }

  /// Arms the limits, then enters the wait. Returns false if the caller should continue at once.
  bool begin(std::uintptr_t target, bool always) {
    // Whatever arming makes ready on this thread is resumed once this wait has been entered, and
    // may destroy this object. So if anything will be resumed, the wait is entered in any case.
    const detail::call_scope scope;
    arm(target);
    return enter(always || scope.drains());
  }
  bool enter(bool always) { return handle_->enrol(batch(), bounded() ? &when : nullptr, always); }
  void arm(std::uintptr_t target) {
    if constexpr (named) executor_.batch = handle_->batch_on(executor_.executor);
    handle_->target = target;
    if constexpr (within_load) within_.enter(*handle_);
    set(waiting);
    if (token_.stop_possible()) {
      std::stop_token token = std::move(token_);
      token_.~stop_token();
      set(armed_stop);
      ::new (static_cast<void*>(&callback_)) stop_callback(std::move(token), stop_action{this});
    }
    if (bounded()) {  // after the token: if both limits have expired, the wait is cancelled
      handle_->clock().arm(*this, when);
      set(armed);
    }
  }

  /// Disarms the limits; neither acts on this wait afterwards.
  void disarm() noexcept {
    if (has(armed)) handle_->clock().cancel(*this);
    if (has(armed_stop)) {
      callback_.~stop_callback();
      ::new (static_cast<void*>(&token_)) std::stop_token();
    }
    if constexpr (within_load) within_.leave();
    handle_->end_limit();
    handle_->wait_progress = 0;
  }

  outcome<value> end() {
    if (has(waiting)) disarm();
    release_batch();
    return handle_->take(handle_->verdict.load(detail::memory_order_relaxed));
  }

  /// The coroutine is destroyed while it waits: takes the waiter out of its list. The handle's own
  /// destructor ends its interest.
  void abandon() noexcept {
    if (has(waiting)) {
      disarm();
      handle_->take_out(batch());
    }
    release_batch();
  }
  void release_batch() noexcept {
    if constexpr (named) {
      if (executor_.batch != nullptr) std::exchange(executor_.batch, nullptr)->release();
    }
  }

  Handle* handle_;
  union {
    std::stop_token token_;   // until the wait begins
    stop_callback callback_;  // armed_stop
  };
  [[no_unique_address]] Within within_;
  [[no_unique_address]] std::conditional_t<named, named_executor, detail::no_executor> executor_;
};

namespace detail {

/// The options of the next wait, the same for every handle.
template <class Handle>
class handle_of {
  using time_point = std::chrono::steady_clock::time_point;

 public:
  /// Bounds the next wait. (The token is passed by reference: g++ keeps a by-value parameter in the
  /// caller's frame.)
  auto until(time_point by) & { return handle_wait<Handle>(self(), by, {}, {}, {}); }
  auto until(time_point by, const std::stop_token& stop) & {
    return handle_wait<Handle>(self(), by, stop, {}, {});
  }
  /// Names the executor where the next wait resumes.
  auto on(any_executor executor) & {
    return handle_wait<Handle, any_executor>(self(), time_point::max(), {}, {},
                                             std::move(executor));
  }
  /// The next wait returns an outcome instead of throwing.
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
