// SPDX-License-Identifier: Apache-2.0
#pragma once

// live_listeners: the listeners of a live_value, which are notified of one change after the other,
// one listener at a time.
//
// L1  `lock_` guards all members, and the writes of the value's place, so changes are queued in the
//     order of their versions. No user code runs under it, and no reference is dropped.
// L2  There is one task. It is queued or running as long as `task_` is set, and runs until no
//     change is left; a thread that queues a change while it is not set posts it. While it is set,
//     `self_` keeps this object alive: the executor may run the task after the value has been
//     destroyed.
// L3  `cursor_` is the next listener to be called; removal moves it on. So a listener may remove
//     any other one, or itself, and the task can continue on another thread if this one has ended.
// L4  `running_` is the listener that is running. A thread that removes it waits until it has
//     returned, unless it is that listener's own thread, which then destroys the listener after the
//     call.
// L5  A listener is called for changes later than `since`, which is read as it is added.
// L6  At most `max_changes_` changes are queued. A further one replaces the last: it becomes a
//     change from the version before that one, whose node is removed from the queue. So the
//     delivered versions still increase, the latest is among them, and the queue keeps no more
//     values alive.
// L7  The end: `stopped_` is set, so that no listener is called from then on, and no report (of the
//     schedule: enter, leave) begins; then it waits until none is in progress, and until the task
//     has left its loop, which uses `change_` without the lock.
// L8  In a child of fork, what the task had not yet delivered is delivered by another node, the
//     fork task, on the default pool: whether the executor's queue still exists is not known. It
//     may; that of an event loop does. So the ticket, the node that is in it, is void from then on:
//     it has no owner, does nothing when it runs, and deletes itself. Its memory is lost if it
//     never runs. The fork task is only ever posted to the default pool, whose queue no child has:
//     so it is free in each child. A node in the trampoline of the forking thread certainly runs,
//     and stays the task.
// L9  The schedule has turns: an alarm, its fire, the flight that it starts or joins, the report,
//     at whose end the alarm is armed again. In a child a turn continues only if the forking thread
//     itself brings it to its report: it is in the fire, in the report, or leads the flight (which
//     may be a user's). Any other turn that is not in its alarm is cut, and the child arms the
//     alarm instead. A later callback of a cut turn, in a queue that has survived, finds that its
//     number is not the current one, and does nothing. So there is one alarm.

#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <new>
#include <utility>

#include "singleflight/cache/detail/live_node.hpp"
#include "singleflight/cache/detail/rules.hpp"
#include "singleflight/core/executor.hpp"
#include "singleflight/core/support/require.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

/// Made by make_shared. The condition is notified under the lock: a waiter may destroy all
/// afterwards.
class live_listeners final : fork_member, public std::enable_shared_from_this<live_listeners> {
 public:
  struct listener : platform::allocated {
    virtual ~listener() = default;
    virtual void call(const live_node_base& now) = 0;

    listener* prev = nullptr;
    listener* next = nullptr;
    std::uint64_t since = 0;
    bool removed = false;  ///< out of the list; destroyed after its call

   protected:
    listener() = default;
    listener(const listener&) = default;
    listener& operator=(const listener&) = default;
  };

  live_listeners(any_executor executor, std::size_t max_changes)
      : fork_member(rank::cache),
        executor_(std::move(executor)),
        max_changes_(max_changes),
        fork_task_(this),
        ticket_(std::make_unique<node>(this)) {
    enter_forks();
  }
  live_listeners(const live_listeners&) = delete;
  live_listeners& operator=(const live_listeners&) = delete;
  ~live_listeners() { leave_forks(); }

  platform::mutex& lock() noexcept { return lock_; }

  // ---- changes ----------------------------------------------------------------------------------

