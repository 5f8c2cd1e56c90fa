// SPDX-License-Identifier: Apache-2.0
#pragma once

// flight_core: the life of a flight, without knowing keys or values: begin, join, leave, finish, hand
// over, succeed, expire, close. group<Key, Value> adds the look-up by key and the value.
//
// A flight that leaves the keys that can be found, by whatever cause, gives its place to its successor:
// that is the one rule behind run_fresh, drain, forget and every timeout. A flight that needs a new
// leader (a successor whose turn has come, a hand-over after a failure) elects one: a blocked caller that
// can lead, else an owned load that was kept, else whoever able gets here next (vacant). There is one
// election, elect_locked.
//
// What is decided under locks is carried out after them by aftermath: waking, submitting, destroying,
// telling to stop, in that order (P8: blocked threads first).

#include <algorithm>
#include <stdexcept>

#include "singleflight/core/default_timer.hpp"
#include "singleflight/flight/detail/flight_block.hpp"
#include "singleflight/flight/detail/flight_stats.hpp"
#include "singleflight/flight/detail/wait_graph.hpp"
#include "singleflight/flight/group_options.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

/// A load that owns its loader and key, to be run on the executor; part of the block that start() made.
struct load_base : task_node {
  explicit load_base(block_base& where) noexcept
      : task_node(&act_on), home(&where), block(&where) {}

  /// Runs the loader and sees to it that `block` is finished, now or later. True: the run goes on, and
  /// with it the reference that the caller had; end_run() will drop it.
  virtual bool call() = 0;
  /// Whether call() may be made once more after a failure.
  virtual bool repeatable() const noexcept = 0;

  // `state`: queued while the node is in an executor's queue, claimed once somebody runs the load. A
  // load that was claimed by a waiter leaves its node queued; a relaunch then uses that place.
  static constexpr std::uint8_t queued = 1;
  static constexpr std::uint8_t claimed = 2;

  /// True for the one who may run it.
  bool claim() noexcept { return (state.fetch_or(claimed, memory_order_acq_rel) & claimed) == 0; }

  block_base* const home;  ///< whose memory this is; kept alive by the flight that keeps the load
  block_base* block;       ///< the flight that it leads
  load_base* next = nullptr;
  std::uint32_t serial = 0;
  atomic<std::uint8_t> state{claimed};
  led_frame frame{};  ///< what .within names

  /// The flight that this run led is over: its reference goes, with the run's own where they are one
  /// count; called on the thread of control of the run.
  void drop_flight(block_base& flight) noexcept {
    if (&flight == home && merge_drops) {
      ++owed;
    } else {
      flight.drop_reference();
    }
  }
  /// The end of a run: drops its reference on `home`.
  void end_run() noexcept { home->drop_references(merge_drops ? 1 + std::exchange(owed, 0U) : 1); }

  bool merge_drops =
      true;  ///< not for a promise, which may outlive the run, nor where runs may overlap
  std::uint32_t owed = 0;

 protected:
  ~load_base() = default;

 private:
  static void act_on(task_node* node, bool run);
};

class flight_core {
 public:
  /// Makes an unattached block for a thin flight; throws what copying its key or allocating throws.
  using block_maker = block_base* (*)(flight_core&, const flight_node&);

  flight_core(group_options&& options, block_maker maker)
      : make_block(maker),
        options_(std::move(options)),
        clock_(options_.timer != nullptr ? *options_.timer : default_timer()),
        plain_(options_.max_flights == 0 && options_.observer == nullptr &&
               options_.join_window <= options_.join_window.zero() &&
               options_.load_timeout <= options_.load_timeout.zero()) {
    if (options_.join_window.count() < 0 || options_.load_timeout.count() < 0) {
      throw std::invalid_argument(
          "group_options: join_window and load_timeout must not be negative; zero means none");
    }
  }
  flight_core(const flight_core&) = delete;
  flight_core& operator=(const flight_core&) = delete;

  flight_table table;
  flight_stats stats;
  const block_maker make_block;

  const group_options& options() const noexcept { return options_; }
  timer& clock() const noexcept { return clock_; }
  /// No option asks for more at the begin of a flight than a place in the table.
  bool plain() const noexcept { return plain_; }
  bool hands_over() const noexcept { return options_.on_error.hand_overs() > 0; }
  bool closed() const noexcept { return closed_.load(memory_order_acquire); }

  // ---- what happens after the locks -----------------------------------------------------------

  struct aftermath {
    block_base* woken = nullptr;  ///< wake its sleepers
    std::uint32_t channel = platform::all_channels;
    resume_batch::runner* runners = nullptr;
    load_base* launch = nullptr;  ///< queued already, as its state says
    load_base* dropped = nullptr;
    block_base* successor = nullptr;
    block_base* stopped = nullptr;
  };

