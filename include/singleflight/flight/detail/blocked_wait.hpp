// SPDX-License-Identifier: Apache-2.0
#pragma once

// blocked_wait: a thread that waits for a flight.
//
// All blocked threads of a flight sleep on one word, its `state`, and one call wakes them all: no
// thread waits until the publishing thread has walked a list (P4), and none has to leave a list
// when it wakes. A thread that must be woken individually (it can lead, or has a limit) waits on
// one of 29 channels.

#include <algorithm>
#include <exception>
#include <optional>

#include "singleflight/core/support/stop_token.hpp"
#include "singleflight/core/support/wait_graph.hpp"
#include "singleflight/flight/detail/flight_core.hpp"
#include "singleflight/flight/detail/rules.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

/// Describes a flight to the wait graph.
inline wait_graph::target target_of(const block_base& b) noexcept {
  return {.id = b.id,
          .behind = &b.behind,
          .word = &b.state,
          .mask = block_base::phase_bits,
          .over = static_cast<std::uint32_t>(flight_phase::done)};
}

class blocked_wait {
 public:
  enum class form : std::uint8_t {
    run,   ///< can lead; leaves when a limit expires
    take,  ///< leaves when a limit expires
    join,  ///< like take, but runs a queued load at once, in spite of its limits
    bide,  ///< like take, but never runs a load: its caller has another value to return
    look,  ///< never leaves the flight
  };
  blocked_wait(block_base& block, const limits& bounds, form as,
               const flight_core::stake& stake = {}) noexcept
      : block_(block),
        bounds_(bounds),
        form_(as),
        can_lead_(as == form::run),
        stake_(stake),
        alarm_(*this) {
    alarm_.when = bounds.deadline;  // before it is armed: then it belongs to the timer
  }
  blocked_wait(const blocked_wait&) = delete;
  blocked_wait& operator=(const blocked_wait&) = delete;

  /// Returns how the wait ended. After `lead` the caller leads the flight; after `outcome` it has
  /// the outcome; otherwise it must leave() the flight, unless this was a look. A sleeping thread
  /// decides its own verdict: it waits until it is scheduled again and finds its limit expired.
  wait_verdict wait();

  /// Leaves the flight after wait(); drops the caller's reference. If a limit ended the wait, the
  /// caller's interest has ended with the verdict, in decide().
  void leave(wait_verdict why);

 private:
  static constexpr int spins = 64;

  struct waker {
    blocked_wait* wait;
    void operator()() const noexcept { wait->block_.wake(block_base::channel_of(wait->node_)); }
  };
  /// Fires at the deadline, if the kernel cannot time the sleep.
  struct alarm : thread_timer_node {
    explicit alarm(blocked_wait& w) noexcept
        : thread_timer_node(
              [](timer_node& n) noexcept {
                blocked_wait& woken = static_cast<alarm&>(n).wait;
                woken.block_.wake(block_base::channel_of(woken.node_));
              },
              this_thread()),
          wait(w) {}
    blocked_wait& wait;
  };
  struct armed_alarm {
    explicit armed_alarm(blocked_wait& w) : wait(w) {
      if (wait.bounded() && !wait.block_.clock->follows_steady_clock()) {
        wait.block_.clock->arm(wait.alarm_, wait.bounds_.deadline);
        armed = true;
      }
    }
    armed_alarm(const armed_alarm&) = delete;
    armed_alarm& operator=(const armed_alarm&) = delete;
    ~armed_alarm() {
      if (armed) wait.block_.clock->cancel(wait.alarm_);
    }
    blocked_wait& wait;
    bool armed = false;
  };

  /// Makes the waiter check its record in the wait graph. Called by another thread, which cannot
  /// know the waiter's channel and therefore wakes all channels of the flight.
  static void wake_from_graph(void* waiter) noexcept {
    static_cast<blocked_wait*>(waiter)->block_.wake(platform::all_channels);
  }

  bool bounded() const noexcept { return bounds_.deadline != steady_time::max(); }
  /// A wait without limits runs a load that it finds queued. A wait with limits leaves it to the
  /// executor, unless that is short of threads: a load that has begun cannot be left at a deadline.
  bool runs_at_once() const noexcept {
    return form_ == form::join || (!bounded() && !bounds_.stop.stop_possible());
  }
  /// The operands are in this order because, when a limit expires, another thread calls this, and
  /// may not read `listed_`.
  bool has_own_channel() const noexcept {
    return bounded() || bounds_.stop.stop_possible() || listed_;
  }
  /// Returns the channels of this thread; called by this thread only.
  std::uint32_t channel() const noexcept {
    return (has_own_channel() ? block_base::channel_of(node_) : block_base::common_channel) |
           (may_run_ ? block_base::claimer_channel : 0);
  }

  /// A thread of the executor must not wait for the executor's queue: if the load that it waits for
  /// is still queued there, it runs that load here. That may be the load of its own flight, or of
  /// the flight ahead, with the loads gathered with it; it never runs an unrelated load.
  void run_if_queued();

  /// A load that this thread must run: alone, or with those that it was gathered with.
  struct claimed {
    load_base* load = nullptr;
    std::shared_ptr<gathering> others{};
  };
  static claimed claim_locked(block_base& b) noexcept;

  /// Returns `lead` if the flight was vacant, so that this caller leads it; else `outcome`, which
  /// means that the wait is not decided yet.
  wait_verdict enrol() noexcept;

  void take_lead_locked() noexcept;

  wait_verdict sleep();

  /// Settles `verdict` under the lock; returns false if the caller must check again. If a thread
  /// was elected and its limit has expired, it gives the lead back, and its leaving elects the next
  /// one.
  bool decide(wait_verdict& verdict) noexcept;

  block_base& block_;
  const limits& bounds_;
  const form form_;
  const bool can_lead_;
  const flight_core::stake stake_;
  std::optional<flight_core::cancelled> cancelled_;
  bool listed_ = false;  // in block_.room.blocked, unless elected
  bool may_run_ = false;
  std::uint32_t last_look_ = ~std::uint32_t{0};
  waiter node_;
  alarm alarm_;
  wait_graph::record record_;
};

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE

#if !defined(SINGLEFLIGHT_COMPILED)
#include "singleflight/flight/impl/blocked_wait.hpp"
#endif
