// SPDX-License-Identifier: Apache-2.0
#pragma once

/// flight: one caller's share of a load that was started; one-shot, like std::future.
///
/// Use when    the caller does not run the load itself, but awaits it, waits with a limit, or is
///             called back.
/// Threads     one thread at a time; different handles of one flight from different threads.
/// Ordering    the load's effects happen-before the return of get and co_await, and every callback
///             (P7).
/// Blocking    get, get_outcome, wait and wait_for block; co_await suspends; on_ready returns at
///             once. On a thread of the pool in which the load is still queued, a wait runs that
///             load (the handle's own, or the one that it waits behind). A wait with limits does so
///             only if no thread of the pool is free for it; it may then end after its limit.
/// Cancel      destroying the handle leaves the flight; once no caller is left, the group's
///             on_abandon decides what happens to the load (P6). A limit ends the wait that it was
///             given to, and with it this caller's interest: at once, however late its executor
///             resumes the caller (P4).
/// Errors      the load's exception with its own type; flight_error for the library's own. Using a
///             handle a second time fails an assertion; awaiting a temporary does not compile.
/// Ordering    of resumptions on one executor: in the order in which they began to wait, two at a
///             time if it has threads for that; a resumed coroutine that blocks may delay half of
///             the others.
/// Lifetime    independent of the group once the load is done; until then the group waits for the
///             load. A coroutine that waits may be destroyed in a task of the executor on which it
///             would resume, if that executor runs one task at a time (not on a pool: another
///             thread may be resuming it), or if nothing can resume it (P8).
/// Cost        48 bytes, in the caller's frame; waiting allocates nothing, except one allocation
///             for on_ready, for within, and per executor named by on().

#include <chrono>
#include <coroutine>
#include <memory>
#include <new>
#include <optional>
#include <utility>

#include "singleflight/core/handle_wait.hpp"
#include "singleflight/core/outcome.hpp"
#include "singleflight/core/support/require.hpp"
#include "singleflight/core/support/stop_token.hpp"
#include "singleflight/flight/detail/flight_share.hpp"
#include "singleflight/flight/detail/result_door.hpp"
#include "singleflight/flight/shared_result.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE

template <class V>
class flight;
template <class Key, class Value, class Hash, class Equal>
class group;
namespace detail {
struct group_door;
}

/// A wait on a flight with limits, an executor, a load, or without throwing.
template <class V, class Executor = detail::no_executor, bool AsOutcome = false,
          class Within = detail::no_within>
using flight_wait = handle_wait<flight<V>, Executor, AsOutcome, Within>;

template <class V>
class [[nodiscard]] flight : public detail::handle_of<flight<V>>, private detail::flight_share<V> {
  using share = detail::flight_share<V>;
  using share::block_;
  using share::role_;
  using share::settled;
  using share::state;
  using share::target;
  using typename share::time_point;

 public:
  using value_type = V;
  using result = shared_result<V>;
  static constexpr bool calls_back = true;

  flight(flight&&) noexcept = default;
  flight& operator=(flight&&) noexcept = default;
  ~flight() = default;

  // ---- blocking ---------------------------------------------------------------------------------
  shared_result<V> get() { return get_outcome().value(); }
  outcome<shared_result<V>> get_outcome() { return blocked_outcome({}); }
  /// Waits without consuming the handle.
  void wait() { share::look({}); }
  /// Returns true once the outcome is available, or false after `duration`. Neither consumes the
  /// handle nor leaves the flight.
  template <class Rep, class Period>
  [[nodiscard]] bool wait_for(std::chrono::duration<Rep, Period> duration) {
    if (settled()) return true;
    return wait_until(detail::deadline_after(block_->clock->now(), duration));
  }
  [[nodiscard]] bool wait_until(time_point deadline) {
    return share::look({.deadline = deadline, .stop = {}, .within = {}});
  }
  /// Whether get and co_await would return at once.
  [[nodiscard]] bool ready() const noexcept { return settled(); }

  // ---- awaiting ---------------------------------------------------------------------------------
  class awaiter {
   public:
    explicit awaiter(flight& awaited) noexcept : flight_(awaited) {}
    bool await_ready() const { return flight_.settled(); }
    bool await_suspend(std::coroutine_handle<> frame) { return flight_.suspend(frame); }
    shared_result<V> await_resume() {
      if (flight_.block_->result == detail::flight_result::value) [[likely]] {
        flight_.state = detail::wait_state::idle;
        detail::block_base& done = *std::exchange(flight_.block_, nullptr);
        return detail::result_door::make_share(static_cast<detail::flight_block<V>&>(done),
                                               flight_.role_);
      }
      return flight_.take(detail::wait_verdict::outcome).value();
    }

   private:
    flight& flight_;
  };
  awaiter operator co_await() & noexcept { return awaiter(*this); }
  using detail::handle_of<flight>::operator co_await;

  /// Names the load that the following wait belongs to; that load does not end before the wait.
  /// (For limits and executors: until, on, as_outcome.)
  flight_wait<V, detail::no_executor, false, detail::recorded_within> within(
      const flight_context& context) & {
    return {*this, time_point::max(), {}, within_ref(context), {}};
  }
  flight_wait<V, detail::no_executor, false, detail::recorded_within> within(
      const flight_context&) && = delete;

  // ---- letting go -------------------------------------------------------------------------------
  /// Calls `callback(outcome<shared_result<V>>)` once, on the group's executor, never in this call.
  template <class Callback>
  void on_ready(Callback&& callback) && {
    call_back<detail::no_within>(time_point::max(), {}, {}, detail::no_executor{},
                                 std::forward<Callback>(callback));
  }
  /// Like on_ready(callback), but on `executor`.
  template <class Callback>
  void on_ready(any_executor executor, Callback&& callback) && {
    call_back<detail::no_within>(time_point::max(), {}, {}, std::move(executor),
                                 std::forward<Callback>(callback));
  }
  /// Lets the load continue without this caller, which still counts as interested, so that the load
  /// is not abandoned. `max_waiters` no longer counts it, unless its own load may lead later.
  void detach() && {
    if (detail::block_base* const b = std::exchange(block_, nullptr)) {
      // A caller whose load is kept may lead later: max_waiters then spares it as the leader, and
      // must not spare it twice.
      if (role_ == flight_role::joiner && this->stake().serial == 0) {
        b->detached.fetch_add(1, detail::memory_order_relaxed);
      }
      b->drop_reference();
    }
  }

 private:
  template <class, class, bool, class>
  friend class singleflight::handle_wait;
  friend detail::handle_access;
  template <class, class, class, class>
  friend class singleflight::group;
  friend detail::group_door;
  friend detail::recorded_within;

  explicit flight(const detail::started_share& begun) noexcept : share(begun) {}

  template <class Executor, class Callback, class Within>
  struct callback_state;

  using typename share::batch_type;
  using typename share::within_type;

  outcome<shared_result<V>> blocked_outcome(
      const limits& bounds, detail::blocked_wait::form how = detail::blocked_wait::form::take) {
    return share::blocked_outcome(bounds, how);
  }

  template <class Within, class Executor, class Callback>
  void call_back(time_point deadline, std::stop_token stop, within_ref within, Executor executor,
                 Callback&& callback);
};

SINGLEFLIGHT_END_NAMESPACE

#include "singleflight/flight/impl/flight_on_ready.hpp"