  /// Requires that the caller holds a reference on the block that `a` speaks of. The group may be gone,
  /// unless there is a successor: then that one is in the table.
  static void carry_out(aftermath& a) {
    if (a.woken != nullptr) platform::wake(a.woken->state, block_base::all_sleepers, a.channel);
    submit(a.runners);
    while (load_base* const load = a.dropped) {
      a.dropped = load->next;
      load->home->drop_reference();
    }
    if (a.stopped != nullptr) request_stop(*a.stopped);
    if (a.launch != nullptr) submit_load(*a.launch);
    if (a.successor != nullptr) a.successor->core->activate(*a.successor);
  }

  static void submit(resume_batch::runner* runners) {
    while (resume_batch::runner* const r = runners) {
      runners = static_cast<resume_batch::runner*>(r->next);
      submit_runner(*r);
    }
  }
  static void submit_runner(resume_batch::runner& r) {
    try {
      r.batch->executor.execute(task(&r));
    } catch (...) {  // refused: dropping the task has sent it to the default pool
      if (platform::is_thread_exit()) throw;
    }
  }

  // ---- bucket-locked steps: begin and join ------------------------------------------------------

  /// Whether one more flight may begin; counts it.
  bool admit_flight() noexcept {
    if (options_.max_flights == 0) return true;
    if (flights_.fetch_add(1, memory_order_relaxed) < options_.max_flights) return true;
    flights_.fetch_sub(1, memory_order_relaxed);
    return false;
  }
  void dismiss_flight() noexcept {
    if (options_.max_flights != 0) flights_.fetch_sub(1, memory_order_relaxed);
  }

  /// Gives a thin flight its block: one reference for the flight, one interest for its leader.
  static void attach_locked(flight_table::bucket& b, flight_node& node,
                            block_base& block) noexcept {
    block.counts.store(block_base::one_reference + block_base::one_interest, memory_order_relaxed);
    block.node = &node;
    block.id = node.id;
    node.block.store(&block, memory_order_release);  // pairs with the leader's acquire loads
    b.value |= flight_table::slow;
  }

  /// Counts a caller in; false when the flight is full.
  bool join_locked(block_base& block, bool lender) noexcept {
    const std::size_t leader = block.leader_gone.load(memory_order_relaxed) ? 0 : 1;
    if (options_.max_waiters != 0 && block.interest() >= options_.max_waiters + leader)
      return false;
    block.counts.fetch_add(block_base::one_reference + block_base::one_interest,
                           memory_order_relaxed);
    if (lender) block.lenders.fetch_add(1, memory_order_relaxed);
    stats.add(figure::joined);
    return true;
  }

  /// Puts `block`, made for this key, behind `node`. It joins the table when `node` leaves.
  static void set_successor_locked(flight_table::bucket& b, flight_node& node,
                                   block_base& block) noexcept {
    node.successor = &block;
    block.behind.store(node.id, memory_order_release);
    b.value |= flight_table::slow;
  }

  /// Takes `node` out of the keys that can be found; its successor takes its place.
  block_base* forget_locked(flight_table::bucket& b, flight_node& node) noexcept {
    node.mode.store(flight_mode::gone, memory_order_release);
    return promote_locked(b, node);
  }
  block_base* promote_locked(flight_table::bucket& b, flight_node& node) noexcept {
    block_base* const next = std::exchange(node.successor, nullptr);
    if (next != nullptr) {
      next->add_reference();  // the promoter's: activate() drops it
      table.link_locked(b, *next->node);
      if (options_.max_flights != 0) flights_.fetch_add(1, memory_order_relaxed);
      next->behind.store(0, memory_order_release);
    }
    return next;
  }

  /// Ends a thin flight's stay. Returns its block when it is not thin any more: finish that instead.
  SINGLEFLIGHT_NOINLINE block_base* leave_table(flight_node& node, load_result how,
                                                flight_errc code = {}) {
    observer* const watch = options_.observer;
    const auto took = watch != nullptr ? clock_.now() - node.began.load(memory_order_relaxed)
                                       : std::chrono::nanoseconds{};
    flight_table::bucket b = table.lock(node.hash);
    block_base* const block = node.block.load(memory_order_relaxed);
    block_base* successor = nullptr;
    if (block == nullptr) {
      if (code != flight_errc{}) stats.add_error(code);
      successor = unlink_locked(b, node);
    }
    table.unlock(b);
    if (block == nullptr && watch != nullptr) watch->load_ended(node.id, took, how);
    if (successor != nullptr) activate(*successor);
    return block;
  }

  // ---- a flight's end ---------------------------------------------------------------------------

