// SPDX-License-Identifier: Apache-2.0
#pragma once

// batch_line: how a key is added to a batch, how a batch is run, and how it becomes due. Members of
// batch_line.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <list>
#include <memory>
#include <new>
#include <utility>

#include "singleflight/sync/detail/batch_line.hpp"
#include "singleflight/sync/detail/rules.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

// ---- the keys -----------------------------------------------------------------------------------

template <class Key, class Value>
void batch_line<Key, Value>::add(load_base& load) {
  const steady_time due_at =
      delays() ? deadline_after(clock_.now(), bounds_.max_delay) : steady_time{};
  std::list<pointer> made;
  for (;;) {
    {
      platform::unique_lock hold(lock_);
      if (closed_) break;
      const bool fits = !waiting_.empty() && waiting_.back()->size < bounds_.max_batch;
      if (fits || !made.empty()) {
        if (!fits) {
          made.back()->position = made.begin();
          made.back()->due_at = due_at;
          waiting_.splice(waiting_.end(), made);
        }
        const bool arms = add_locked(load);
        pointer ready = post_next_locked();
        hold.unlock();
        if (arms) arm(due_at);
        batch_type::post(std::move(ready));
        return;
      }
    }
    try {  // outside the lock; then look again
      made.push_back(std::make_shared<batch_type>(this->shared_from_this()));
    } catch (const std::bad_alloc&) {
      break;
    }
  }
  flight_core::open_load(load);  // closed, or without memory: it ends at once
  load.act(&load, true);
}

template <class Key, class Value>
bool batch_line<Key, Value>::add_locked(load_base& load) {
  batch_type& b = *waiting_.back();
  batch_type::loader_of(load).in = waiting_.back();
  if (has_one_place()) load.block->behind.store(place_id_, memory_order_release);
  b.push(load);
  if (b.due || platform::holds(rule::gathered_key_is_open)) flight_core::open_load(load);
  if (b.due) {
    if (platform::holds(rule::late_key_wakes_waiter)) flight_core::notify_claimers(*load.block);
  } else if (!delays() || b.size == bounds_.max_batch) {
    make_due_locked(b);
  }
  if (b.due || armed_) return false;
  armed_ = true;
  ++arming_;
  return true;
}

template <class Key, class Value>
void batch_line<Key, Value>::flush() {
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

template <class Key, class Value>
void batch_line<Key, Value>::make_due_locked(batch_type& b) {
  b.due = true;
  for (load_base* load = b.first; load != nullptr; load = load->next) {
    if (!platform::holds(rule::gathered_key_is_open)) flight_core::open_load(*load);
    flight_core::notify_claimers(*load->block);
  }
}

// ---- the line -----------------------------------------------------------------------------------

template <class Key, class Value>
auto batch_line<Key, Value>::post_next_locked() -> pointer {
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

template <class Key, class Value>
void batch_line<Key, Value>::notify_posted(batch_type& b) {
  platform::unique_lock hold(lock_);
  if (b.sealed || !platform::holds(rule::posted_batch_notifies)) return;
  for (load_base* load = b.first; load != nullptr; load = load->next) {
    flight_core::notify_claimers(*load->block);
  }
}

template <class Key, class Value>
void batch_line<Key, Value>::run_task(const pointer& b, bool run) {
  {
    platform::unique_lock hold(lock_);
    if (b->sealed && platform::holds(rule::batch_is_sealed_once)) return;
    if (std::exchange(b->posted, false)) --posted_;
    if (sealed_.size() >= bounds_.max_in_flight && !b->sealed) {
      b->passed_over =
          true;  // a waiter has taken its place; the end of a batch posts it again (B4)
      return;
    }
    seal_locked(*b);
  }
  run_sealed(b, run ? flight_errc{} : flight_errc::broken);
}

template <class Key, class Value>
void batch_line<Key, Value>::begin_here(const pointer& own) {
  pointer b = own;
  {
    platform::unique_lock hold(lock_);
    if (own->sealed || (!own->due && platform::holds(rule::begun_batch_is_due))) return;
    const bool full = sealed_.size() >= bounds_.max_in_flight;
    const bool after = waiting_.front()->passed_over && waiting_.front() != own;
    if ((full || after) && !std::exchange(own->awaits_place, true)) {
      own->next_awaiting = std::exchange(awaiting_place_, own.get());
    }
    if (full) return;
    if (after) b = waiting_.front();
    seal_locked(*b);
  }
  run_sealed(b, {});
}

template <class Key, class Value>
void batch_line<Key, Value>::seal_locked(batch_type& b) {
  if (std::exchange(b.posted, false)) --posted_;
  b.sealed = true;
  b.sealer = &this_thread();
  sealed_.splice(sealed_.end(), waiting_, b.position);
}

template <class Key, class Value>
void batch_line<Key, Value>::notify_awaiting_locked() {
  while (batch_type* const b = awaiting_place_) {
    awaiting_place_ = b->next_awaiting;
    b->awaits_place = false;
    if (b->sealed) continue;
    for (load_base* load = b->first; load != nullptr; load = load->next) {
      if (platform::holds(rule::free_place_wakes_waiter)) {
        load->block->wake(block_base::claimer_channel);
      }
    }
  }
}

template <class Key, class Value>
void batch_line<Key, Value>::close() {
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
          arming_changed_.wait(hold);
      }
    }
    if (b == nullptr) break;
    run_sealed(b, flight_errc::closed);
  }
  clock_.cancel(alarm_);
}

// ---- the run of a batch -------------------------------------------------------------------------

template <class Key, class Value>
void batch_line<Key, Value>::run_sealed(const pointer& b, flight_errc why_not) {
  const call_scope scope;
  struct running {  // frees the place, also when the loader ends its thread
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
  claim_loads(*b, why_not);
  deposits<Key, Value> given = collect_promises(*b);
  if (given.keys.empty()) return;
  count_call(*b, given.keys.size());
  given.load(load_, [&run] { run.end(); });
}

template <class Key, class Value>
void batch_line<Key, Value>::claim_loads(batch_type& b, flight_errc why_not) {
  for (load_base* load = b.first; load != nullptr; load = load->next) {
    if (!load->claim()) continue;  // ended: all have left it, or the group is closed (B2)
    if (why_not == flight_errc{}) {
      load->home->add_reference();  // the run's
      load->run();                  // does nothing if they leave or the group closes just now
    } else if (why_not == flight_errc::broken) {
      load->block->core->finish_dropped(*load->block);
    } else {
      load->block->core->finish_and_drop(*load->block, flight_result::code, why_not);
    }
  }
}

template <class Key, class Value>
auto batch_line<Key, Value>::collect_promises(batch_type& b) -> deposits<Key, Value> {
  deposits<Key, Value> given;
  for (load_base* load = b.first; load != nullptr; load = load->next) {
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
  return given;
}

template <class Key, class Value>
void batch_line<Key, Value>::count_call(const batch_type& b, std::uint64_t keys) {
  platform::unique_lock hold(lock_);
  counts_.keys += keys;
  counts_.largest = std::max(counts_.largest, keys);
  ++counts_.batches;
  ++(b.size == bounds_.max_batch ? counts_.full : b.flushed ? counts_.flushed : counts_.delayed);
}

template <class Key, class Value>
void batch_line<Key, Value>::end(const pointer& b) {
  for (load_base* load = std::exchange(b->first, nullptr); load != nullptr;) {
    load_base* const next = load->next;
    pointer in;  // released after the lock
    // Nobody asks for the batch of a load that is over, and its lock may be held by a thread that
    // does not exist in a child of fork (V4).
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
    ended.splice(ended.begin(), sealed_, b->position);
    if (platform::holds(rule::ended_batch_posts_next)) ready = post_next_locked();
    notify_awaiting_locked();
  }
  batch_type::post(std::move(ready));
}

// ---- fork (B8) ----------------------------------------------------------------------------------

template <class Key, class Value>
void batch_line<Key, Value>::set_aside_locked() noexcept {
  while (batch_type* const b = awaiting_place_) {
    awaiting_place_ = b->next_awaiting;
    b->awaits_place = false;
  }
  for (const pointer& b : waiting_) {
    b->posted = false;
    b->sealed = true;
  }
  parents_batches_.splice(parents_batches_.end(), waiting_);
  for (auto b = sealed_.begin(); b != sealed_.end();) {
    const auto next = std::next(b);
    if ((*b)->sealer != &this_thread()) {
      parents_batches_.splice(parents_batches_.end(), sealed_, b);
    }
    b = next;
  }
  posted_ = 0;
  // A thread that was about to arm may not have done so.
  if (std::exchange(arming_, 0U) != 0) armed_ = alarm_.next != nullptr;
  platform::renew(arming_changed_);
}

// ---- the delay ----------------------------------------------------------------------------------

template <class Key, class Value>
void batch_line<Key, Value>::arm(steady_time when) {
  struct arming {
    std::shared_ptr<batch_line> line;
    ~arming() {
      {
        platform::unique_lock hold(line->lock_);
        --line->arming_;
      }
      line->arming_changed_.notify_all();
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

template <class Key, class Value>
void batch_line<Key, Value>::on_alarm() noexcept {
  const fire_scope fires;
  pointer ready;
  steady_time due_at{};
  bool arms = false;
  const steady_time now = clock_.now();
  {
    platform::unique_lock hold(lock_);
    armed_ = false;
    if (!closed_ && !waiting_.empty() && !waiting_.back()->due) {
      due_at = waiting_.back()->due_at;
      if (due_at <= now) {
        make_due_locked(*waiting_.back());
        ready = post_next_locked();
      } else if (platform::holds(rule::alarm_is_rearmed)) {
        armed_ = arms = true;
        ++arming_;
      }
    }
  }
  if (arms) arm(due_at);
  batch_type::post(std::move(ready));
}

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE
