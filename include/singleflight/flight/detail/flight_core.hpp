// SPDX-License-Identifier: Apache-2.0
#pragma once

// flight_core: the life of a flight, without keys and values: begin, join, leave, finish, hand
// over, succeed, expire, close. flight_call brings calls into flights; group<Key, Value> compares
// keys, and makes blocks with a key and a place for the value.
//
// A flight that can no longer be found by its key, for any reason, gives its place to its
// successor: run_fresh, drain, forget and all timeouts follow from this one rule. A flight that
// needs a new leader (a successor whose turn has come, a hand-over after a failure) elects one: a
// blocked caller that can lead (offered), else an owned load that was kept, else its own load once
// more, else the next caller that can lead (vacant). There is one election, elect_locked.
//
// Decisions that are made under locks are collected in an after_unlock, and carried out once the
// locks are released (P8: blocked threads are woken first).

#include "singleflight/core/default_timer.hpp"
#include "singleflight/core/observable.hpp"
#include "singleflight/core/support/wait_graph.hpp"
#include "singleflight/flight/detail/flight_block.hpp"
#include "singleflight/flight/detail/flight_stats.hpp"
#include "singleflight/flight/detail/load_base.hpp"
#include "singleflight/flight/detail/rules.hpp"
#include "singleflight/flight/group_options.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

class flight_core final : fork_member {
 public:
  /// What a group knows of its keys and values. The nodes are the group's own kind: with a key.
  struct keyed_steps {
    const void* equal;  ///< passed to `same`
    /// Whether two nodes have the same key; throws what the comparison throws.
    bool (*same)(const void* equal, const flight_node& a, const flight_node& b);
    /// Makes an unattached block for a flight of the node's key; throws what copying the key or
    /// allocating throws. With a key and a node of its own if the flight may change its leader.
    block_base* (*make_block)(flight_core& group, const flight_node& of, flight_phase phase);
  };

  /// Throws std::invalid_argument.
  flight_core(group_options&& options, const keyed_steps& of_group);
  ~flight_core();
  flight_core(const flight_core&) = delete;
  flight_core& operator=(const flight_core&) = delete;

  flight_table table;
  flight_stats stats;
  const keyed_steps steps;

  const group_options& options() const noexcept { return options_; }
  timer& clock() const noexcept { return clock_; }
  /// No option requires more at the beginning of a flight than a place in the table.
  bool plain() const noexcept { return plain_; }
  bool hands_over() const noexcept { return options_.on_error.hand_overs() > 0; }
  bool closed() const noexcept { return closed_.load(memory_order_acquire); }

  // ---- reports: impl/flight_core_look.hpp -------------------------------------------------------

  group_stats totals() const noexcept;
  void observe(metric_visitor& visitor) const;
  /// Counts a call that is refused.
  flight_errc refuse(flight_errc code) noexcept {
    stats.add(counter::refused);
    stats.add_error(code);
    return code;
  }

  // ---- what is done after the locks are released ------------------------------------------------

  struct after_unlock {
    block_base* woken = nullptr;  ///< wake its sleepers
    std::uint32_t channel = platform::all_channels;
    flight_batch::runner* runners = nullptr;
    load_base* launch = nullptr;   ///< to be submitted; its state is `queued` already
    block_base* queued = nullptr;  ///< its load is to run again, and is still in the executor
    load_base* dropped = nullptr;
    block_base* successor = nullptr;
    block_base* stopped = nullptr;
    bool defers = false;  ///< this is a timer's thread: `dropped` and `stopped` are errands
  };

  /// Does in this order: wake threads, submit resumptions, launch, wake threads that could run a
  /// load just queued, activate the successor, release loads, ask loads to stop. Requires that the
  /// caller holds a reference on the block. The group may have been destroyed.
  static void carry_out(after_unlock& a);

  // ---- bucket-locked steps, begin and join: impl/flight_core_begin.hpp --------------------------

  /// Takes a place for one more flight; returns false if `max_flights` leaves none.
  bool admit_flight() noexcept;
  /// Gives a flight's place back.
  void dismiss_flight() noexcept;
  /// Attaches a block to a thin flight: one reference for the flight, one interest for its leader.
  static void attach_locked(flight_table::bucket& bucket, flight_node& node,
                            block_base& block) noexcept;
  /// Returns whether the flight has as many callers as `max_waiters` admits.
  bool is_full(const block_base& block) const noexcept;
  /// Counts a caller as a joiner; returns false if the flight is full.
  bool join_locked(flight_table::bucket& bucket, block_base& block, bool lender) noexcept;
  /// Puts `block`, made for this key, behind `node`. It enters the table when `node` leaves.
  static void set_successor_locked(flight_table::bucket& bucket, flight_node& node,
                                   block_base& block) noexcept;
  /// Makes `node` forgotten. Its successor, which is returned, takes its place.
  block_base* forget_locked(flight_table::bucket& bucket, flight_node& node) noexcept;
  block_base* promote_locked(flight_table::bucket& bucket, flight_node& node) noexcept;
  /// Whether the flight is older than join_window. Bucket lock held.
  bool too_old(const flight_node& node, steady_time now) const noexcept;
  /// Makes all flights forgotten; returns how many: impl/flight_core_look.hpp.
  std::size_t forget_all();
  /// Removes a thin flight from the table. If it has a block in the meantime, does nothing and
  /// returns the block, which is then to be finished.
  block_base* leave_table(flight_node& node, load_result result, flight_errc code = {});

  // ---- a flight's end ---------------------------------------------------------------------------

  struct finished {
    bool published;  ///< false if the flight had expired before: no waiter gets this outcome
    bool over;       ///< the caller must drop the flight's own reference; else it has a new leader
  };
  /// The load of `b` has ended: publishes its outcome, or hands over. The caller holds a reference
  /// of its own. If result == value, the block's value is constructed. `hand_on` is false after a
  /// hand_over_from() that found no new leader: callers that have joined since get the error, since
  /// the node may still be the run() leader's own.
  finished finish(block_base& b, flight_result result, flight_errc code = {},
                  std::exception_ptr error = nullptr, bool hand_on = true);
  /// Ends a flight in the common case: with a value, no waiters and no kept loads. Returns false,
  /// having changed nothing, if there is more to do.
  bool finish_alone(block_base& b, load_base& load) noexcept;
  /// Calls finish(), and drops the flight's reference if the flight is over.
  bool finish_and_drop(block_base& b, flight_result result, flight_errc code = {},
                       std::exception_ptr error = nullptr) {
    const call_scope scope;  // its tasks come last: one may end the thread
    const finished end = finish(b, result, code, std::move(error));
    if (end.over) b.drop_reference();
    return end.published;
  }

  void finish_dropped(block_base& b);

  /// For a run() leader that failed in a group that hands over: its node leaves the table, its
  /// interest ends, and the block's own node takes that place. If the result is not `published`,
  /// there is no caller to take over.
  finished hand_over_from(flight_node& node, block_base& b, std::exception_ptr error);

  /// A caller leaves; drops its reference. `serial` is that of its kept load. If the flight is
  /// done, the group may have been destroyed and is not accessed (I6).
  static void leave(block_base& b, wait_verdict why, bool lender, std::uint32_t serial = 0,
                    bool leader = false);

  // ---- a wait that is cancelled: impl/flight_core_cancel.hpp ------------------------------------

  /// A caller's share in a flight in addition to its interest.
  struct stake {
    bool lender = false;
    std::uint32_t serial = 0;  ///< of its kept load
    bool leader = false;
  };
  /// Ends a caller's interest and the rest of its share (block lock held, not done). Returns true
  /// if the flight has ended: the caller must then drop the flight's own reference.
  static bool part_locked(block_base& b, const stake& mine, after_unlock& a);
  /// The result of cancel_locked(), which counts that a limit has ended a caller's wait, and ends
  /// the caller's interest as part_locked() does. carry_out_cancel() does the rest after the
  /// unlock.
  struct cancelled {
    after_unlock a;
    observer* watch = nullptr;
    bool over = false;
    task_node* post = nullptr;  ///< errands
  };
  static void cancel_locked(block_base& b, wait_verdict why, const stake& mine, cancelled& c);
  /// Called on a thread that runs no user code from here on except the observer's: the rest becomes
  /// errands.
  static void defer_locked(block_base& b, cancelled& c);
  static errands& errands_of_locked(block_base& b, cancelled& c);
  static void carry_out_cancel(block_base& b, cancelled& c);
  /// Does the work that a timer's thread has deferred; drops a reference of the caller.
  static void run_errands(block_base& b);

  /// Called when a run() leader's stop has fired: ends the leader's interest; the leader stays
  /// until its load returns.
  static void cancel_leader(block_base& b);

