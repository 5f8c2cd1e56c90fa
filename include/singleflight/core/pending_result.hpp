// SPDX-License-Identifier: Apache-2.0
#pragma once

/// pending_result: the result of one call that was started; one-shot, like std::future.
///
/// Use when    never by name: start_retry returns one, to be awaited or blocked on.
/// Not for     several callers that share one result: flight (flight/flight.hpp).
/// Threads     one thread at a time.
/// Ordering    the call's effects happen-before the return of get and co_await.
/// Blocking    get and get_outcome block; co_await suspends.
/// Cancel      destroying the handle notifies the call that its result is not wanted; a limit that
///             ends a wait does so too, before the waiter is resumed.
/// Errors      the call's exception with its own type; flight_error for the library's own. A second
///             use and a move during a wait fail an assertion; awaiting a temporary does not
///             compile.
/// Lifetime    independent of the object that started the call. A waiting coroutine may be
///             destroyed in a task of the executor where it would resume, if that runs one task at
///             a time.
/// Cost        stored in the caller's frame; a wait allocates nothing, except one allocation for
///             on().

#include <coroutine>
#include <memory>
#include <new>
#include <utility>

#include "singleflight/core/support/one_shot.hpp"
#include "singleflight/core/support/require.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE

template <class V>
class [[nodiscard]] pending_result : public detail::handle_of<pending_result<V>>,
                                     private detail::handle_base {
 public:
  using result = V;
  static constexpr bool calls_back = false;

  pending_result(pending_result&& other) noexcept : call_(std::exchange(other.call_, nullptr)) {
    detail::require(other.state == detail::wait_state::idle,
                    "pending_result: moved while it waits");
  }
  pending_result& operator=(pending_result&& other) noexcept {
    if (this != &other) {
      std::destroy_at(this);
      ::new (static_cast<void*>(this)) pending_result(std::move(other));
    }
    return *this;
  }
  ~pending_result() {
    if (call_ != nullptr) leave(detach());
  }

  /// Blocks until the result is available; returns it, or throws the call's exception or
  /// flight_error.
  V get() { return get_outcome().value(); }
  outcome<V> get_outcome() { return blocked_outcome({}); }
  /// Whether get and co_await would return at once.
  [[nodiscard]] bool ready() const noexcept { return settled(); }

  class awaiter {
   public:
    explicit awaiter(pending_result& handle) noexcept : handle_(handle) {}
    bool await_ready() const noexcept { return handle_.settled(); }
    bool await_suspend(std::coroutine_handle<> frame) {
      handle_.target = reinterpret_cast<std::uintptr_t>(frame.address());
      return handle_.enrol(handle_.home_batch(), nullptr, false);
    }
    V await_resume() {
      return handle_.take(handle_.verdict.load(detail::memory_order_relaxed)).value();
    }

   private:
    pending_result& handle_;
  };
  awaiter operator co_await() & noexcept { return awaiter(*this); }

  /// Names the load that the next wait belongs to.
  handle_wait<pending_result, detail::no_executor, false, detail::recorded_within> within(
      const within_ref& load) & {
    return {*this, detail::steady_time::max(), {}, load, {}};
  }
  void within(const within_ref&) && = delete;
  using detail::handle_of<pending_result>::operator co_await;

  /// For the library: takes over the handle's reference.
  explicit pending_result(detail::one_shot<V>& call) noexcept : call_(&call) {}

 private:
  template <class, class, bool, class>
  friend class handle_wait;
  friend detail::handle_access;
  friend detail::recorded_within;

  bool settled() const noexcept {
    detail::require(call_ != nullptr, "pending_result: used twice, or after a move");
    return call_->settled() || given_up();
  }
  bool given_up() const noexcept {
    return verdict.load(detail::memory_order_relaxed) != detail::wait_verdict::outcome;
  }

  // ---- for handle_wait --------------------------------------------------------------------------
  using batch_type = detail::one_shot_base::batch_type;
  using within_type = detail::recorded_within;
  detail::wait_graph::target graph_target() const noexcept { return call_->graph_target(); }
  timer& clock() const noexcept { return call_->clock; }
  batch_type& home_batch() const noexcept { return call_->home; }
  batch_type* batch_on(const any_executor& executor) { return batch_type::make(*call_, executor); }
  bool enrol(batch_type& on, const detail::steady_time*, bool always) {
    return call_->enrol(*this, on, always);
  }
  void cancel(batch_type&, detail::wait_verdict why) { call_->give_up(*this, why); }
  void take_out(batch_type&) noexcept { call_->take_out(*this); }
  void end_limit() noexcept {}

  /// Detaches the handle from the call; the caller then calls take() or leave() on it.
  detail::one_shot<V>& detach() noexcept {
    detail::one_shot<V>& call = *std::exchange(call_, nullptr);
    if (state != detail::wait_state::idle) call.take_out(*this);
    return call;
  }

  /// Called if the result will not be taken. If a limit has expired, the call has been notified
  /// already.
  void leave(detail::one_shot<V>& call) {
    if (given_up()) {
      call.drop_reference();
    } else {
      call.abandon();
    }
  }

  /// Consumes the handle: returns the result, or why there is none.
  outcome<V> take(detail::wait_verdict wait_result) {
    using detail::wait_verdict;
    detail::require(call_ != nullptr, "pending_result: used twice, or after a move");
    state = detail::wait_state::idle;  // it has resumed, or was never listed
    detail::one_shot<V>& call = detach();
    if (wait_result == wait_verdict::outcome) return call.take();
    leave(call);
    return errc_of(wait_result);
  }

  outcome<V> blocked_outcome(const limits& bounds) {
    return take(settled() ? verdict.load(detail::memory_order_relaxed) : call_->sleep(bounds));
  }

  detail::one_shot<V>* call_;  // with a reference of its own
};

SINGLEFLIGHT_END_NAMESPACE