  struct finished {
    bool published;  ///< false: the flight had expired before, and nobody gets this outcome
    bool over;       ///< the flight's own reference is the caller's to drop; else somebody leads on
  };
  /// The load of `b` has ended. Publishes its outcome, or hands over. The caller holds a reference of its
  /// own. For result == value the block's value is constructed.
  /// `hand_on` false: after a hand_over_from() that found nobody; whoever has joined since gets the
  /// error, for the node may still be the run() leader's own.
  finished finish(block_base& b, flight_result result, flight_errc code = {},
                  std::exception_ptr error = nullptr, bool hand_on = true) {
    const call_scope scope;
    if (b.alarm && b.alarm->armed) disarm(b);
    if (options_.observer != nullptr) tell_ended(b, result, code);
    aftermath a;
    finished end{true, true};
    b.lock();
    if (b.phase(memory_order_relaxed) == flight_phase::done) {  // expired before
      a.successor = unlink_locked(b, {});
      end.published = false;
    } else if (hand_on && result == flight_result::error && may_hand_over(b)) {
      b.error = std::move(error);
      ++b.handed_over;
      stats.add(figure::handed_over);
      end.over = elect_locked(b, a);
    } else {
      a.successor = unlink_locked(b, code);
      b.error = std::move(error);
      publish_locked(b, result, code, a);
    }
    b.unlock();
    carry_out(a);
    return end;
  }
  /// The common case: a value, and nobody there to be told but, perhaps, sleeping threads. False when
  /// there is more to do; nothing has changed then.
  bool finish_alone(block_base& b) noexcept {
    b.lock();
    if (b.batch.pending.empty() && b.batch.ready.empty() && b.more_batches == nullptr &&
        b.kept == nullptr && !b.has_sleepers_locked() &&
        b.phase(memory_order_relaxed) == flight_phase::running &&
        flight_table::leave_alone(table.locate(b.node->hash), *b.node)) {
      b.result = flight_result::value;
      b.callers = b.interest() + (b.leader_withdrew ? 1U : 0U);
      b.set_done_and_unlock();
      return true;
    }
    b.unlock();
    return false;
  }
  /// The same, and drops the flight's reference.
  bool finish_and_drop(block_base& b, flight_result result, flight_errc code = {},
                       std::exception_ptr error = nullptr) {
    const finished end = finish(b, result, code, std::move(error));
    if (end.over) b.drop_reference();
    return end.published;
  }

  /// For a run() leader that failed where the group hands over: its own node leaves the table and its
  /// interest ends; the block's own node takes the place. Not `published`: nobody takes over.
  finished hand_over_from(flight_node& node, block_base& b, const std::exception_ptr& error) {
    if (!hands_over()) return {false, false};
    flight_node& own = *b.own_node;  // such a group makes no block without
    const call_scope scope;
    if (b.alarm && b.alarm->armed) disarm(b);
    aftermath a;
    observer* const watch = options_.observer;
    const auto took = watch != nullptr ? clock_.now() - node.began.load(memory_order_relaxed)
                                       : std::chrono::nanoseconds{};
    b.lock();
    const bool withdrew = std::exchange(b.leader_withdrew, false);
    const bool others = b.interest() > (withdrew ? 0U : 1U);
    if (b.phase(memory_order_relaxed) == flight_phase::done || !others || !may_hand_over(b)) {
      b.leader_withdrew = withdrew;
      b.unlock();
      return {false, false};
    }
    if (!withdrew) b.counts.fetch_sub(block_base::one_interest, memory_order_relaxed);
    b.leader_gone.store(true, memory_order_relaxed);
    flight_table::bucket bucket = table.lock(node.hash);
    if (&node != &own) {
      own.hash = node.hash;
      own.id = node.id;
      own.began.store(node.began.load(memory_order_relaxed), memory_order_relaxed);
      own.mode.store(node.mode.load(memory_order_relaxed), memory_order_relaxed);
      own.successor = std::exchange(node.successor, nullptr);
      own.close_seen = node.close_seen;
      own.block.store(&b, memory_order_relaxed);
      table.unlink_locked(bucket, node, true);
      table.link_locked(bucket, own);
      b.node = &own;
    }
    own.deadline = steady_time::max();
    table.unlock(bucket);
    b.error = error;
    ++b.handed_over;
    stats.add(figure::handed_over);
    const bool over = elect_locked(b, a);
    b.unlock();
    if (watch != nullptr) watch->load_ended(b.id, took, load_result::error);
    carry_out(a);
    return {true, over};
  }

  /// A caller gives up; its reference is dropped. `serial`: of its kept load. When the flight is done,
  /// the group may be gone: nothing of it is touched then (I6).
  static void leave(block_base& b, wait_verdict why, bool lender, std::uint32_t serial = 0,
                    bool leader = false) {
    const call_scope scope;
    aftermath a;
    b.lock();
    if (b.phase(memory_order_relaxed) == flight_phase::done) {
      b.unlock();
      b.drop_reference();
      return;
    }
    flight_core& group = *b.core;
    observer* const watch = group.options_.observer;
    if (why == wait_verdict::recursive) group.stats.add_error(flight_errc::recursive);
    if (lender) b.lenders.fetch_sub(1, memory_order_relaxed);
    if (leader) b.leader_gone.store(true, memory_order_relaxed);
    load_base* own = serial != 0 ? unkeep_locked(b, serial) : nullptr;
    const bool over = group.drop_interest_locked(b, own, a);
    if (own != nullptr && own->home != &b) {
      own->next = a.dropped;
      a.dropped = own;
    }
    b.unlock();
    if (watch != nullptr) watch->left(b.id);
    carry_out(a);
    b.drop_references(over ? 2 : 1);
  }

