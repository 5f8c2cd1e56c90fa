// SPDX-License-Identifier: Apache-2.0
#pragma once

// flight_share: a handle's share of a flight, and how it waits and leaves. The base class of
// flight, and of a handle that returns its value in another form.

#include <chrono>
#include <coroutine>
#include <memory>
#include <new>
#include <utility>

#include "singleflight/core/handle_wait.hpp"
#include "singleflight/core/outcome.hpp"
#include "singleflight/core/support/require.hpp"
#include "singleflight/flight/detail/async_wait.hpp"
#include "singleflight/flight/detail/owned_load.hpp"
#include "singleflight/flight/detail/result_door.hpp"
#include "singleflight/flight/detail/rules.hpp"
#include "singleflight/flight/shared_result.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

template <class V>
class flight_share : protected handle_base {
 public:
  using time_point = std::chrono::steady_clock::time_point;

  /// Takes over a reference and an interest on `b`, which is null in a share that was moved from.
  flight_share(flight_block<V>* b, flight_role role, std::uint32_t kept) noexcept
      : role_(role), kept_(kept), block_(b) {}
  flight_share(flight_share&& other) noexcept
      : role_(other.role_), kept_(other.kept_), block_(std::exchange(other.block_, nullptr)) {
    require(other.state == wait_state::idle, "flight: moved while it waits");
  }
  flight_share& operator=(flight_share&& other) noexcept {
    if (this != &other) {
      std::destroy_at(this);
      ::new (static_cast<void*>(this)) flight_share(std::move(other));
    }
    return *this;
  }
  ~flight_share() {
    if (block_ == nullptr) return;
    const bool done = block_->done();
    if (state != wait_state::idle) detail::take_out(*block_, *this, block_->room.batch);
    if (done || !platform::holds(rule::handle_leaves)) {
      block_->drop_reference();
    } else {
      leave(wait_verdict::outcome);
    }
  }

  /// Returns the outcome of a done flight; takes over the caller's reference.
  static outcome<shared_result<V>> outcome_of(flight_block<V>& b, flight_role role) {
    if (b.result == flight_result::value) {
      return result_door::make_share(b, role);
    }
    struct dropping {
      flight_block<V>& b;
      ~dropping() { b.drop_reference(); }
    } const drop{b};
    if (b.result == flight_result::error) return b.error;
    return b.code;
  }

 protected:
  template <class, class, bool, class>
  friend class singleflight::handle_wait;
  friend handle_access;
  friend recorded_within;

  // ---- for handle_wait --------------------------------------------------------------------------
  using batch_type = flight_batch;
  using within_type = recorded_within;
  wait_graph::target graph_target() const noexcept { return detail::target_of(*block_); }
  timer& clock() const noexcept { return *block_->clock; }
  batch_type& home_batch() const noexcept { return block_->room.batch; }
  batch_type* batch_on(const any_executor& executor) {
    return detail::batch_for(*block_, executor);
  }
  bool enrol(batch_type& batch, const steady_time* deadline, bool always) {
    return detail::enrol(*block_, *this, batch, deadline, always);
  }
  void cancel(batch_type& batch, wait_verdict why) {
    detail::cancel_wait(*block_, *this, batch, why, stake());
  }
  void take_out(batch_type& batch) noexcept {
    detail::take_out(*block_, *this, batch);
    const wait_verdict why = verdict.load(memory_order_relaxed);
    if (why != wait_verdict::outcome) spend(why);
  }
  void end_limit() noexcept { detail::end_limit(*block_, *this); }

  bool suspend(std::coroutine_handle<> frame) {
    target = reinterpret_cast<std::uintptr_t>(frame.address());
    return detail::enrol(*block_, *this, block_->room.batch, nullptr, false);
  }
  bool settled() const {
    require(block_ != nullptr, "flight: used twice, or after a move");
    return block_->done();
  }
  /// Waits without consuming the handle; returns false if a limit expired. Throws if it would never
  /// end.
  bool look(const limits& bounds) {
    if (settled()) return true;
    const wait_verdict ended = blocked_wait(*block_, bounds, blocked_wait::form::look).wait();
    if (ended == wait_verdict::recursive) throw flight_error(flight_errc::recursive);
    return ended == wait_verdict::outcome;
  }

  outcome<shared_result<V>> blocked_outcome(const limits& bounds,
                                            blocked_wait::form how = blocked_wait::form::take) {
    if (settled()) return take(wait_verdict::outcome);
    blocked_wait wait(*block_, bounds, how, stake());
    const wait_verdict ended = wait.wait();
    if (ended == wait_verdict::outcome) return take(ended);
    block_ = nullptr;
    wait.leave(ended);
    return errc_of(ended);
  }
  /// Consumes the handle: returns the outcome, or the error of a suspended wait that a limit ended;
  /// the interest has ended with that verdict.
  outcome<shared_result<V>> take(wait_verdict why) {
    require(block_ != nullptr, "flight: used twice, or after a move");
    state = wait_state::idle;
    flight_block<V>& b = *std::exchange(block_, nullptr);
    if (why == wait_verdict::outcome) return outcome_of(b, role_);
    part(b, why);
    return errc_of(why);
  }
  /// Ends a suspended wait that was cancelled; drops the reference on `b` (C3).
  void part(block_base& b, wait_verdict why) {
    if (!platform::holds(rule::cancelled_counts_no_more)) {
      flight_core::leave(b, why, false, kept_, role_ == flight_role::leader);
    } else if (why == wait_verdict::timed_out && platform::holds(rule::resumed_runs_errands) &&
               !(b.done() && b.generation != fork_list::generation &&
                 platform::holds(rule::resumed_leaves_what_is_done))) {  // V4
      flight_core::run_errands(b);
    } else {
      b.drop_reference();
    }
  }
  void leave(wait_verdict why) {
    block_base* const b = std::exchange(block_, nullptr);
    flight_core::leave(*b, why, false, kept_, role_ == flight_role::leader);
  }
  flight_core::stake stake() const noexcept {
    return {.lender = false, .serial = kept_, .leader = role_ == flight_role::leader};
  }
  /// Called when the coroutine was destroyed after its verdict, which the next use of the handle
  /// returns.
  SINGLEFLIGHT_COLD void spend(wait_verdict why) noexcept {
    flight_block<V>* spent = nullptr;
    try {
      spent =
          new flight_block<V>(*block_->core, block_->executor, *block_->clock, flight_phase::done);
      spent->counts.store(block_base::one_reference, memory_order_relaxed);
      spent->result = flight_result::code;
      spent->code = errc_of(why);
    } catch (const std::bad_alloc&) {  // then the handle counts as used
    }
    part(*std::exchange(block_, spent), why);
    verdict.store(wait_verdict::outcome, memory_order_relaxed);
  }

  flight_role role_;
  std::uint32_t kept_;  // the serial of a load kept with the flight
  flight_block<V>* block_;
};

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE
