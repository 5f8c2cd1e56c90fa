// SPDX-License-Identifier: Apache-2.0
#pragma once

// batch_line: the batches of a batcher, from their first key to their last answer.
//
// A key is a flight of the batcher's group, whose owned load is held back by the batch. These are
// the states of a batch, all of them decided under the line's lock:
//
//   gathering   it takes keys, and no thread may begin it: a thread of the executor that waits for
//               one of its loads, and tries to begin it, is turned away
//   due         it is full, its delay is over, or it was flushed: such a thread may begin it; it
//               takes more keys until it is sealed
//   posted      it is due, and its task is with the executor
//   sealed      a thread runs it: the task, such a waiter, or close()
//
// B1  `lock_` guards the lists, the counts, and every field of a batch but `self` and `dropped`,
//     which belong to its task. A sealed batch takes no more keys: its chain of loads is constant,
//     and only its sealer uses it.
// B2  The sealer of a batch claims its loads to run them. Any other thread that claims one ends its
//     flight unbegun: the last caller of a key as it leaves, and the close of the group. A load is
//     claimed once and permanently, so a batch is sent once, and with every key that has callers.
// B3  At most `max_in_flight` batches are sealed (except by close(), which sends none). A batch
//     needs no place before that: a thread that waits for a due key never waits for a queued task.
//     If such a thread finds no free place, its batch `awaits_place`: when a place becomes free,
//     the waiters of the batch are woken.
// B4  A batch that is due and neither posted nor sealed has `max_in_flight` others ahead of it that
//     are, and each of those posts the next when it ends.
// B5  A batch whose task has found its place taken is not passed over again once it is the first:
//     the next waiter runs it before its own.
// B6  The line outlives the batcher, because tasks may run late. Everything else that the batcher
//     was given is used only while a flight of its group has not ended, or close() waits
//     (`arming_`).
// B7  With one place, every flight of the line is marked as being behind `place_id_`, which the
//     loader's thread leads: so the wait graph sees a loader that waits for its own place through
//     other loads. The mark is removed with the batch, before its place is freed.
// B8  A child of fork has only the thread that forked, and none of the queued tasks. So every batch
//     that this thread does not run itself (`sealer`) is set aside as sealed: its flights have
//     ended there (flight_core_fork.hpp), it takes no keys, has no place, and does nothing if its
//     task runs after all. The child's keys gather in a new batch. An alarm that was armed still
//     is, and fires for that one. A batch that was set aside is kept, and the line with it, as the
//     flights are: a queue may still hold its task.
// B9  A load is open from the moment at which it is in a batch, due or not, and is never opened
//     again. So the last caller to leave a key that is not sealed ends its flight at once, as in a
//     group: its place of max_keys is free before that caller returns, and the key is not sent.
//     Only the block remains until the batch is destroyed, by the batch's reference. `size` still
//     counts the key: a batch that is left key by key is full, and is sent, once max_batch keys
//     have been added.
// B10 A waiter of the executor may look at any time, and finds its load open. If the batch is not
//     due, the waiter sleeps as a claimer of that flight, which it became before it looked. `due`
//     changes under the lock, and all claimers are notified after that, under the lock: so a waiter
//     that looked too early is notified, and one that looks later begins the batch.
//
// Lock order: `lock_`, then the block lock of a flight. No user code runs under it: opening a load
// and waking its claimers store to its word and wake threads that sleep on it, nothing else.
// Opening stays under the lock because the thread that seals a batch must find all of its loads
// open, or ended.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "singleflight/core/default_timer.hpp"
#include "singleflight/sync/detail/batch.hpp"
#include "singleflight/sync/detail/rules.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

template <class Key, class Value>
class batch_line : public std::enable_shared_from_this<batch_line<Key, Value>> {
 public:
  using batch_type = batch<Key, Value>;
  using pointer = typename batch_type::pointer;
  using load_many = std::function<std::vector<outcome<Value>>(std::span<const Key>)>;

  batch_line(const batcher_options& bounds, load_many load)
      : bounds_(bounds),
        clock_(bounds.timer != nullptr ? *bounds.timer : default_timer()),
        load_(std::move(load)) {}
  batch_line(const batch_line&) = delete;
  batch_line& operator=(const batch_line&) = delete;

  const any_executor& executor() const noexcept { return bounds_.executor; }

  /// Takes the load of a key that a start() has just begun.
  void add(load_base& load);

  /// Makes the batch that gathers due now.
  void flush();