  /// A run() leader's stop token has fired: its interest ends, it stays until its load returns.
  static void withdraw(block_base& b) {
    const call_scope scope;
    aftermath a;
    b.lock();
    if (b.phase(memory_order_relaxed) != flight_phase::done && !b.leader_withdrew) {
      b.leader_withdrew = true;
      b.leader_gone.store(true, memory_order_relaxed);
      load_base* none = nullptr;
      b.core->drop_interest_locked(b, none, a);  // the load runs: it cannot be over
    }
    b.unlock();
    carry_out(a);
  }

  /// load_timeout: the waiters get timed_out now; the load is told to stop and ends when it ends.
  static void expire(block_base& b) {
    const call_scope scope;
    aftermath a;
    b.lock();
    if (b.phase(memory_order_relaxed) != flight_phase::done &&
        b.clock->now() >= b.alarm->due.load(memory_order_relaxed)) {
      flight_core& group = *b.core;
      flight_table::bucket bucket = group.table.lock(b.node->hash);
      a.successor = group.forget_locked(bucket, *b.node);
      // A run() leader still gets its own outcome: it is not counted among those who timed out.
      const bool run_leads = b.load == nullptr && !b.leader_gone.load(memory_order_relaxed);
      group.stats.add_error(flight_errc::timed_out, b.interest() - (run_leads ? 1U : 0U));
      group.table.unlock(bucket);
      b.stop_wanted = true;
      a.stopped = &b;
      group.publish_locked(b, flight_result::code, flight_errc::timed_out, a);
    }
    b.unlock();
    carry_out(a);
  }

  /// A successor whose turn has come; the reference that its predecessor held is now the flight's own.
  void activate(block_base& b) {
    const call_scope scope;
    aftermath a;
    b.lock();
    bool over = false;
    if (b.phase(memory_order_relaxed) == flight_phase::waiting) over = elect_locked(b, a);
    b.unlock();
    carry_out(a);
    b.drop_references(over ? 2 : 1);
  }

  /// Adds an owned load to the flight that its caller has joined (as a lender): it may lead one day.
  /// Returns its serial; 0 when it leads at once or the flight is over.
  std::uint32_t keep(block_base& b, load_base& load) {
    aftermath a;
    std::uint32_t serial = 0;
    bool over = false;
    b.lock();
    b.lenders.fetch_sub(1, memory_order_relaxed);
    load.block = &b;
    if (b.phase(memory_order_relaxed) != flight_phase::done) {
      load.home->add_reference();
      keep_locked(b, load);
      serial = load.serial;
      if (b.phase(memory_order_relaxed) == flight_phase::vacant) over = elect_locked(b, a);
    }
    b.unlock();
    carry_out(a);
    if (over) b.drop_reference();
    return serial;
  }
  static void keep_locked(block_base& b, load_base& load) noexcept {
    load.serial = ++b.next_serial;
    load.next = nullptr;
    load_base** end = &b.kept;
    while (*end != nullptr) end = &(*end)->next;
    *end = &load;
  }

  // ---- loads --------------------------------------------------------------------------------------

  /// Hands the load of a running flight to the executor; its state and a reference on its home say
  /// already that it is queued.
  static void submit_load(load_base& load) {
    try {
      load.block->batch.executor.execute(task(&load));
    } catch (...) {  // refused: dropping the task has ended the flight as broken
      if (platform::is_thread_exit()) throw;
    }
  }

  /// An owned load begins on this thread, after claim(); the reference of the caller on its home goes to
  /// the run. May end the flight without running.
  void run_owned(load_base& load) {
    block_base& b = *load.block;
    if (const flight_errc code = unbegun_end(b); code != flight_errc{}) {
      finish_and_drop(b, flight_result::code, code);
      load.end_run();
      return;
    }
    thread_state& self = this_thread();
    load.frame = {b.id, nullptr, nullptr, this, false};
    stats.add(figure::begun);
    begin(b);
    led_frame on_thread{b.id, self.led, nullptr, this, false};
    self.led = &on_thread;
    struct ending {
      thread_state& self;
      const led_frame* outer;
      load_base& load;
      bool goes_on = false;
      ~ending() {
        self.led = outer;
        if (!goes_on) load.end_run();
      }
    } end{self, on_thread.outer, load};
    end.goes_on = load.call();
  }

  /// Why a load that is about to begin should not: closed, or cancelled as all callers have left.
  flight_errc unbegun_end(block_base& b) const noexcept {
    if (closed()) return flight_errc::closed;
    if (b.interest() > 0) return {};
    b.lock();
    const bool unwanted = b.stop_wanted && b.interest() == 0;
    b.unlock();
    return unwanted ? flight_errc::cancelled : flight_errc{};
  }