  /// The work that the caller has to do after the unlock.
  struct change_note {
    task_node* post = nullptr;         ///< post()
    live_node_base* merged = nullptr;  ///< drop a reference of it
  };
  /// `now` has replaced `before`, which is null if there was none.
  [[nodiscard]] change_note change_locked(live_node_base* before, live_node_base& now) {
    version_ = now.version;
    if (stopped_ || first_ == nullptr || before == nullptr) return {};
    change_note note;
    now.add_reference();
    if (waiting_ == max_changes_ && platform::holds(rule::changes_are_bounded)) {  // L6
      note.merged = last_change_;
      now.before = std::exchange(last_change_->before, nullptr);
      (before_last_ != nullptr ? before_last_->later : changes_) = &now;
      merged_.store(merged_.load(memory_order_relaxed) + 1, memory_order_relaxed);
    } else {
      before->add_reference();
      now.before = before;
      (last_change_ != nullptr ? last_change_->later : changes_) = &now;
      before_last_ = last_change_;
      ++waiting_;
    }
    last_change_ = &now;
    if (task_ != nullptr && platform::holds(rule::one_task_notifies)) return note;
    task_ = ticket_ != nullptr ? ticket_.get() : &fork_task_;
    if (platform::holds(rule::task_holds_listeners)) self_ = shared_from_this();
    note.post = task_;
    return note;
  }
  std::uint64_t merged() const noexcept { return merged_.load(memory_order_relaxed); }
  void post(task_node& task) {
    if (&task == &fork_task_) {
      detail::post_on_default_pool(&task);
      return;
    }
    const any_executor on = executor_;  // the task may destroy this object
    try {
      on.execute(singleflight::task(&task));
    } catch (...) {  // refused: dropping the task has sent it to the default pool
      if (platform::is_thread_exit()) throw;
    }
  }

  // ---- listeners --------------------------------------------------------------------------------

  void add(listener& l) noexcept {
    const platform::unique_lock hold(lock_);
    l.since = version_;
    l.prev = last_;
    (last_ != nullptr ? last_->next : first_) = &l;
    last_ = &l;
  }
  /// Removes and destroys `l`, which is not called from now on.
  void remove(listener& l) noexcept {
    settle_promises();
    std::unique_ptr<listener> ended;
    platform::unique_lock hold(lock_);
    (l.prev != nullptr ? l.prev->next : first_) = l.next;
    (l.next != nullptr ? l.next->prev : last_) = l.prev;
    if (cursor_ == &l && platform::holds(rule::removal_moves_cursor)) cursor_ = l.next;
    l.removed = true;
    if (running_ == &l && notifier_ == platform::this_thread_id() &&
        platform::holds(rule::listener_may_end_itself)) {
      running_ends_ = true;  // L4
      return;
    }
    if (running_ == &l) hand_queue_over(hold);
    while (running_ == &l && platform::holds(rule::removal_waits_for_call)) ended_.wait(hold);
    ended.reset(&l);
    hold.unlock();  // its destructor is the user's
  }

  // ---- the schedule's turns (L9) ----------------------------------------------------------------

  /// Called when the alarm has fired; returns the number of its turn.
  [[nodiscard]] std::uint64_t begin_turn() noexcept {
    const platform::unique_lock hold(lock_);
    firing_ = true;
    firing_thread_ = platform::this_thread_id();
    return turn_;
  }
  /// Called when the fire is over: the callback that waits for that flight calls enter(), or
  /// already has.
  void await(std::uint64_t turn, std::uint64_t flight_id) noexcept {
    const platform::unique_lock hold(lock_);
    if (turn != turn_) return;
    firing_ = false;
    awaited_ = flight_id;
  }
  /// Begins the turn's report. Returns false if the value is being destroyed, or has been, or if
  /// the turn was cut; if it returns true, the value stays until leave().
  [[nodiscard]] bool enter(std::uint64_t turn) noexcept {
    const platform::unique_lock hold(lock_);
    if (stopped_ && platform::holds(rule::late_report_is_dropped)) return false;
    if (turn != turn_ && platform::holds(rule::cut_turn_is_dropped)) return false;
    end_turn_locked();
    ++reports_;
    reporter_ = platform::this_thread_id();
    return true;
  }
  void leave() noexcept {
    const platform::unique_lock hold(lock_);
    if (--reports_ == 0) reporter_ = {};
    ended_.notify_all();
  }