  /// Called when load_timeout has expired: the waiters get timed_out at once; the load is asked to
  /// stop.
  static void expire(block_base& b);

  /// Elects a leader for a successor whose turn has come; the reference that its predecessor held
  /// is now the flight's own.
  static void activate(block_base& b, bool defers = false);

  /// Adds an owned load to the flight that its caller has joined (as a lender): it may lead later.
  /// Returns its serial, or 0 if it leads at once or the flight has ended.
  std::uint32_t keep(block_base& b, load_base& load);
  static void keep_locked(block_base& b, load_base& load) noexcept { b.room.kept.push(load); }

  // ---- loads: impl/flight_core_loads.hpp --------------------------------------------------------

  /// Opens the load that a start() has just put into the table: from now on other threads may claim
  /// it, so that the flight may end and the group may be destroyed. notify_claimers() wakes the
  /// threads that sleep for it.
  static void open_load(load_base& load);
  /// The load of `b` was opened, or was passed to the executor: wakes the executor's threads that
  /// wait for it, or behind it, and could run it. Requires a reference.
  static void notify_claimers(block_base& b);
  /// Passes the load of a running flight to the executor; its state is `queued` already, and the
  /// task's reference on its home is counted.
  static void submit_load(load_base& load);
  /// Runs an owned load on this thread, after claim(); takes over the caller's reference on its
  /// home. May end the flight without running it.
  SINGLEFLIGHT_INLINE_BODY static void run_owned(load_base& load);
  /// Does what the options require at the beginning of a load.
  void begin(block_base& b) {
    if (plain_) return;
    mark_begin(*b.node);
    if (options_.load_timeout.count() > 0) arm_timeout(b);
  }
  void mark_begin(flight_node& node) noexcept {
    if (options_.observer != nullptr || options_.join_window.count() > 0) {
      node.began.store(clock_.now(), memory_order_relaxed);
    }
    if (options_.observer != nullptr) options_.observer->load_began(node.id);
  }

  static void request_stop(block_base& b);
  /// Calls the stop callbacks of the load on this thread, as if within the load.
  static void fire_stop(const block_base& b, std::stop_source& source);
  std::stop_token stop_token_of(block_base& b);
  steady_time deadline_of(block_base& b, const flight_node& node) noexcept;

  // ---- closing: impl/flight_core_close.hpp ------------------------------------------------------

  /// Returns false if loads still run at `deadline`.
  bool close_until(steady_time deadline);

  /// Called in a child of fork, after the repair and while this is held: returns whether the flight
  /// is still in progress. The forking thread then leads it.
  bool is_under_way_held(std::uint64_t id) const noexcept;

  /// Returns whether this thread is within a load of the group, or a stop callback of one.
  bool leads_on_this_thread() const noexcept {
    for (const led_frame* f = this_thread().led; f != nullptr; f = f->outer) {
      if (f->group == this) return true;
    }
    return false;
  }

  /// Called under the block lock: removes the flight of `b`, which ends, from the table, and counts
  /// `code` for its callers. Returns the successor that took its place. Without a successor, the
  /// group may be destroyed after the removal, so it counts before.
  block_base* unlink_locked(block_base& b, flight_errc code) noexcept;

 private:
  /// Makes the state that all groups share, so that no later call fails for lack of memory for it.
  static void make_shared_state();

  block_base* unlink_locked(flight_table::bucket& bucket, flight_node& node) noexcept;

  bool may_hand_over(const block_base& b) const noexcept {
    return (b.room.handed_over < options_.on_error.hand_overs() ||
            !platform::holds(rule::hand_overs_are_bounded)) &&
           b.interest() > 0 && !closed();
  }

  /// Finds a leader for a flight that has none. Returns true if there is none to be found: the
  /// flight has then ended.
  bool elect_locked(block_base& b, after_unlock& a);

  static void wake_locked(block_base& b, std::uint32_t channel, after_unlock& a) noexcept {
    if (!b.has_sleepers_locked()) return;
    a.woken = &b;
    a.channel = channel;
  }

  /// Makes an owned load lead. If its node is still in a queue, since a waiter had claimed it
  /// before, that place is used again.
  static void queue_load_locked(block_base& b, load_base& load, after_unlock& a) noexcept;

  /// Called with both locks held: the block's own node takes the place of `node`, the run()
  /// leader's.
  void replace_node_locked(flight_table::bucket& bucket, flight_node& node, block_base& b) noexcept;

  /// Return the flight behind that of `b`, and the flight ahead of it, each with a reference for
  /// the caller; null if there is none, or if the flight ahead has no block, so that no load of it
  /// is queued. Called under the lock of `b`, whose flight is not done.
  static block_base* successor_of(block_base& b) noexcept;

 public:
  static block_base* ahead_of(block_base& b) noexcept;

 private:
  /// Returns the node of the flight ahead of that of `b`, whose bucket is locked; null if there is
  /// none.
  static flight_node* node_ahead_locked(const flight_table::bucket& bucket,
                                        const block_base& b) noexcept;

  /// Kept loads live in blocks of their own, on which the flight holds a reference.
  static void replace_load_locked(block_base& b, load_base& load, after_unlock& a) noexcept;

  /// Sets the outcome and publishes done (I7); collects the waiters and kept loads in `a`.
  void publish_locked(block_base& b, flight_result result, flight_errc code,
                      after_unlock& a) noexcept;

 public:
  /// Counts a wait that a limit has ended while the flight was not done (block lock held).
  void count_ended_wait(wait_verdict why) noexcept { stats.add_error(errc_of(why)); }

 private:
  /// Ends the interest of one caller, perhaps the leader (block lock held). `own` is its kept load,
  /// if any; set to null if the flight still keeps it. Returns true if the flight has ended.
  bool drop_interest_locked(block_base& b, load_base*& own, bool leader, after_unlock& a);

  /// Called when the last caller of the flight has left (both locks held; unlocks the bucket).
  /// `own` and the result are as for drop_interest_locked().
  bool abandon_locked(block_base& b, flight_table::bucket& bucket, flight_phase phase,
                      load_base*& own, after_unlock& a);

  /// Called with both locks held: ends the leader's interest; max_waiters no longer spares it.
  static void leader_leaves_locked(block_base& b) noexcept;

  /// Returns why a load must not begin: the group is closed, or all callers have left (cancelled).
  flight_errc unbegun_end(block_base& b) const noexcept;
  static flight_errc unwanted_end(block_base& b) noexcept;

  void arm_timeout(block_base& b);
  void disarm(block_base& b) noexcept {
    clock_.cancel(*b.alarm);
    b.alarm->armed = false;
  }

  void report_end(block_base& b, flight_result result, flight_errc code) const noexcept;

  // Visitors of flight_table::each().
  static bool shut_bucket(flight_table::head& at) noexcept;
  bool end_bucket(flight_table::head& at);

  /// Ends a successor that close() has detached: its callers get closed.
  void end_unbegun(block_base& b);

  /// Ends a flight in the table whose load is still queued, or which has no leader.
  void end_if_not_begun(block_base& b);

  bool wait_removal(std::uint32_t seen, steady_time deadline);

  // ---- fork: impl/flight_core_fork.hpp ----------------------------------------------------------

  SINGLEFLIGHT_BODY void hold() noexcept override;
  SINGLEFLIGHT_BODY void release() noexcept override;
  SINGLEFLIGHT_BODY void repair() noexcept override;
  SINGLEFLIGHT_BODY void go_on() noexcept override;
  template <class Visit>
  bool each_block_held(Visit&& visit) noexcept;
  bool is_led_here(const flight_node& node) const noexcept;
  static void lose(block_base& b) noexcept;
  static void forget_waiters(block_base& b) noexcept;
  static void call_errands_back(block_base& b) noexcept;

  const group_options options_;
  timer& clock_;
  const bool plain_;
  atomic<bool> closed_{false};
  atomic<std::uint32_t> removals_{0};
  atomic<std::size_t> flights_{0};
};

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE

#if !defined(SINGLEFLIGHT_COMPILED)
#include "singleflight/flight/impl/context.hpp"
#include "singleflight/flight/impl/flight_block.hpp"
#include "singleflight/flight/impl/flight_core_begin.hpp"
#include "singleflight/flight/impl/flight_core_cancel.hpp"
#include "singleflight/flight/impl/flight_core_close.hpp"
#include "singleflight/flight/impl/flight_core_elect.hpp"
#include "singleflight/flight/impl/flight_core_end.hpp"
#include "singleflight/flight/impl/flight_core_fork.hpp"
#include "singleflight/flight/impl/flight_core_leave.hpp"
#include "singleflight/flight/impl/flight_core_loads.hpp"
#include "singleflight/flight/impl/flight_core_look.hpp"
#endif