  /// What the options ask for at the begin of a load.
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
  void arm_timeout(block_base& b) {
    if (b.alarm == nullptr) b.alarm = std::make_unique<block_base::timeout_alarm>();
    const steady_time due = deadline_after(clock_.now(), options_.load_timeout);
    b.alarm->block = &b;
    b.alarm->due.store(due, memory_order_relaxed);
    clock_.arm(*b.alarm, due);
    b.alarm->armed = true;
  }

  // ---- stopping -------------------------------------------------------------------------------------

  static void request_stop(block_base& b) {
    b.lock();
    b.stop_wanted = true;
    const std::optional<std::stop_source> source = b.stop;
    b.unlock();
    if (source) std::stop_source(*source).request_stop();
  }

  std::stop_token stop_token_of(block_base& b) {
    std::stop_source fresh;
    b.lock();
    if (!b.stop) b.stop.emplace(std::move(fresh));
    std::stop_source source = *b.stop;
    const bool wanted = b.stop_wanted;
    b.unlock();
    if (wanted || closed()) source.request_stop();
    return source.get_token();
  }

  steady_time deadline_of(block_base& b, const flight_node& node) noexcept {
    b.lock();
    steady_time latest = steady_time::min();
    const bool leader_bound = node.deadline != steady_time::max() && !b.leader_withdrew;
    if (b.phase(memory_order_relaxed) == flight_phase::done) {
      latest = node.deadline;
    } else if (b.interest() > b.bounded + (leader_bound ? 1U : 0U)) {
      latest = steady_time::max();
    } else {
      if (leader_bound) latest = node.deadline;
      for (const wait_limit* l = b.limits; l != nullptr; l = l->next_limit) {
        latest = std::max(latest, l->when);
      }
    }
    b.unlock();
    return latest;
  }

  // ---- closing --------------------------------------------------------------------------------------
  // 1. `closed_` is set: whoever locks a bucket from now on is refused, and no load begins any more.
  // 2. Every bucket gets `slow`, so that the fast enter fails and every leave comes through the lock.
  // 3. Successors that have not begun end as closed; running loads are told to stop.
  // 4. Wait until every chain is empty. A leaver counts `departures_` and wakes us under the bucket lock;
  //    we look under the same lock, so its last touch of the group is the unlock that lets us in.

  /// False when loads still run at `deadline`.
  bool close_until(steady_time deadline) {
    const call_scope scope;
    closed_.store(true, memory_order_release);
    table.each([this](flight_table::head& at) { shut_bucket(at); });
    for (;;) {
      const std::uint32_t seen = departures_.load(memory_order_acquire);
      bool empty = true;
      table.each([&empty](flight_table::head& at) {
        flight_table::bucket b = flight_table::lock_at(at);
        if (b.first() != nullptr) empty = false;
        flight_table::unlock(b);
      });
      if (empty) return true;
      if (!wait_departure(seen, deadline)) return false;
    }
  }

  bool leads_on_this_thread() const noexcept {
    for (const led_frame* f = this_thread().led; f != nullptr; f = f->outer) {
      if (f->group == this) return true;
    }
    return false;
  }

  /// Under the block lock: takes the flight of `b`, whose end has come, out of the table, and counts `code`
  /// for its callers. Returns the successor that took its place. Afterwards the group may be gone, unless
  /// there is a successor: what it counts, it counts before.
  block_base* unlink_locked(block_base& b, flight_errc code) noexcept {
    flight_node& node = *b.node;
    if (code == flight_errc{} && options_.max_flights == 0 &&
        flight_table::leave_alone(table.locate(node.hash), node)) {
      return nullptr;
    }
    flight_table::bucket bucket = table.lock(node.hash);
    if (code != flight_errc{}) stats.add_error(code, b.interest());
    block_base* const successor = unlink_locked(bucket, node);
    table.unlock(bucket);
    return successor;
  }

 private:
  block_base* unlink_locked(flight_table::bucket& b, flight_node& node) noexcept {
    block_base* const successor = promote_locked(b, node);
    const bool closing = closed_.load(memory_order_relaxed);
    table.unlink_locked(b, node, closing);
    dismiss_flight();
    if (closing) {
      departures_.fetch_add(1, memory_order_release);
      platform::wake(departures_, block_base::all_sleepers);
    }
    return successor;
  }

  bool may_hand_over(const block_base& b) const noexcept {
    return b.handed_over < options_.on_error.hand_overs() && b.interest() > 0 && !closed();
  }

  /// Finds a leader for a flight without one. True: there is none, and the flight is over.
  bool elect_locked(block_base& b, aftermath& a) {
    const bool closing = closed();
    if (!closing) {
      if (waiter* const w = b.blocked.pop()) {
        w->verdict.store(wait_verdict::lead, memory_order_release);
        b.lenders.fetch_sub(1, memory_order_relaxed);
        b.set_phase_locked(flight_phase::running);
        wake_locked(b, block_base::channel_of(*w), a);
        return false;
      }
      if (load_base* const load = b.kept) {
        b.kept = load->next;
        replace_load_locked(b, *load, a);
        queue_load_locked(b, *load, a);
        return false;
      }
      if (b.load != nullptr && b.load->repeatable()) {
        queue_load_locked(b, *b.load, a);
        return false;
      }
      if (b.lenders.load(memory_order_relaxed) > 0) {
        b.set_phase_locked(flight_phase::vacant);
        return false;
      }
    }
    const flight_errc code = closing              ? flight_errc::closed
                             : b.error == nullptr ? flight_errc::broken
                                                  : flight_errc{};
    a.successor = unlink_locked(b, code);
    publish_locked(b, code == flight_errc{} ? flight_result::error : flight_result::code, code, a);
    return true;
  }

  static void wake_locked(block_base& b, std::uint32_t channel, aftermath& a) noexcept {
    if (!b.has_sleepers_locked()) return;
    a.woken = &b;
    a.channel = channel;
  }

  /// An owned load is to lead. Its node may still be in a queue, from a time when a waiter claimed it:
  /// that place serves again.
  static void queue_load_locked(block_base& b, load_base& load, aftermath& a) noexcept {
    load.home->add_reference();  // the task's
    const auto before = load.state.exchange(load_base::queued, memory_order_acq_rel);
    if ((before & load_base::queued) == 0) {
      a.launch = &load;
    } else {
      load.home->drop_reference();  // the one that the queue has is enough
    }
    b.set_phase_locked(flight_phase::running);
    if (b.claimers) wake_locked(b, block_base::claimer_channel, a);
  }

  /// Kept loads live in blocks of their own, on which the flight holds a reference.
  static void replace_load_locked(block_base& b, load_base& load, aftermath& a) noexcept {
    if (b.load != nullptr && b.load->home != &b) {
      b.load->next = a.dropped;
      a.dropped = b.load;
    }
    b.load = &load;
    load.next = nullptr;
  }

  /// Decides the outcome (I7). Counts, empties and collects; nothing is told yet.
  void publish_locked(block_base& b, flight_result result, flight_errc code,
                      aftermath& a) noexcept {
    b.result = result;
    b.code = code;
    b.callers = b.interest() + (b.leader_withdrew ? 1U : 0U);
    for (load_base* load = std::exchange(b.kept, nullptr); load != nullptr;) {
      load_base* const next = load->next;
      if (load->home != &b) {
        load->next = a.dropped;
        a.dropped = load;
      }
      load = next;
    }
    activate_batch_locked(b.batch, a.runners);
    for (resume_batch* r = b.more_batches; r != nullptr; r = r->next) {
      activate_batch_locked(*r, a.runners);
    }
    wake_locked(b, platform::all_channels, a);
    b.set_phase_locked(flight_phase::done);  // releases the outcome above (I7)
  }

 public:
  /// A limit has ended a wait, while the flight was not done (block lock held).
  void count_struck(wait_verdict why) noexcept {
    stats.add_error(why == wait_verdict::timed_out ? flight_errc::timed_out
                                                   : flight_errc::cancelled);
  }

  /// Under the block lock: a batch with somebody to resume gets a runner; a second one when the first is
  /// under way, since that one may be held up by the waiter that it has resumed.
  static void activate_batch_locked(resume_batch& batch, resume_batch::runner*& chain) noexcept {
    if (batch.pending.empty() && batch.ready.empty()) return;
    resume_batch::runner& r = batch.main.active ? batch.spare : batch.main;
    if (r.active) return;
    r.active = true;
    batch.block->add_reference();
    r.next = chain;
    chain = &r;
  }

 private:
  /// One interested caller less (block lock held). `own` is its kept load, if any; null afterwards when
  /// the flight keeps it still. True: the flight is over.
  bool drop_interest_locked(block_base& b, load_base*& own, aftermath& a) {
    const flight_phase phase = b.phase(memory_order_relaxed);
    flight_table::bucket bucket = table.lock(b.node->hash);
    const bool last = b.interest() == 1;  // stable: joins need the bucket lock
    b.counts.fetch_sub(block_base::one_interest, memory_order_relaxed);
    if (!last) {
      table.unlock(bucket);
      return phase == flight_phase::vacant && elect_locked(b, a);  // it may have been the last able
    }
    const abandon policy = options_.on_abandon;
    stats.add(figure::abandoned);
    if (phase == flight_phase::running) {
      if (policy != abandon::finish) {
        b.stop_wanted = true;
        a.stopped = &b;
        if (policy == abandon::stop) {
          a.successor = forget_locked(bucket, *b.node);
        } else if (b.node->mode.load(memory_order_relaxed) == flight_mode::open) {
          b.node->mode.store(flight_mode::barrier, memory_order_release);
        }
      }
      table.unlock(bucket);
      return false;
    }
    // Nothing has begun. Under finish a load that was kept is still wanted; else the flight just goes.
    if (policy == abandon::finish && (own != nullptr || b.kept != nullptr)) {
      if (own != nullptr) keep_locked(b, *own);
      own = nullptr;
      table.unlock(bucket);
      return phase == flight_phase::vacant && elect_locked(b, a);
    }
    if (phase == flight_phase::waiting && b.behind.load(memory_order_relaxed) != 0) {
      flight_node* ahead = bucket.first();
      while (ahead != nullptr && ahead->successor != &b) ahead = ahead->next;
      if (ahead == nullptr) {  // close() has taken it and ends it
        table.unlock(bucket);
        return false;
      }
      ahead->successor = nullptr;
    } else {
      a.successor = unlink_locked(bucket, *b.node);
    }
    table.unlock(bucket);
    publish_locked(b, flight_result::code, flight_errc::cancelled, a);
    return true;
  }