  /// The batch's task has been given to the executor: a thread of that which waits, with limits,
  /// for one of its keys can now see whether another thread is free for the task.
  void notify_posted(batch_type& b);

  /// Runs the task of a batch. If `run` is false, the executor has dropped it, and the flights of
  /// its keys end as broken.
  void run_task(const pointer& b, bool run);

  /// Called by a thread of the executor that waits for a key of `own`: runs the batch, unless that
  /// is not due (B10), another thread runs it, or no place is free.
  void begin_here(const pointer& own);

  /// Ends what has not been sent, once the group is closed. Afterwards no alarm is armed.
  void close();

  /// Destroys the loader, here and not with the last batch. Called after close().
  void drop_loader() { load_ = nullptr; }

  batch_counts counts() const {
    platform::unique_lock hold(lock_);
    return counts_;
  }

 private:
  struct alarm : timer_node {
    explicit alarm(batch_line& l) noexcept
        : timer_node([](timer_node& n) noexcept { static_cast<alarm&>(n).line.on_alarm(); }),
          line(l) {}
    batch_line& line;
  };

  bool delays() const noexcept { return bounds_.max_delay.count() > 0; }
  bool has_one_place() const noexcept { return bounds_.max_in_flight == 1; }

  // ---- under the lock ---------------------------------------------------------------------------

  /// Adds a load to the last batch. Returns true if the caller has to arm the alarm.
  bool add_locked(load_base& load);
  /// Wakes the threads of the executor that sleep for one of the keys (B10). Flights that all
  /// callers have left are over, and remain so.
  void make_due_locked(batch_type& b);
  /// Returns the next batch to be given to the executor, if there is a place for it.
  pointer post_next_locked();
  void seal_locked(batch_type& b);
  /// Called when a place is free: a thread of the executor that sleeps for a batch which found none
  /// looks again.
  void notify_awaiting_locked();

  // ---- the run of a batch -----------------------------------------------------------------------

  /// Runs a sealed batch: calls the loader for the keys that still have callers, and answers them.
  /// With a code for `why_not` it ends its flights with that instead.
  void run_sealed(const pointer& b, flight_errc why_not);
  /// Claims the loads of a sealed batch and runs them, each of which leaves its promise.
  void claim_loads(batch_type& b, flight_errc why_not);
  deposits<Key, Value> collect_promises(batch_type& b);
  void count_call(const batch_type& b, std::uint64_t keys);
  /// Frees the place of `b`, for the next in the line.
  void end(const pointer& b);

  // ---- fork (B8) --------------------------------------------------------------------------------

  class fork_handler final : fork_member {
   public:
    explicit fork_handler(batch_line& line) : fork_member(rank::lines), line_(line) {
      enter_forks();
    }
    ~fork_handler() { leave_forks(); }

   private:
    SINGLEFLIGHT_COLD void hold() noexcept override { line_.lock_.lock(); }
    SINGLEFLIGHT_COLD void release() noexcept override { line_.lock_.unlock(); }
    SINGLEFLIGHT_COLD void repair() noexcept override {
      if (platform::holds(rule::parents_batches_are_set_aside)) line_.set_aside_locked();
    }
    batch_line& line_;
  };

  void set_aside_locked() noexcept;

  // ---- the delay --------------------------------------------------------------------------------

  /// Arms the alarm for `when`; `armed_` and `arming_` were set before. Without a timer the batch
  /// is sent at once.
  void arm(steady_time when);
  /// Called on the timer's thread. The batch that it was armed for may have been sent, and another
  /// one gathers.
  void on_alarm() noexcept;

  const batcher_options bounds_;
  const std::uint64_t place_id_ = next_flight_id(this_thread());
  timer& clock_;
  load_many load_;
  alarm alarm_{*this};
  mutable platform::mutex lock_;
  platform::condition_variable arming_changed_;
  std::list<pointer> waiting_;  // not sealed, in the order of their first keys; only the last may
                                // be gathering, or have room for more keys
  std::list<pointer> sealed_;
  std::list<pointer> parents_batches_;    // in a child of fork: those that the parent runs (B8)
  batch_type* awaiting_place_ = nullptr;  // emptied by the end of any batch, also one of its own
  std::size_t posted_ = 0;
  std::uint32_t arming_ = 0;  // threads that are about to arm
  bool armed_ = false;
  bool closed_ = false;
  batch_counts counts_;
  const fork_handler fork_{*this};
};

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE

#include "singleflight/sync/impl/batch_line.hpp"