  /// Called in a child, after repair() of this and of the flights and while all locks are held: for
  /// a turn that is not in its alarm. Returns true if it was cut: the caller then has to arm the
  /// alarm. `is_under_way(flight_id)` returns whether that flight has not ended yet.
  template <class IsUnderWay>
  [[nodiscard]] bool cut_turn_held(IsUnderWay&& is_under_way) noexcept {
    if (reports_ > 0) return false;  // on this thread: others are no longer counted
    if (firing_ && firing_thread_ == platform::this_thread_id()) return false;
    if (awaited_ != no_flight && is_under_way(awaited_)) return false;
    end_turn_locked();
    return true;
  }

  // ---- the end ----------------------------------------------------------------------------------

  void stop() noexcept {
    settle_promises();
    platform::unique_lock hold(lock_);
    const auto self = platform::this_thread_id();
    require(!(notifying_ && notifier_ == self), "live_value: destroyed within its listener");
    require(!(reports_ > 0 && reporter_ == self), "live_value: destroyed within its on_error");
    stopped_ = true;
    if (notifying_ || reports_ > 0) hand_queue_over(hold);
    while ((notifying_ && platform::holds(rule::end_waits_for_notifier)) ||
           (reports_ > 0 && platform::holds(rule::end_waits_for_report))) {
      ended_.wait(hold);
    }
    while (next_change_locked()) forget_change(hold);
  }

 private:
  struct node final : task_node, platform::allocated {
    explicit node(live_listeners* list) noexcept : task_node(&act_on), owner(list) {}
    live_listeners* owner;  ///< null if void (L8)
  };
  static void act_on(task_node* fired, bool run) {
    auto* const self = static_cast<node*>(fired);
    if (self->owner == nullptr) {
      delete self;
    } else if (run) {
      self->owner->notify_listeners(*self);
    } else {
      detail::post_on_default_pool(self);
    }
  }

  static constexpr std::uint64_t no_flight = 0;
  void end_turn_locked() noexcept {
    ++turn_;
    firing_ = false;
    awaited_ = no_flight;
  }

  /// Returns whether a change is to be delivered, which is then `change_`.
  bool next_change_locked() noexcept {
    if (change_ != nullptr) return true;
    change_ = changes_;
    if (change_ == nullptr) return false;
    changes_ = change_->later;
    --waiting_;
    if (changes_ == nullptr) last_change_ = nullptr;
    if (before_last_ == change_) before_last_ = nullptr;
    cursor_ = first_;
    return true;
  }
  void forget_change(platform::unique_lock& hold) noexcept {
    live_node_base* const now = std::exchange(change_, nullptr);
    live_node_base* const before = std::exchange(now->before, nullptr);
    hold.unlock();  // the values may be destroyed here
    before->drop_reference();
    now->drop_reference();
    hold.lock();
  }

  void notify_listeners(node& task) {
    std::shared_ptr<live_listeners> self;  // destroyed last
    platform::unique_lock hold(lock_);
    notifier_ = platform::this_thread_id();
    notifying_ = true;
    while (!stopped_ && next_change_locked()) {
      listener* const l = cursor_;
      if (l == nullptr) {
        forget_change(hold);
        continue;
      }
      cursor_ = l->next;
      if (l->since >= change_->version && platform::holds(rule::new_listener_skips_past)) {
        continue;  // L5
      }
      running_ = l;
      hold.unlock();
      try {
        l->call(*change_);
      } catch (...) {  // nothing can catch what a listener throws
        if (!platform::is_thread_exit()) std::terminate();
        end_call(hold);
        notifying_ = false;
        hold.unlock();
        detail::post_on_default_pool(&task);
        throw;
      }
      end_call(hold);
    }
    task_ = nullptr;
    notifying_ = false;
    ended_.notify_all();
    self = std::move(self_);
    hold.unlock();
  }
  void end_call(platform::unique_lock& hold) noexcept {
    std::unique_ptr<listener> ended;
    hold.lock();
    if (std::exchange(running_ends_, false)) {
      ended.reset(
          std::exchange(running_, nullptr));  // no thread waits for it; a fork must not find it
      hold.unlock();
      ended.reset();
      hold.lock();
    }
    running_ = nullptr;
    ended_.notify_all();
  }

