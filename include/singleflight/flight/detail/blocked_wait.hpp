// SPDX-License-Identifier: Apache-2.0
#pragma once

// blocked_wait: a thread that waits for a flight.
//
// All blocked threads of a flight sleep on one word, its `state`, and one wake-all publishes:
// nobody waits for the completer's walk (P4), and nobody has to leave a list on the way out. A
// thread that can be told apart (it can lead, or has a limit) listens on a channel of its own, one
// of 29 that a wake can name.

#include <algorithm>
#include <exception>
#include <optional>

#include "singleflight/core/support/stop_token.hpp"
#include "singleflight/core/support/wait_graph.hpp"
#include "singleflight/flight/detail/flight_core.hpp"
#include "singleflight/flight/detail/rules.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

/// A flight, for the graph of those who wait.
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
    run,   ///< can lead, and leaves when a limit strikes
    take,  ///< leaves when a limit strikes
    join,  ///< the same; runs at once what it finds queued, in spite of its limits
    bide,  ///< the same; runs nothing itself: its caller has something else when a limit strikes
    look,  ///< stays with the flight whatever happens
  };
  blocked_wait(block_base& block, const limits& bounds, form as,
               const flight_core::stake& stake = {}) noexcept
      : block_(block),
        bounds_(bounds),
        form_(as),
        can_lead_(as == form::run),
        stake_(stake),
        alarm_(*this) {
    alarm_.when = bounds.deadline;  // before it is armed: from then on it is the timer's
  }
  blocked_wait(const blocked_wait&) = delete;
  blocked_wait& operator=(const blocked_wait&) = delete;

  /// How the wait ended. After `lead` the caller leads the flight; after the others but `outcome`
  /// (and unless it was a look) it has to leave() it. The verdict of a thread that sleeps is its
  /// own: until it is scheduled again to find its limit past, it waits.
  wait_verdict wait();

  /// What follows from the verdict of wait(); drops the caller's reference. The interest of one who
  /// has come to its limit has ended with the verdict, in decide().
  void leave(wait_verdict why);

 private:
  static constexpr int spins = 64;

  struct waker {
    blocked_wait* wait;
    void operator()() const noexcept { wait->block_.wake(block_base::channel_of(wait->node_)); }
  };
  /// Rings at the deadline, where the kernel cannot time the sleep.
  struct alarm : thread_timer_node {
    explicit alarm(blocked_wait& w) noexcept
        : thread_timer_node(
              [](timer_node& n) noexcept {
                blocked_wait& to = static_cast<alarm&>(n).wait;
                to.block_.wake(block_base::channel_of(to.node_));
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

  /// It is to look at its record. From another thread, which cannot know what it listens to.
  static void wake_from_graph(void* waiter) noexcept {
    static_cast<blocked_wait*>(waiter)->block_.wake(platform::all_channels);
  }

  bool bounded() const noexcept { return bounds_.deadline != steady_time::max(); }
  /// A wait without limits runs what it finds queued. One with limits leaves that to the executor,
  /// unless that is short of threads: a load cannot be left, and its deadline is advice then.
  bool runs_at_once() const noexcept {
    return form_ == form::join || (!bounded() && !bounds_.stop.stop_possible());
  }
  /// In this order: a limit that strikes asks from another thread, and `listed_` is this thread's.
  bool has_own_channel() const noexcept {
    return bounded() || bounds_.stop.stop_possible() || listed_;
  }
  /// What this thread listens to; asked by itself only.
  std::uint32_t channel() const noexcept {
    return (has_own_channel() ? block_base::channel_of(node_) : block_base::common_channel) |
           (may_run_ ? block_base::claimer_channel : 0);
  }

  /// A thread that the executor runs its tasks on must not wait for its own queue: while the load
  /// that it waits for is still queued there, it is run here. That is the load of its own flight,
  /// or of the one which that stands behind, and those gathered with it; never a stranger's.
  void run_if_queued();

  /// A load that this thread is to run: by itself, or with those that it was gathered with.
  struct claimed {
    load_base* load = nullptr;
    std::shared_ptr<gathering> others{};
  };
  static claimed claim_locked(block_base& b) noexcept;

  /// `lead` when the flight is there for the taking, else `outcome`: nothing decided yet.
  wait_verdict enrol() noexcept;

  void take_lead_locked() noexcept;

  wait_verdict sleep();

  /// Settles `verdict` under the lock; false: look again. A thread that was elected and has run
  /// into its limit gives the place back, which passes it on.
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
