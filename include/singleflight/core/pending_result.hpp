// SPDX-License-Identifier: Apache-2.0
#pragma once

/// pending_result: the result of one call that was started; one-shot, like std::future.
///
/// Use when    never by name: start_retry returns one, to be awaited, or blocked on.
/// Not for     several who want one answer: flight (flight/flight.hpp).
/// Threads     one thread at a time.
/// Ordering    the call's effects happen-before the return of get and co_await.
/// Blocking    get and get_outcome block; co_await suspends.
/// Cancel      dropping the handle tells the call that nobody wants its result, and so does a limit
///             that ends the wait it was given to, before the waiter is resumed.
/// Errors      the call's exception with its own type; flight_error for the library's own. A second
///             use, a move while it waits, and awaiting a temporary are refused: two assertions,
///             and a compile error.
/// Lifetime    independent of what has started the call. A coroutine that waits may be destroyed in
///             a task of the executor where it would resume, if that runs one task at a time.
/// Cost        stands in the caller's frame; no allocation to wait, but one for on().

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

  pending_result(pending_result&& other) noexcept : of_(std::exchange(other.of_, nullptr)) {
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
    if (of_ != nullptr) part(let_go());
  }

  /// Blocks until the result is there; it, or what was thrown, or flight_error.
  V get() { return get_outcome().value(); }
  outcome<V> get_outcome() { return blocked_outcome({}); }
  /// Whether get and co_await would return at once.
  [[nodiscard]] bool ready() const noexcept { return settled(); }

  class awaiter {
   public:
    explicit awaiter(pending_result& of) noexcept : of_(of) {}
    bool await_ready() const noexcept { return of_.settled(); }
    bool await_suspend(std::coroutine_handle<> frame) {
      of_.target = reinterpret_cast<std::uintptr_t>(frame.address());
      return of_.enrol(of_.home_batch(), nullptr, false);
    }
    V await_resume() { return of_.take(of_.verdict.load(detail::memory_order_relaxed)).value(); }

   private:
    pending_result& of_;
  };
  awaiter operator co_await() & noexcept { return awaiter(*this); }

  /// The load that the wait that follows belongs to.
  handle_wait<pending_result, detail::no_executor, false, detail::recorded_within> within(
      const within_ref& load) & {
    return {*this, detail::steady_time::max(), {}, load, {}};
  }
  void within(const within_ref&) && = delete;
  using detail::handle_of<pending_result>::operator co_await;

  /// For what has started the call: takes over the handle's reference.
  explicit pending_result(detail::one_shot<V>& of) noexcept : of_(&of) {}

 private:
  template <class, class, bool, class>
  friend class handle_wait;
  friend detail::handle_access;
  friend detail::recorded_within;

  bool settled() const noexcept {
    detail::require(of_ != nullptr, "pending_result: used twice, or after a move");
    return of_->settled() || given_up();
  }
  bool given_up() const noexcept {
    return verdict.load(detail::memory_order_relaxed) != detail::wait_verdict::outcome;
  }

  // ---- for handle_wait --------------------------------------------------------------------------
  using batch_type = detail::one_shot_base::batch_type;
  using within_type = detail::recorded_within;
  detail::wait_graph::target graph_target() const noexcept { return of_->graph_target(); }
  timer& clock() const noexcept { return of_->clock; }
  batch_type& home_batch() const noexcept { return of_->home; }
  batch_type* batch_on(const any_executor& executor) { return batch_type::make(*of_, executor); }
  bool enrol(batch_type& on, const detail::steady_time*, bool always) {
    return of_->enrol(*this, on, always);
  }
  void cancel(batch_type&, detail::wait_verdict why) { of_->give_up(*this, why); }
  void take_out(batch_type&) noexcept { of_->take_out(*this); }
  void end_limit() noexcept {}

  /// Parts from the call; what is returned is to take() or part().
  detail::one_shot<V>& let_go() noexcept {
    detail::one_shot<V>& of = *std::exchange(of_, nullptr);
    if (state != detail::wait_state::idle) of.take_out(*this);
    return of;
  }

  /// The result is not taken. A limit that has struck has told the call already.
  void part(detail::one_shot<V>& of) {
    if (given_up()) {
      of.drop_reference();
    } else {
      of.abandon();
    }
  }

  /// Consumes: the result, or why there is none.
  outcome<V> take(detail::wait_verdict how) {
    using detail::wait_verdict;
    detail::require(of_ != nullptr, "pending_result: used twice, or after a move");
    state = detail::wait_state::idle;  // it has resumed, or never was in a list
    detail::one_shot<V>& of = let_go();
    if (how == wait_verdict::outcome) return of.take();
    part(of);
    return errc_of(how);
  }

  outcome<V> blocked_outcome(const limits& bounds) {
    return take(settled() ? verdict.load(detail::memory_order_relaxed) : of_->sleep(bounds));
  }

  detail::one_shot<V>* of_;  // with a reference of its own
};

SINGLEFLIGHT_END_NAMESPACE