  // ---- fork: a child calls its listeners for the changes that were not delivered, including the
  // one whose call was in progress on another thread, unless it was being removed there -----------

  SINGLEFLIGHT_COLD void hold() noexcept override { lock_.lock(); }
  SINGLEFLIGHT_COLD void release() noexcept override { lock_.unlock(); }
  SINGLEFLIGHT_COLD void repair() noexcept override {
    platform::renew(ended_);
    const platform::thread_id here = platform::this_thread_id();
    if (reports_ > 0) {  // the forking thread may be in one of them
      reports_ = reporter_ == here ? 1 : 0;
      if (reports_ == 0) reporter_ = {};
    }
    if (notifying_ && notifier_ == here) return;
    if (running_ != nullptr && !running_->removed) cursor_ = running_;
    running_ = nullptr;
    running_ends_ = notifying_ = false;
    if (task_ == nullptr || detail::is_queued_here(task_)) return;
    if (task_ == ticket_.get() && platform::holds(rule::parents_ticket_is_void)) {  // L8
      ticket_.release()->owner = nullptr;
    }
    task_ = &fork_task_;
    cut_ = true;
  }
  SINGLEFLIGHT_COLD void go_on() noexcept override {
    if (!std::exchange(cut_, false)) return;
    if (ticket_ == nullptr) {  // only forks write it
      auto fresh = make_ticket();
      const platform::unique_lock hold(lock_);
      ticket_ = std::move(fresh);
    }
    detail::post_on_default_pool(&fork_task_);  // not the user's executor, within a fork
  }
  /// Returns null if there is no memory: the fork task then does its work, on the default pool.
  std::unique_ptr<node> make_ticket() noexcept {
    try {
      return std::make_unique<node>(this);
    } catch (const std::bad_alloc&) {
      return nullptr;
    }
  }

  const any_executor executor_;
  const std::size_t max_changes_;
  node fork_task_;                // L8
  std::unique_ptr<node> ticket_;  // the task, except in a child; null if a fork has voided it
  platform::mutex lock_;
  platform::condition_variable ended_;  // a call, a report, the task
  std::uint64_t version_ = 0;           // the latest
  listener* first_ = nullptr;
  listener* last_ = nullptr;
  live_node_base* changes_ = nullptr;  // queued, the oldest first
  live_node_base* last_change_ = nullptr;
  live_node_base* before_last_ = nullptr;  // of the queued changes
  std::size_t waiting_ = 0;                // the number of queued changes
  atomic<std::uint64_t> merged_{0};        // written under the lock
  live_node_base* change_ = nullptr;       // being delivered; meanwhile used by the task alone
  listener* cursor_ = nullptr;
  listener* running_ = nullptr;
  bool running_ends_ = false;  // it has removed itself
  task_node* task_ = nullptr;  // queued or running: the ticket, or the fork task
  bool notifying_ = false;     // the task runs, on notifier_
  bool stopped_ = false;
  bool cut_ = false;                   // by a fork: the fork task is to be posted
  std::uint64_t turn_ = 0;             // of the schedule: the current one
  bool firing_ = false;                // its fire is in progress, on firing_thread_
  std::uint64_t awaited_ = no_flight;  // its fire is over, and this flight's end is its report
  int reports_ = 0;
  platform::thread_id notifier_{};
  platform::thread_id reporter_{};
  platform::thread_id firing_thread_{};
  std::shared_ptr<live_listeners> self_;
};

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE
