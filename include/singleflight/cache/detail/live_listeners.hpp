// SPDX-License-Identifier: Apache-2.0
#pragma once

// live_listeners: who is told of the changes of a live_value; one change after the other, one
// listener at a time.
//
// L1  `lock_` guards all below, and the writes of the value's place: so changes are queued in the
//     order of their versions. Under it no code of the user runs, and no reference is dropped.
// L2  There is one task. It is queued or running as long as `queued_` is set, and tells until there
//     is no change left; whoever queues a change while it is not set, posts it. While it is set,
//     `self_` keeps this alive: the executor may run the task after the value has gone.
// L3  `cursor_` is the listener to be told next; removal moves it on. So a listener may remove any
//     other one, or itself, and the task can go on on another thread where this one has ended.
// L4  `told_` is the listener that is running. Who removes it waits until it is not, unless it is
//     that listener's own thread, which then ends the listener after the call.
// L5  A listener is told of changes later than `since`, which is read as it enters.
// L6  At most `max_changes_` changes are queued. One more takes the place of the last: it is a
//     change from the version before that one, whose node leaves the queue. So the versions that
//     are told still go up, the latest is among them, and the queue keeps no more values than that.
// L7  The end: `stopped_` is set, so that nobody is told from now on, and no report (of the
//     schedule: enter, leave) begins; then it waits until none is under way, and until the task is
//     out of its loop, whose `change_` is its own while it has let go of the lock.

#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <utility>

#include "singleflight/cache/detail/live_node.hpp"
#include "singleflight/core/detail/require.hpp"
#include "singleflight/core/executor.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

/// Made by make_shared. The condition is notified under the lock: who waits may let all go after.
class live_listeners final : task_node,
                             fork_member,
                             public std::enable_shared_from_this<live_listeners> {
 public:
  struct listener : platform::allocated {
    virtual ~listener() = default;
    virtual void tell(const live_node_base& now) = 0;

    listener* prev = nullptr;
    listener* next = nullptr;
    std::uint64_t since = 0;

   protected:
    listener() = default;
    listener(const listener&) = default;
    listener& operator=(const listener&) = default;
  };

  live_listeners(any_executor executor, std::size_t max_changes)
      : task_node(&act_on),
        fork_member(rank::cache),
        executor_(std::move(executor)),
        max_changes_(max_changes) {
    enter_forks();
  }
  live_listeners(const live_listeners&) = delete;
  live_listeners& operator=(const live_listeners&) = delete;
  ~live_listeners() override { leave_forks(); }

  platform::mutex& lock() noexcept { return lock_; }

  // ---- changes ----------------------------------------------------------------------------------

  /// What is left to do after the lock.
  struct change_note {
    bool post = false;                 ///< post()
    live_node_base* merged = nullptr;  ///< to drop a reference of
  };
  /// `now` has taken the place of `before` (null: of nothing).
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
    if (queued_ && platform::holds(rule::one_task_tells)) return note;
    queued_ = true;
    if (platform::holds(rule::task_holds_listeners)) self_ = shared_from_this();
    note.post = true;
    return note;
  }
  std::uint64_t merged() const noexcept { return merged_.load(memory_order_relaxed); }
  void post() {
    const any_executor on = executor_;  // the task may take this with it
    try {
      on.execute(task(this));
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
  /// Ends `l`, which is not told from now on.
  void remove(listener& l) noexcept {
    settle_promises();
    std::unique_ptr<listener> gone;
    platform::unique_lock hold(lock_);
    (l.prev != nullptr ? l.prev->next : first_) = l.next;
    (l.next != nullptr ? l.next->prev : last_) = l.prev;
    if (cursor_ == &l && platform::holds(rule::removal_moves_cursor)) cursor_ = l.next;
    if (told_ == &l && teller_ == platform::this_thread_id() &&
        platform::holds(rule::listener_may_end_itself)) {
      told_goes_ = true;  // L4
      return;
    }
    while (told_ == &l && platform::holds(rule::removal_waits_for_call)) ended_.wait(hold);
    gone.reset(&l);
    hold.unlock();  // its destructor is the user's
  }

  // ---- the schedule's reports -------------------------------------------------------------------

  /// False: the value is going, or gone. True: it stays until leave().
  [[nodiscard]] bool enter() noexcept {
    const platform::unique_lock hold(lock_);
    if (stopped_ && platform::holds(rule::late_report_stays_away)) return false;
    ++reports_;
    reporter_ = platform::this_thread_id();
    return true;
  }
  void leave() noexcept {
    const platform::unique_lock hold(lock_);
    if (--reports_ == 0) reporter_ = {};
    ended_.notify_all();
  }

  /// Whether the calling thread is within one.
  bool reports_here() noexcept {
    const platform::unique_lock hold(lock_);
    return reports_ > 0 && reporter_ == platform::this_thread_id();
  }

  // ---- the end ----------------------------------------------------------------------------------

  void stop() noexcept {
    settle_promises();
    platform::unique_lock hold(lock_);
    const auto self = platform::this_thread_id();
    require(!(telling_ && teller_ == self), "live_value: destroyed within its listener");
    require(!(reports_ > 0 && reporter_ == self), "live_value: destroyed within its on_error");
    stopped_ = true;
    while ((telling_ && platform::holds(rule::end_waits_for_teller)) ||
           (reports_ > 0 && platform::holds(rule::end_waits_for_report))) {
      ended_.wait(hold);
    }
    while (next_change_locked()) forget_change(hold);
  }

 private:
  static void act_on(task_node* node, bool run) {
    auto& self = *static_cast<live_listeners*>(node);
    if (run) {
      self.tell_all();
    } else {
      detail::post_on_default_pool(&self);
    }
  }

  /// Whether there is one to be told: it is `change_` then.
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
    hold.unlock();  // the values may end here
    before->drop_reference();
    now->drop_reference();
    hold.lock();
  }

  void tell_all() {
    std::shared_ptr<live_listeners> self;  // the last to go
    platform::unique_lock hold(lock_);
    teller_ = platform::this_thread_id();
    telling_ = true;
    while (!stopped_ && next_change_locked()) {
      listener* const l = cursor_;
      if (l == nullptr) {
        forget_change(hold);
        continue;
      }
      cursor_ = l->next;
      if (l->since >= change_->version && platform::holds(rule::newcomer_hears_no_past)) {
        continue;  // L5
      }
      told_ = l;
      hold.unlock();
      try {
        l->tell(*change_);
      } catch (...) {  // nobody is there to take what a listener lets escape
        if (!platform::is_thread_exit()) std::terminate();
        end_call(hold);
        telling_ = false;
        hold.unlock();
        detail::post_on_default_pool(this);
        throw;
      }
      end_call(hold);
    }
    queued_ = telling_ = false;
    ended_.notify_all();
    self = std::move(self_);
    hold.unlock();
  }
  void end_call(platform::unique_lock& hold) noexcept {
    std::unique_ptr<listener> gone;
    hold.lock();
    if (std::exchange(told_goes_, false)) {
      gone.reset(told_);
      hold.unlock();
      gone.reset();
      hold.lock();
    }
    told_ = nullptr;
    ended_.notify_all();
  }

  // ---- fork: a child tells its listeners what they had not been told, the one whose call was
  // under way on another thread included ----------------------------------------------------------

  void hold() noexcept override { lock_.lock(); }
  void release() noexcept override { lock_.unlock(); }
  void mend() noexcept override {
    platform::renew(ended_);
    const platform::thread_id here = platform::this_thread_id();
    if (reports_ > 0) {  // the forking thread may be in one of them
      reports_ = reporter_ == here ? 1 : 0;
      if (reports_ == 0) reporter_ = {};
    }
    if (telling_ && teller_ == here) return;
    if (told_ != nullptr) cursor_ = told_;
    told_ = nullptr;
    told_goes_ = telling_ = false;
    cut_ = queued_;
  }
  void go_on() noexcept override {
    // The node may stand in a queue that is not there any more. Not the user's executor, within a
    // fork.
    if (std::exchange(cut_, false)) detail::post_on_default_pool(this);
  }

  const any_executor executor_;
  const std::size_t max_changes_;
  platform::mutex lock_;
  platform::condition_variable ended_;  // a call, a report, the task
  std::uint64_t version_ = 0;           // the latest
  listener* first_ = nullptr;
  listener* last_ = nullptr;
  live_node_base* changes_ = nullptr;  // to be told, the oldest first
  live_node_base* last_change_ = nullptr;
  live_node_base* before_last_ = nullptr;  // of these
  std::size_t waiting_ = 0;                // how many
  atomic<std::uint64_t> merged_{0};        // written under the lock
  live_node_base* change_ = nullptr;       // is being told; while it is, its teller's alone
  listener* cursor_ = nullptr;
  listener* told_ = nullptr;
  bool told_goes_ = false;  // it has removed itself
  bool queued_ = false;
  bool telling_ = false;  // the task runs, on teller_
  bool stopped_ = false;
  bool cut_ = false;  // by a fork
  int reports_ = 0;
  platform::thread_id teller_{};
  platform::thread_id reporter_{};
  std::shared_ptr<live_listeners> self_;
};

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE
