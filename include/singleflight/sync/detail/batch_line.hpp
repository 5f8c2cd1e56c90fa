// SPDX-License-Identifier: Apache-2.0
#pragma once

// batch_line: the batches of a batcher, from their first key to their last answer.
//
// A key is a flight of the batcher's group, whose owned load the batch holds back. The life of a
// batch, all of it decided under the line's lock:
//
//   gathering   nobody begins it: a thread of the executor that waits for one of its loads and asks
//               is sent away
//   due         full, its delay over, or flushed: such a thread may begin it; until it is sealed
//               more keys still come in
//   posted      due, and a task of it is with the executor
//   sealed      somebody runs it: the task, such a waiter, or close()
//
// B1  `lock_` guards the lists, the counts, and every field of a batch but `self` and `dropped`,
//     which are the task's. A sealed batch takes no more keys: its chain of loads is constant, and
//     its sealer's alone.
// B2  Who has sealed a batch claims its loads to run them. Everybody else who claims one ends its
//     flight unbegun: the last caller of a key as it leaves, and the close of the group. A load is
//     claimed once and for good, so a batch is sent once, and with every key that has callers.
// B3  At most `max_in_flight` batches are sealed (close() apart, which sends none). Before that
//     they need no place: a thread that waits for a due key never waits for a queued task. If it
//     finds no place its batch is `wanted`, and is told of the next one that is free.
// B4  A batch that is due and neither posted nor sealed stands behind `max_in_flight` others that
//     are, and each of those posts the next when it ends.
// B5  A batch whose task has found its place taken is passed over no more once it is the first:
//     the next waiter runs it before its own.
// B6  The line outlives the batcher, for tasks that run late; what else the batcher was given is
//     used only while a flight of its group has not ended, or close() waits (`arming_`).
// B7  With one place, every flight of the line is marked as standing behind `place_id_`, which the
//     loader's thread leads: so the wait graph sees a loader that waits for its own place through
//     other loads. The mark goes with the batch, before its place does.
// B8  In a child of fork no thread is there but the one that forks, and no task that was queued. So
//     what it does not run itself (`sealer`) is set aside as sealed: its flights have ended there
//     (flight_fork.hpp), it takes no keys, has no place, and does nothing should its task run after
//     all. The child's keys gather in a new batch. An alarm that was armed still is, and rings for
//     that one. What was set aside stays, and the line with it, as the flights do: a queue may
//     still have its task.
// B9  A load is open from the moment at which it is in a batch, due or not, and nobody opens it
//     again. So the last caller who leaves a key that is not sealed ends its flight there and then,
//     as in a group: its place of max_keys is free before that caller returns, and the key is not
//     sent. What stays until the batch goes is the block, by the batch's reference. `size` counts
//     it, too: a batch that is left key by key is full, and goes, once max_batch keys have come.
// B10 A waiter of the executor may look at any time, and finds its load open. If the batch is not
//     due, the waiter goes to sleep as a claimer of that flight, which it has become before it
//     asked. `due` changes under the lock, and all claimers are told after that, under the lock: so
//     who has asked too early is told, and who asks later begins it.
//
// Lock order: `lock_`, then the block lock of a flight. No user code under it: opening a load and
// poking it store to its word and wake threads that sleep on that, nothing else. Opening stays
// under the lock since who seals a batch must find all of its loads open, or ended.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <iterator>
#include <list>
#include <memory>
#include <new>
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
  void add(load_base& load) {
    const bool delays = bounds_.max_delay.count() > 0;
    const steady_time due_at =
        delays ? deadline_after(clock_.now(), bounds_.max_delay) : steady_time{};
    std::list<pointer> fresh;
    pointer ready;
    bool arms = false;
    for (;;) {
      {
        platform::unique_lock hold(lock_);
        if (closed_) break;
        const bool room = !waiting_.empty() && waiting_.back()->size < bounds_.max_batch;
        if (room || !fresh.empty()) {
          if (!room) {
            fresh.back()->place = fresh.begin();
            fresh.back()->due_at = due_at;
            waiting_.splice(waiting_.end(), fresh);
          }
          batch_type& b = *waiting_.back();
          batch_type::loader_of(load).in = waiting_.back();
          if (has_one_place()) load.block->behind.store(place_id_, memory_order_release);
          b.push(load);
          if (b.due || platform::holds(rule::gathered_key_is_open)) flight_core::open_load(load);
          if (b.due) {
            if (platform::holds(rule::late_key_is_told)) flight_core::tell_claimers(*load.block);
          } else if (!delays || b.size == bounds_.max_batch) {
            make_due_locked(b);
          }
          arms = !b.due && !armed_;
          if (arms) {
            armed_ = true;
            ++arming_;
          }
          ready = post_next_locked();
          hold.unlock();
          if (arms) arm(due_at);
          batch_type::post(std::move(ready));
          return;
        }
      }
      try {  // outside the lock; then look again
        fresh.push_back(std::make_shared<batch_type>(this->shared_from_this()));
      } catch (const std::bad_alloc&) {
        break;
      }
    }
    flight_core::open_load(load);  // closed, or without memory: it ends at once
    load.act(&load, true);
  }

  /// What is gathered is due now.
  void flush() {
    pointer ready;
    {
      platform::unique_lock hold(lock_);
      if (!waiting_.empty() && !waiting_.back()->due) {
        waiting_.back()->flushed = true;
        make_due_locked(*waiting_.back());
        ready = post_next_locked();
      }
    }
    batch_type::post(std::move(ready));
  }

  /// Its task has been given to the executor: who waits for one of its keys with limits, on a
  /// thread of that, can tell now whether another one is free for it.
  void tell_posted(batch_type& b) {
    platform::unique_lock hold(lock_);
    if (b.sealed || !platform::holds(rule::posted_batch_is_told)) return;
    for (load_base* load = b.first; load != nullptr; load = load->next) {
      flight_core::tell_claimers(*load->block);
    }
  }

  /// The task of a batch; `run` false: the executor has dropped it, and its keys are broken.
  void take(const pointer& b, bool run) {
    {
      platform::unique_lock hold(lock_);
      if (b->sealed && platform::holds(rule::batch_is_sealed_once)) return;
      if (std::exchange(b->posted, false)) --posted_;
      if (sealed_.size() >= bounds_.max_in_flight && !b->sealed) {
        b->passed = true;  // a waiter has taken its place; who ends will post it again (B4)
        return;
      }
      seal_locked(*b);
    }
    go(b, run ? flight_errc{} : flight_errc::broken);
  }

  /// A thread of the executor waits for a key of `own`: it runs the batch, unless that is not due
  /// (B10), or somebody does, or there is no place.
  void take_here(const pointer& own) {
    pointer b = own;
    {
      platform::unique_lock hold(lock_);
      if (own->sealed || (!own->due && platform::holds(rule::begun_batch_is_due))) return;
      const bool full = sealed_.size() >= bounds_.max_in_flight;
      const bool after = waiting_.front()->passed && waiting_.front() != own;
      if ((full || after) && !std::exchange(own->wanted, true)) {
        own->next_wanted = std::exchange(wanted_, own.get());
      }
      if (full) return;
      if (after) b = waiting_.front();
      seal_locked(*b);
    }
    go(b, {});
  }

  /// Ends what has not been sent, once the group is closed. Afterwards no alarm is armed.
  void close() {
    for (;;) {
      pointer b;
      {
        platform::unique_lock hold(lock_);
        closed_ = true;
        if (!waiting_.empty() && platform::holds(rule::close_ends_gathering)) {
          b = waiting_.front();
          seal_locked(*b);
        } else {
          while (arming_ > 0 && platform::holds(rule::close_waits_for_arming))
            armed_or_not_.wait(hold);
        }
      }
      if (b == nullptr) break;
      go(b, flight_errc::closed);
    }
    clock_.cancel(alarm_);
  }

  /// The loader's destructor runs here and not with the last batch. After close().
  void drop_loader() { load_ = nullptr; }

  batch_counts counts() const {
    platform::unique_lock hold(lock_);
    return counts_;
  }

 private:
  struct alarm : timer_node {
    explicit alarm(batch_line& l) noexcept
        : timer_node([](timer_node& n) noexcept { static_cast<alarm&>(n).line.ring(); }), line(l) {}
    batch_line& line;
  };

  bool has_one_place() const noexcept { return bounds_.max_in_flight == 1; }

  // ---- under the lock ---------------------------------------------------------------------------

  /// Wakes the threads of the executor that sleep for one of the keys (B10). Those that all have
  /// left are over, and stay so.
  void make_due_locked(batch_type& b) {
    b.due = true;
    for (load_base* load = b.first; load != nullptr; load = load->next) {
      if (!platform::holds(rule::gathered_key_is_open)) flight_core::open_load(*load);
      flight_core::tell_claimers(*load->block);
    }
  }
  /// The next batch to be given to the executor, if there is a place for it.
  pointer post_next_locked() {
    if (closed_ || sealed_.size() + posted_ >= bounds_.max_in_flight) return nullptr;
    for (const pointer& b : waiting_) {
      if (!b->due) return nullptr;
      if (b->posted) continue;
      b->posted = true;
      ++posted_;
      return b;
    }
    return nullptr;
  }
  void seal_locked(batch_type& b) {
    if (std::exchange(b.posted, false)) --posted_;
    b.sealed = true;
    b.sealer = &this_thread();
    sealed_.splice(sealed_.end(), waiting_, b.place);
  }

  /// A place is free: whoever sleeps on a thread of the executor, for a batch that found none,
  /// looks again.
  void tell_wanted_locked() {
    while (batch_type* const b = wanted_) {
      wanted_ = b->next_wanted;
      b->wanted = false;
      if (b->sealed) continue;
      for (load_base* load = b->first; load != nullptr; load = load->next) {
        if (platform::holds(rule::free_place_is_told)) {
          load->block->poke(block_base::claimer_channel);
        }
      }
    }
  }

  // ---- the life of a batch ----------------------------------------------------------------------

  /// Runs a sealed batch: calls the loader for the keys that still have callers, and answers them.
  /// With a code for `why_not` it ends so instead.
  void go(const pointer& b, flight_errc why_not) {
    const call_scope scope;
    struct running {  // gives the place back, also when the loader ends its thread
      batch_line& line;
      const pointer& b;
      thread_state& self;
      led_frame place;  // on this thread as long as the batch has it (B7)
      bool over = false;
      void end() {
        if (std::exchange(over, true)) return;
        self.led = place.outer;
        line.end(b);
      }
      ~running() noexcept(false) { end(); }
    } run{*this, b, this_thread(), {place_id_, this_thread().led, nullptr, nullptr, false}};
    if (has_one_place()) run.self.led = &run.place;
    for (load_base* load = b->first; load != nullptr; load = load->next) {
      if (!load->claim()) continue;  // ended: all have left it, or the group is closed (B2)
      if (why_not == flight_errc{}) {
        load->home->add_reference();  // the run's
        load->run();                  // nothing, when they leave or the group closes just now
      } else if (why_not == flight_errc::broken) {
        load->block->core->finish_dropped(*load->block);
      } else {
        load->block->core->finish_and_drop(*load->block, flight_result::code, why_not);
      }
    }
    deposits<Key, Value> given;
    for (load_base* load = b->first; load != nullptr; load = load->next) {
      batched_key<Key, Value>& from = batch_type::loader_of(*load);
      if (!from.promise) continue;
      flight_promise<Value> promise = from.take_promise();
      try {
        given.add(std::move(from.key), std::move(promise));
      } catch (...) {  // one key's failure is not the others'
        if (platform::is_thread_exit()) throw;
        promise.set_error(std::current_exception());
      }
    }
    if (given.keys.empty()) return;
    {
      platform::unique_lock hold(lock_);
      const std::uint64_t size = given.keys.size();
      counts_.keys += size;
      counts_.largest = std::max(counts_.largest, size);
      ++counts_.batches;
      ++(b->size == bounds_.max_batch ? counts_.full
         : b->flushed                 ? counts_.flushed
                                      : counts_.delayed);
    }
    given.load(load_, [&run] { run.end(); });
  }

  /// The place of `b` is free, for the next in the line.
  void end(const pointer& b) {
    for (load_base* load = std::exchange(b->first, nullptr); load != nullptr;) {
      load_base* const next = load->next;
      pointer in;  // goes after the lock
      // Of one that is over nobody asks where it is, and its lock may be held by a thread that is
      // not there in a child of fork (V4).
      const bool over = load->block->done() && platform::holds(rule::ended_key_is_not_locked);
      if (!over) load->block->lock();
      in.swap(batch_type::loader_of(*load).in);
      load->block->behind.store(0, memory_order_release);
      if (!over) load->block->unlock();
      load->home->drop_reference();
      load = next;
    }
    std::list<pointer> ended;
    pointer ready;
    {
      platform::unique_lock hold(lock_);
      ended.splice(ended.begin(), sealed_, b->place);
      if (platform::holds(rule::ended_batch_posts_next)) ready = post_next_locked();
      tell_wanted_locked();
    }
    batch_type::post(std::move(ready));
  }

  // ---- fork (B8) --------------------------------------------------------------------------------

  class fork_mender final : fork_member {
   public:
    explicit fork_mender(batch_line& line) : fork_member(rank::lines), line_(line) {
      enter_forks();
    }
    ~fork_mender() { leave_forks(); }

   private:
    SINGLEFLIGHT_COLD void hold() noexcept override { line_.lock_.lock(); }
    SINGLEFLIGHT_COLD void release() noexcept override { line_.lock_.unlock(); }
    SINGLEFLIGHT_COLD void mend() noexcept override {
      if (platform::holds(rule::parents_batches_are_set_aside)) line_.set_aside_locked();
    }
    batch_line& line_;
  };

  void set_aside_locked() noexcept {
    while (batch_type* const b = wanted_) {
      wanted_ = b->next_wanted;
      b->wanted = false;
    }
    for (const pointer& b : waiting_) {
      b->posted = false;
      b->sealed = true;
    }
    parents_.splice(parents_.end(), waiting_);
    for (auto at = sealed_.begin(); at != sealed_.end();) {
      const auto next = std::next(at);
      if ((*at)->sealer != &this_thread()) parents_.splice(parents_.end(), sealed_, at);
      at = next;
    }
    posted_ = 0;
    // A thread that was about to arm may not have come to it.
    if (std::exchange(arming_, 0U) != 0) armed_ = alarm_.next != nullptr;
    platform::renew(armed_or_not_);
  }

  // ---- the delay --------------------------------------------------------------------------------

  /// Rings at `when`; announced by `armed_` and `arming_`. Without a timer the batch goes at once.
  void arm(steady_time when) {
    struct arming {
      std::shared_ptr<batch_line> line;
      ~arming() {
        {
          platform::unique_lock hold(line->lock_);
          --line->arming_;
        }
        line->armed_or_not_.notify_all();
      }
    } const here{this->shared_from_this()};
    try {
      clock_.arm(alarm_, when);
    } catch (...) {
      if (platform::is_thread_exit()) throw;
      {
        platform::unique_lock hold(lock_);
        armed_ = false;
      }
      flush();
    }
  }

  /// On the timer's thread. The batch that it was armed for may have gone, and another gathers.
  void ring() noexcept {
    const fire_scope fires;
    pointer ready;
    steady_time again{};
    bool arms = false;
    const steady_time now = clock_.now();
    {
      platform::unique_lock hold(lock_);
      armed_ = false;
      if (!closed_ && !waiting_.empty() && !waiting_.back()->due) {
        again = waiting_.back()->due_at;
        if (again <= now) {
          make_due_locked(*waiting_.back());
          ready = post_next_locked();
        } else if (platform::holds(rule::alarm_rings_again)) {
          armed_ = arms = true;
          ++arming_;
        }
      }
    }
    if (arms) arm(again);
    batch_type::post(std::move(ready));
  }

  const batcher_options bounds_;
  const std::uint64_t place_id_ = next_flight_id(this_thread());
  timer& clock_;
  load_many load_;
  alarm alarm_{*this};
  mutable platform::mutex lock_;
  platform::condition_variable armed_or_not_;  // `arming_` has changed
  std::list<pointer> waiting_;  // not sealed, in the order of their first keys; only the last may
                                // be gathering, or have room
  std::list<pointer> sealed_;
  std::list<pointer> parents_;    // in a child of fork: what the parent runs (B8)
  batch_type* wanted_ = nullptr;  // those that found no place; each end empties it, its own too
  std::size_t posted_ = 0;
  std::uint32_t arming_ = 0;  // threads that are about to arm
  bool armed_ = false;
  bool closed_ = false;
  batch_counts counts_;
  const fork_mender fork_{*this};
};

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE
