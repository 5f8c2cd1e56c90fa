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
  blocked_wait(block_base& block, const limits& bounds, form how,
               const flight_core::stake& mine = {}) noexcept
      : block_(block),
        bounds_(bounds),
        form_(how),
        can_lead_(how == form::run),
        mine_(mine),
        alarm_(*this) {
    alarm_.when = bounds.deadline;  // before it is armed: from then on it is the timer's
  }
  blocked_wait(const blocked_wait&) = delete;
  blocked_wait& operator=(const blocked_wait&) = delete;

  /// How the wait ended. After `lead` the caller leads the flight; after the others but `outcome`
  /// (and unless it was a look) it has to leave() it. The verdict of a thread that sleeps is its
  /// own: until it is scheduled again to find its limit past, it waits.
  wait_verdict wait() {
    settle_promises();
    if (block_.done()) return wait_verdict::outcome;
    may_run_ = form_ != form::bide && block_.executor.runs_here();
    if (may_run_ && runs_at_once()) run_if_queued();
    const thread_state& self = this_thread();
    if ((self.led != nullptr || bounds_.within.frame != nullptr) &&
        !record_.enter(detail::target_of(block_), self.led, bounds_.within.frame,
                       wait_graph::strength::weak, &strike, this)) {
      return wait_verdict::recursive;
    }
    // A short load is over before a sleep would begin.
    for (int turn = 0; turn < platform::tuned(spins, 0); ++turn) {
      if (block_.done()) return wait_verdict::outcome;
      platform::pause();
    }
    std::optional<platform::stop_callback<poker>> on_stop;
    if (bounds_.stop.stop_possible()) on_stop.emplace(bounds_.stop, poker{this});
    const ringing ring(*this);  // before the lists are entered: arming may throw
    if (const wait_verdict verdict = enrol(); verdict != wait_verdict::outcome) return verdict;
    return sleep();
  }

  /// What follows from the verdict of wait(); drops the caller's reference. The interest of one who
  /// has come to its limit has ended with the verdict, in decide().
  void leave(wait_verdict why) {
    if (!cancelled_) {
      flight_core::leave(block_, why, mine_.lender, mine_.serial, mine_.leader);
      return;
    }
    const call_scope scope;
    flight_core::carry_out_cancel(block_, *cancelled_);
    block_.drop_reference();
  }

 private:
  static constexpr int spins = 64;

  struct poker {
    blocked_wait* wait;
    void operator()() const noexcept { wait->block_.poke(block_base::channel_of(wait->node_)); }
  };
  /// Rings at the deadline, where the kernel cannot time the sleep.
  struct alarm : thread_timer_node {
    explicit alarm(blocked_wait& w) noexcept
        : thread_timer_node(
              [](timer_node& n) noexcept {
                blocked_wait& to = static_cast<alarm&>(n).wait;
                to.block_.poke(block_base::channel_of(to.node_));
              },
              this_thread()),
          wait(w) {}
    blocked_wait& wait;
  };
  struct ringing {
    explicit ringing(blocked_wait& w) : wait(w) {
      if (wait.bounded() && !wait.block_.clock->follows_steady_clock()) {
        wait.block_.clock->arm(wait.alarm_, wait.bounds_.deadline);
        armed = true;
      }
    }
    ringing(const ringing&) = delete;
    ringing& operator=(const ringing&) = delete;
    ~ringing() {
      if (armed) wait.block_.clock->cancel(wait.alarm_);
    }
    blocked_wait& wait;
    bool armed = false;
  };

  /// It is to look at its record. From another thread, which cannot know what it listens to.
  static void strike(void* waiter) noexcept {
    static_cast<blocked_wait*>(waiter)->block_.poke(platform::all_channels);
  }

  bool bounded() const noexcept { return bounds_.deadline != steady_time::max(); }
  /// A wait without limits runs what it finds queued. One with limits leaves that to the executor,
  /// unless that is short of threads: a load cannot be left, and its deadline is advice then.
  bool runs_at_once() const noexcept {
    return form_ == form::join || (!bounded() && !bounds_.stop.stop_possible());
  }
  /// In this order: a limit that strikes asks from another thread, and `listed_` is this thread's.
  bool told_apart() const noexcept { return bounded() || bounds_.stop.stop_possible() || listed_; }
  /// What this thread listens to; asked by itself only.
  std::uint32_t channel() const noexcept {
    return (told_apart() ? block_base::channel_of(node_) : block_base::common_channel) |
           (may_run_ ? block_base::claimer_channel : 0);
  }

  /// A thread that the executor runs its tasks on must not wait for its own queue: while the load
  /// that it waits for is still queued there, it is run here. That is the load of its own flight,
  /// or of the one which that stands behind, and those gathered with it; never a stranger's.
  void run_if_queued() {
    block_.lock();
    block_.room.claimers = true;  // whoever queues a load from now on wakes this thread
    block_base* const ahead = block_.phase(memory_order_relaxed) == flight_phase::waiting &&
                                      platform::holds(rule::load_ahead_is_claimed)
                                  ? flight_core::ahead_of(block_)
                                  : nullptr;
    block_.unlock();
    if (ahead != nullptr) {
      ahead->lock();
      ahead->room.claimers_behind = true;
      ahead->unlock();
    }
    claimed mine;
    // Asked after that: who gives the load to the executor later wakes this thread again.
    if (runs_at_once() || block_.executor.starved()) {
      block_base& of = ahead != nullptr ? *ahead : block_;
      of.lock();
      mine = claim_locked(of);
      of.unlock();
    }
    if (mine.load != nullptr || mine.others != nullptr) {
      const call_scope scope;
      if (mine.others != nullptr) {
        mine.others->begin_here();
      } else {
        mine.load->run();
      }
    }
    if (ahead != nullptr) ahead->drop_reference();
  }

  /// A load that this thread is to run: by itself, or with those that it was gathered with.
  struct claimed {
    load_base* load = nullptr;
    std::shared_ptr<gathering> others{};
  };
  static claimed claim_locked(block_base& b) noexcept {
    claimed mine;
    if (b.phase(memory_order_relaxed) == flight_phase::running && b.load != nullptr &&
        b.load->open()) {
      mine.others = b.load->gathered_in();
      if (mine.others == nullptr && b.load->claim()) {
        mine.load = b.load;
        mine.load->home->add_reference();
      }
    }
    return mine;
  }

  /// `lead` when the flight is there for the taking, else `outcome`: nothing decided yet.
  wait_verdict enrol() noexcept {
    if (!can_lead_ && !bounded()) return wait_verdict::outcome;
    block_.lock();
    const flight_phase phase = block_.phase(memory_order_relaxed);
    wait_verdict verdict = wait_verdict::outcome;
    if (phase != flight_phase::done) {
      if (can_lead_ && phase == flight_phase::vacant) {
        take_lead_locked();
        verdict = wait_verdict::lead;
      } else {
        listed_ = can_lead_ && (phase != flight_phase::running || block_.core->hands_over());
        if (listed_) {
          node_.state = wait_state::pending;
          block_.room.blocked.push(node_);
        }
        if (bounded() && form_ != form::look) {  // a look does not bound the caller's interest
          node_.limit = &bounds_.deadline;
          ++block_.room.bounded;
          if (!listed_) block_.room.timed.push(node_);
        }
      }
    }
    block_.unlock();
    return verdict;
  }

  void take_lead_locked() noexcept {
    block_.lenders.fetch_sub(1, memory_order_relaxed);
    block_.set_phase_locked(flight_phase::running);
  }

  wait_verdict sleep() {
    for (;;) {
      const std::uint32_t seen =
          block_.state.load(platform::order(rule::waiter_acquires, memory_order_acquire));
      const auto phase = static_cast<flight_phase>(seen & block_base::phase_bits);
      if (phase == flight_phase::done) return wait_verdict::outcome;
      wait_verdict verdict = node_.verdict.load(memory_order_acquire);
      const bool stopped = platform::stop_requested(bounds_.stop);
      if (stopped || (bounded() && block_.clock->now() >= bounds_.deadline)) {
        verdict = stopped ? wait_verdict::cancelled : wait_verdict::timed_out;
      } else if (record_.struck()) {  // set before the epoch that this thread has seen, or will see
        verdict = wait_verdict::recursive;
      }
      if (verdict != wait_verdict::outcome || (can_lead_ && phase == flight_phase::vacant)) {
        if (decide(verdict)) return verdict;
        continue;
      }
      if (may_run_ && (seen & ~block_base::locked) != last_look_) {
        last_look_ = seen & ~block_base::locked;
        run_if_queued();
        continue;
      }
      if ((seen & block_base::sleeping) == 0 && platform::holds(rule::sleepers_are_marked)) {
        block_.lock();
        block_.unlock(block_.state.load(memory_order_relaxed) | block_base::sleeping);
        continue;
      }
      if ((seen & block_base::locked) != 0) {  // in a moment it will not be
        platform::pause();
        continue;
      }
      hand_queue_over();
      platform::wait(
          block_.state, seen, channel(),
          bounded() && block_.clock->follows_steady_clock() ? &bounds_.deadline : nullptr);
    }
  }

  /// Settles `verdict` under the lock; false: look again. A thread that was elected and has run
  /// into its limit gives the place back, which passes it on.
  bool decide(wait_verdict& verdict) noexcept {
    block_.lock();
    const flight_phase phase = block_.phase(memory_order_relaxed);
    const bool elected = node_.verdict.load(memory_order_relaxed) == wait_verdict::lead;
    const bool struck = verdict == wait_verdict::timed_out || verdict == wait_verdict::cancelled ||
                        verdict == wait_verdict::recursive;
    const bool vacant = can_lead_ && phase == flight_phase::vacant;
    const bool decided = phase != flight_phase::done && (struck || elected || vacant);
    if (decided) {
      if (!elected && listed_) block_.room.blocked.remove(node_);
      if (node_.limit != nullptr) {
        --block_.room.bounded;
        if (!listed_) block_.room.timed.remove(node_);
      }
      if (struck) {
        if (elected) {
          block_.lenders.fetch_add(1, memory_order_relaxed);
          block_.set_phase_locked(flight_phase::vacant);
        }
        if (form_ != form::look) {
          if (platform::holds(rule::cancelled_counts_no_more)) {
            flight_core::cancel_locked(block_, verdict, mine_, cancelled_.emplace());
          } else {
            block_.core->count_struck(verdict);
          }
        }
      } else {
        if (!elected) take_lead_locked();
        verdict = wait_verdict::lead;
      }
    }
    block_.unlock();
    return decided;
  }

  block_base& block_;
  const limits& bounds_;
  const form form_;
  const bool can_lead_;
  const flight_core::stake mine_;
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