  static load_base* unkeep_locked(block_base& b, std::uint32_t serial) noexcept {
    for (load_base** at = &b.kept; *at != nullptr; at = &(*at)->next) {
      if ((*at)->serial == serial) {
        load_base* const load = *at;
        *at = load->next;
        return load;
      }
    }
    return nullptr;
  }

  void disarm(block_base& b) noexcept {
    clock_.cancel(*b.alarm);
    b.alarm->armed = false;
    // A timeout that has fired already and still stands in a queue speaks of the load before: void.
    b.alarm->due.store(steady_time::max(), memory_order_relaxed);
  }

  void tell_ended(block_base& b, flight_result result, flight_errc code) const noexcept {
    const steady_time began = b.node->began.load(memory_order_relaxed);
    if (began == flight_node::not_begun) return;
    const bool broken = result == flight_result::code && code == flight_errc::broken;
    options_.observer->load_ended(b.id, clock_.now() - began,
                                  b.done()                         ? load_result::timed_out
                                  : broken                         ? load_result::broken
                                  : result == flight_result::value ? load_result::value
                                                                   : load_result::error);
  }

  void shut_bucket(flight_table::head& at) {
    for (;;) {
      block_base* running = nullptr;
      block_base* unbegun = nullptr;
      flight_table::bucket b = flight_table::lock_at(at);
      if ((b.value & flight_table::moved) == 0) {
        b.value |= flight_table::slow;
        flight_node* node = b.first();
        while (node != nullptr && node->close_seen) node = node->next;
        if (node != nullptr) {
          node->close_seen = true;
          unbegun = std::exchange(node->successor, nullptr);
          running = node->block.load(memory_order_relaxed);
          if (running != nullptr) running->add_reference();
        } else {
          flight_table::unlock(b);
          return;
        }
      }
      flight_table::unlock(b);
      if (unbegun != nullptr) end_unbegun(*unbegun);
      if (running != nullptr) {
        request_stop(*running);
        end_if_not_begun(*running);
        running->drop_reference();
      }
      if ((b.value & flight_table::moved) != 0) return;
    }
  }

  /// A successor, detached by close(): its callers get closed.
  void end_unbegun(block_base& b) {
    aftermath a;
    b.lock();
    if (b.phase(memory_order_relaxed) != flight_phase::done) {
      stats.add_error(flight_errc::closed, b.interest());
      publish_locked(b, flight_result::code, flight_errc::closed, a);
    }
    b.unlock();
    carry_out(a);
    b.drop_reference();
  }

  /// A flight in the table whose load waits in an executor's queue, or for a leader.
  void end_if_not_begun(block_base& b) {
    b.lock();
    load_base* const load =
        b.phase(memory_order_relaxed) == flight_phase::running ? b.load : nullptr;
    const bool vacant = b.phase(memory_order_relaxed) == flight_phase::vacant;
    aftermath a;
    bool over = false;
    if (vacant) over = elect_locked(b, a);
    b.unlock();
    carry_out(a);
    if (over) b.drop_reference();
    if (load != nullptr && load->claim()) {
      finish_and_drop(b, flight_result::code, flight_errc::closed);
    }
  }

  bool wait_departure(std::uint32_t seen, steady_time deadline) {
    if (deadline == steady_time::max()) {
      platform::wait(departures_, seen);
      return true;
    }
    if (clock_.now() >= deadline) return false;
    if (clock_.follows_steady_clock()) {
      platform::wait(departures_, seen, platform::all_channels, &deadline);
      return true;
    }
    struct alarm : timer_node {
      explicit alarm(atomic<std::uint32_t>& w) noexcept
          : timer_node([](timer_node& n) noexcept {
              auto& counter = static_cast<alarm&>(n).word;
              counter.fetch_add(1, memory_order_release);
              platform::wake(counter, block_base::all_sleepers);
            }),
            word(w) {}
      atomic<std::uint32_t>& word;
    } bell(departures_);
    clock_.arm(bell, deadline);
    platform::wait(departures_, seen);
    clock_.cancel(bell);
    return true;
  }

  const group_options options_;
  timer& clock_;
  const bool plain_;
  atomic<bool> closed_{false};
  atomic<std::uint32_t> departures_{0};
  atomic<std::size_t> flights_{0};
};

