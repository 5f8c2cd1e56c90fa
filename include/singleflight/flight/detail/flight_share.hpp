// SPDX-License-Identifier: Apache-2.0
#pragma once

// flight_share: a handle's share of a flight, and how it waits and leaves. The base class of
// flight, and of a handle that returns its value in another form.

#include <chrono>
#include <coroutine>
#include <cstdint>
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

/// The share that a call of start() begins with.
struct started_share {
  block_base* block = nullptr;  ///< with a reference and an interest
  flight_role role = flight_role::joiner;
  std::uint32_t kept = 0;  ///< the serial of its kept load
};

/// A share without the type of its value.
class share_base : protected handle_base {
 public:
  using time_point = std::chrono::steady_clock::time_point;

  /// Takes over a reference and an interest on `b`, which is null in a share that was moved from.
  share_base(block_base* b, flight_role role, std::uint32_t kept) noexcept
      : role_(role), kept_(kept), block_(b) {}
  explicit share_base(const started_share& begun) noexcept
      : share_base(begun.block, begun.role, begun.kept) {}
  share_base(share_base&& other) noexcept
      : role_(other.role_), kept_(other.kept_), block_(std::exchange(other.block_, nullptr)) {
    require(other.state == wait_state::idle, "flight: moved while it waits");
  }
  share_base& operator=(share_base&& other) noexcept {
    if (this != &other) {
      std::destroy_at(this);
      ::new (static_cast<void*>(this)) share_base(std::move(other));
    }
    return *this;
  }
  ~share_base() {
    if (block_ != nullptr) let_go();
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
  void take_out(batch_type& batch) noexcept;
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
  bool look(const limits& bounds);

  /// Waits until the flight is done, or until a limit ends the wait: then it has left the flight.
  wait_verdict wait_to_take(const limits& bounds, blocked_wait::form how);
  /// Consumes the handle: returns the block of a done flight with the caller's reference; null if
  /// `why` is the error of a suspended wait that a limit ended: the interest has ended with that
  /// verdict.
  block_base* consume(wait_verdict why) {
    require(block_ != nullptr, "flight: used twice, or after a move");
    state = wait_state::idle;
    block_base* const b = std::exchange(block_, nullptr);
    if (why == wait_verdict::outcome) return b;
    part(*b, why);
    return nullptr;
  }
  flight_core::stake stake() const noexcept {
    return {.lender = false, .serial = kept_, .leader = role_ == flight_role::leader};
  }

  flight_role role_;
  std::uint32_t kept_;  // the serial of a load kept with the flight
  block_base* block_;

 private:
  void let_go();
  /// Ends a suspended wait that was cancelled; drops the reference on `b` (C3).
  void part(block_base& b, wait_verdict why);
  /// Called when the coroutine was destroyed after its verdict, which the next use of the handle
  /// returns.
  void spend(wait_verdict why) noexcept;
};

template <class V>
class flight_share : public share_base {
 public:
  using share_base::share_base;

  /// Returns the outcome of a done flight; takes over the caller's reference.
  static outcome<shared_result<V>> outcome_of(block_base& b, flight_role role) {
    if (b.result == flight_result::value) {
      return result_door::make_share(static_cast<flight_block<V>&>(b), role);
    }
    struct dropping {
      block_base& b;
      ~dropping() { b.drop_reference(); }
    } const drop{b};
    if (b.result == flight_result::error) return b.error;
    return b.code;
  }

 protected:
  outcome<shared_result<V>> blocked_outcome(const limits& bounds,
                                            blocked_wait::form how = blocked_wait::form::take) {
    const wait_verdict ended = wait_to_take(bounds, how);
    if (ended != wait_verdict::outcome) return errc_of(ended);
    return take(ended);
  }
  /// Consumes the handle, whose wait has ended with `why`.
  outcome<shared_result<V>> take(wait_verdict why) {
    if (block_base* const b = consume(why)) return outcome_of(*b, role_);
    return errc_of(why);
  }
};

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE

#if !defined(SINGLEFLIGHT_COMPILED)
#include "singleflight/flight/impl/flight_share.hpp"
#endif
