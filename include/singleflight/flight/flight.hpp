// SPDX-License-Identifier: Apache-2.0
#pragma once

/// flight: one caller's share of a load that was started; one-shot, like std::future.
///
/// Use when    the caller does not want to lead: to await, to wait with a limit, or to be called
///             back.
/// Threads     one thread at a time; different handles of one flight from different threads.
/// Ordering    the load's effects happen-before the return of get and co_await, and every callback
///             (P7).
/// Blocking    get, get_outcome, wait and wait_for block; co_await suspends; on_ready returns at
///             once. On a thread of the pool where the load is still queued, an unlimited wait runs
///             it (its own only).
/// Cancel      dropping the handle leaves; the last to leave stops the load, as the group says
///             (P6). A limit ends the wait it is given to, and with it this caller's interest.
/// Errors      the load's exception with its own type; flight_error for the library's own. A second
///             use of a handle, and awaiting a temporary, are refused: an assertion, and a compile
///             error.
/// Ordering    of resumptions on one executor: as they began to wait, two at a time where it has
///             threads for that; a resumed coroutine that blocks may hold up half of the others.
/// Lifetime    independent of the group once the load is done; the group waits for the load
///             otherwise. A coroutine that waits may be destroyed on the executor where it would
///             resume (P8).
/// Cost        48 bytes, in the caller's frame; no allocation to wait, but one for on_ready, for
///             within, and per executor named by on().

#include <chrono>
#include <coroutine>
#include <memory>
#include <new>
#include <optional>
#include <stop_token>
#include <utility>

#include "singleflight/core/detail/require.hpp"
#include "singleflight/core/handle_wait.hpp"
#include "singleflight/core/outcome.hpp"
#include "singleflight/flight/detail/async_wait.hpp"
#include "singleflight/flight/detail/load.hpp"
#include "singleflight/flight/shared_result.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE

template <class V>
class flight;
template <class Key, class Value, class Hash, class Equal>
class batcher;

/// A wait on a flight with limits, an executor, a load, or without throwing.
template <class V, class Executor = detail::no_executor, bool AsOutcome = false,
          class Within = detail::no_within>
using flight_wait = handle_wait<flight<V>, Executor, AsOutcome, Within>;

template <class V>
class [[nodiscard]] flight : public detail::handle_of<flight<V>>, private detail::handle_base {
  using time_point = std::chrono::steady_clock::time_point;

 public:
  using value_type = V;
  using result = shared_result<V>;
  static constexpr bool calls_back = true;

  flight(flight&& other) noexcept
      : role_(other.role_), kept_(other.kept_), block_(std::exchange(other.block_, nullptr)) {
    detail::require(other.state == detail::wait_state::idle, "flight: moved while it waits");
  }
  flight& operator=(flight&& other) noexcept {
    if (this != &other) {
      this->~flight();
      ::new (static_cast<void*>(this)) flight(std::move(other));
    }
    return *this;
  }
  ~flight() {
    if (block_ == nullptr) return;
    if (block_->done()) {
      if (state != detail::wait_state::idle) detail::take_out(*block_, *this, block_->room.batch);
      block_->drop_reference();
      return;
    }
    if (state != detail::wait_state::idle) detail::take_out(*block_, *this, block_->room.batch);
    if (detail::platform::holds(detail::rule::handle_leaves)) {
      leave(detail::wait_verdict::outcome);
    } else {
      block_->drop_reference();
    }
  }

  // ---- blocking ---------------------------------------------------------------------------------
  shared_result<V> get() { return get_outcome().value(); }
  outcome<shared_result<V>> get_outcome() { return blocked_outcome({}); }
  /// Waits without consuming.
  void wait() {
    if (!settled())
      check(detail::blocked_wait(*block_, no_limits, detail::blocked_wait::form::look).wait());
  }
  /// True once the outcome is there; false after `duration`. Does not consume, does not leave.
  template <class Rep, class Period>
  [[nodiscard]] bool wait_for(std::chrono::duration<Rep, Period> duration) {
    if (settled()) return true;
    return wait_until(detail::deadline_after(block_->clock->now(), duration));
  }
  [[nodiscard]] bool wait_until(time_point deadline) {
    if (settled()) return true;
    const limits bounds{.deadline = deadline, .stop = {}, .within = {}};
    return check(detail::blocked_wait(*block_, bounds, detail::blocked_wait::form::look).wait()) ==
           detail::wait_verdict::outcome;
  }
  /// Whether get and co_await would return at once.
  [[nodiscard]] bool ready() const noexcept { return settled(); }

  // ---- awaiting ---------------------------------------------------------------------------------
  class awaiter {
   public:
    explicit awaiter(flight& of) noexcept : of_(of) {}
    bool await_ready() const { return of_.settled(); }
    bool await_suspend(std::coroutine_handle<> frame) {
      of_.target = reinterpret_cast<std::uintptr_t>(frame.address());
      return detail::enrol(*of_.block_, of_, of_.block_->room.batch, nullptr, false);
    }
    shared_result<V> await_resume() {
      if (of_.block_->result == detail::flight_result::value) [[likely]] {
        of_.state = detail::wait_state::idle;
        return {typename shared_result<V>::from_block{}, *std::exchange(of_.block_, nullptr),
                of_.role_};
      }
      return of_.take(detail::wait_verdict::outcome).value();
    }

   private:
    flight& of_;
  };
  awaiter operator co_await() & noexcept { return awaiter(*this); }
  using detail::handle_of<flight>::operator co_await;

  /// The load that the wait that follows belongs to. (For limits and places: until, on,
  /// as_outcome.)
  flight_wait<V, detail::no_executor, false, detail::flight_within> within(
      const flight_context& context) & {
    return {*this, time_point::max(), {}, within_ref(context), {}};
  }
  flight_wait<V, detail::no_executor, false, detail::flight_within> within(
      const flight_context&) && = delete;

  // ---- letting go -------------------------------------------------------------------------------
  /// Calls `callback(outcome<shared_result<V>>)` once, on the group's executor, never in this call.
  template <class Callback>
    requires std::invocable<std::decay_t<Callback>&, outcome<shared_result<V>>>
  void on_ready(Callback&& callback) && {
    call_back<detail::no_within>(time_point::max(), {}, {}, detail::no_executor{},
                                 std::forward<Callback>(callback));
  }
  /// The same on `executor`.
  template <class Callback>
  void on_ready(any_executor executor, Callback&& callback) && {
    call_back<detail::no_within>(time_point::max(), {}, {}, std::move(executor),
                                 std::forward<Callback>(callback));
  }
  /// The load goes on without this caller, and is not abandoned on its account.
  void detach() && {
    if (detail::block_base* const b = std::exchange(block_, nullptr)) b->drop_reference();
  }

  // For the group: a share of `b`, reference and interest included.
  flight(detail::flight_block<V>& b, flight_role role, std::uint32_t kept) noexcept
      : role_(role), kept_(kept), block_(&b) {}

 private:
  template <class, class, bool, class>
  friend class singleflight::handle_wait;
  template <class, class, class, class>
  friend class singleflight::batcher;

  template <class Executor, class Callback, class Within>
  struct callback_state;

  // ---- for handle_wait --------------------------------------------------------------------------
  using batch_type = detail::flight_batch;
  using within_type = detail::flight_within;
  friend within_type;
  timer& clock() const noexcept { return *block_->clock; }
  batch_type& home_batch() const noexcept { return block_->room.batch; }
  batch_type& batch_on(const any_executor& executor) {
    return detail::batch_for(*block_, executor);
  }
  bool enrol(batch_type& batch, const detail::steady_time* deadline, bool always) {
    return detail::enrol(*block_, *this, batch, deadline, always);
  }
  void cancel(batch_type& batch, detail::wait_verdict why) {
    detail::cancel_wait(*block_, *this, batch, why);
  }
  void take_out(batch_type& batch) noexcept { detail::take_out(*block_, *this, batch); }
  void end_limit() noexcept { detail::end_limit(*block_, *this); }

  bool settled() const {
    detail::require(block_ != nullptr, "flight: used twice, or after a move");
    return block_->done();
  }

  void leave(detail::wait_verdict why) {
    detail::block_base* const b = std::exchange(block_, nullptr);
    detail::flight_core::leave(*b, why, false, kept_, role_ == flight_role::leader);
  }

  /// A wait that does not consume fails in one way only: it would never end.
  static detail::wait_verdict check(detail::wait_verdict how) {
    if (how == detail::wait_verdict::recursive) throw flight_error(flight_errc::recursive);
    return how;
  }

  outcome<shared_result<V>> blocked_outcome(
      const limits& bounds, detail::blocked_wait::form how = detail::blocked_wait::form::take) {
    if (settled()) return take(detail::wait_verdict::outcome);
    return take(detail::blocked_wait(*block_, bounds, how).wait());
  }

  /// Consumes: the outcome, or the error of a wait that ended without, after leaving.
  outcome<shared_result<V>> take(detail::wait_verdict how) {
    using detail::wait_verdict;
    detail::require(block_ != nullptr, "flight: used twice, or after a move");
    if (how == wait_verdict::outcome) {
      detail::flight_block<V>* const b = std::exchange(block_, nullptr);
      state = detail::wait_state::idle;
      return outcome_of(*b, role_);
    }
    state = detail::wait_state::idle;
    leave(how);
    return how == wait_verdict::timed_out   ? flight_errc::timed_out
           : how == wait_verdict::cancelled ? flight_errc::cancelled
                                            : flight_errc::recursive;
  }

 public:
  /// The outcome of a done flight; takes over the caller's reference.
  static outcome<shared_result<V>> outcome_of(detail::flight_block<V>& b, flight_role role) {
    using detail::flight_result;
    if (b.result == flight_result::value) {
      return shared_result<V>(typename shared_result<V>::from_block{}, b, role);
    }
    struct dropping {
      detail::flight_block<V>& b;
      ~dropping() { b.drop_reference(); }
    } const drop{b};
    if (b.result == flight_result::error) return b.error;
    return b.code;
  }

 private:
  template <class Within, class Executor, class Callback>
  void call_back(time_point deadline, std::stop_token stop, within_ref within, Executor executor,
                 Callback&& callback);

  static inline const limits no_limits{};

  flight_role role_ = flight_role::joiner;
  std::uint32_t kept_ = 0;  // the serial of a load kept with the flight
  detail::flight_block<V>* block_ = nullptr;
};

SINGLEFLIGHT_END_NAMESPACE

#include "singleflight/flight/detail/flight_callback.hpp"