inline block_base::~block_base() {
  if (load != nullptr && load->home != this) load->home->drop_reference();
  for (resume_batch* b = more_batches; b != nullptr;) {
    resume_batch* const next = b->next;
    b->dispose(b);
    b = next;
  }
}

/// The stop callback of a run() leader.
struct withdrawing {
  block_base& block;
  void operator()() const { flight_core::withdraw(block); }
};

// ---- tasks: loads, resumptions, timeouts ----------------------------------------------------------

inline void load_base::act_on(task_node* node, bool run) {
  auto& load = *static_cast<load_base*>(node);
  // Leaves the queue and claims in one step; a waiter may have claimed it before.
  if ((load.state.exchange(claimed, memory_order_acq_rel) & claimed) != 0) {
    load.home->drop_reference();
    return;
  }
  flight_core& group = *load.block->core;
  if (run) {
    group.run_owned(load);
  } else {
    group.finish_and_drop(*load.block, flight_result::code, flight_errc::broken);
    load.end_run();
  }
}

inline void resume(waiter& w) {
  if ((w.target & 1) != 0) {
    auto* const callback = reinterpret_cast<ready_action*>(w.target & ~std::uintptr_t{1});
    callback->act(callback);
  } else {
    std::coroutine_handle<>::from_address(reinterpret_cast<void*>(w.target)).resume();
  }
}

/// Resumes the ready waiters of a batch one after the other, never nested. Each is taken out under the
/// block's lock, so that one that is destroyed before its turn is simply not there any more.
inline void run_batch(resume_batch::runner& self) {
  resume_batch& batch = *self.batch;
  block_base& block = *batch.block;
  bool offer = &self == &batch.main;
  for (;;) {
    block.lock();
    const bool done = block.phase(memory_order_relaxed) == flight_phase::done;
    waiter_list& from = done && !batch.pending.empty() ? batch.pending : batch.ready;
    waiter* const w = from.pop();
    if (w == nullptr) {
      self.active = false;
      block.unlock();
      block.drop_reference();
      return;
    }
    w->state = wait_state::resumed;
    const waiter* const next = from.first();
    const bool second = offer && next != nullptr && !batch.spare.active;
    if (second) {
      batch.spare.active = true;
      block.add_reference();
    }
    block.unlock();
    offer = false;
    if (second) flight_core::submit_runner(batch.spare);
#if defined(__GNUC__)
    __builtin_prefetch(next, 1);
#endif
    struct
        resuming {  // a resumption that throws, or ends its thread, leaves the rest to another run
      resume_batch::runner& runner;
      bool finished = false;
      ~resuming() {
        if (!finished) flight_core::submit_runner(runner);
      }
    } guard{self};
    resume(*w);
    guard.finished = true;
  }
}

inline void act_on_runner(task_node* node, bool run) {
  auto& self = *static_cast<resume_batch::runner*>(node);
  if (run) {
    run_batch(self);
  } else {
    default_pool().post(&self, true);
  }
}

inline resume_batch::resume_batch(any_executor on) noexcept
    : executor(std::move(on)), main(&act_on_runner), spare(&act_on_runner) {
  main.batch = spare.batch = this;
}

inline void block_base::fire_timeout(timer_node& node) noexcept {
  auto& alarm = static_cast<timeout_alarm&>(node);
  if (alarm.queued.exchange(true, memory_order_acq_rel)) return;
  alarm.block->add_reference();
  default_pool().post(&alarm, true);
}

inline void block_base::run_timeout(task_node* node, bool) {
  auto& alarm = *static_cast<timeout_alarm*>(node);
  block_base& block = *alarm.block;
  alarm.queued.store(false, memory_order_release);
  flight_core::expire(block);
  block.drop_reference();
}

}  // namespace detail

// ---- flight_context -------------------------------------------------------------------------------

inline std::stop_token flight_context::stop_token() const {
  using namespace detail;
  block_base* block = node_->block.load(memory_order_acquire);
  if (block == nullptr) {
    std::unique_ptr<block_base> fresh(group_->make_block(*group_, *node_));
    flight_table::bucket b = group_->table.lock(node_->hash);
    block = node_->block.load(memory_order_relaxed);
    if (block == nullptr) {
      block = fresh.release();
      flight_core::attach_locked(b, *node_, *block);
    }
    group_->table.unlock(b);
  }
  return group_->stop_token_of(*block);
}

inline std::chrono::steady_clock::time_point flight_context::deadline() const noexcept {
  detail::block_base* const block = node_->block.load(detail::memory_order_acquire);
  return block == nullptr ? node_->deadline : group_->deadline_of(*block, *node_);
}

inline std::size_t flight_context::callers() const noexcept {
  const detail::block_base* const block = node_->block.load(detail::memory_order_acquire);
  return block == nullptr ? 1 : block->interest();
}

inline bool flight_context::forgotten() const noexcept {
  return node_->mode.load(detail::memory_order_acquire) != detail::flight_mode::open;
}

SINGLEFLIGHT_END_NAMESPACE
