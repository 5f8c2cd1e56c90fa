// SPDX-License-Identifier: Apache-2.0
#pragma once

// batch: the keys of a batcher that are loaded together. Its states are described in
// batch_line.hpp.

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <list>
#include <memory>
#include <new>
#include <optional>
#include <utility>

#include "singleflight/flight/detail/group_door.hpp"
#include "singleflight/sync/batcher_options.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

template <class Key, class Value>
struct batch;
template <class Key, class Value>
class batch_line;

/// The loader of one key: stores its promise next to the key, for the batch to answer.
template <class Key, class Value>
struct batched_key : gathered_loader {
  explicit batched_key(Key&& own) : key(std::move(own)) {}

  void operator()(flight_promise<Value> answer) {
    if (in == nullptr) throw std::bad_alloc();  // there was no memory for a batch
    promise.emplace(std::move(answer));
  }

  /// Requires that `promise` is set.
  flight_promise<Value> take_promise() {
    flight_promise<Value> taken = std::move(*promise);
    promise.reset();
    return taken;
  }

  Key key;
  /// The batch of this key. Set before the load is opened; then guarded by the flight's block lock.
  std::shared_ptr<batch<Key, Value>> in{};
  std::optional<flight_promise<Value>> promise{};
};

template <class Key, class Value>
struct batch final : task_node, gathering, std::enable_shared_from_this<batch<Key, Value>> {
  using pointer = std::shared_ptr<batch>;
  using line_type = batch_line<Key, Value>;

  explicit batch(std::shared_ptr<line_type> owner) : task_node(&act_on), line(std::move(owner)) {}

  static batched_key<Key, Value>& loader_of(load_base& load) noexcept {
    return static_cast<owned_load<Value, batched_key<Key, Value>>&>(load).loader();
  }
  void push(load_base& load) noexcept {
    load.next = nullptr;
    (first == nullptr ? first : last->next) = &load;
    last = &load;
    ++size;
  }
  /// Passes `b` to the executor.
  static void post(pointer b) {
    if (b == nullptr) return;
    const any_executor executor = b->line->executor();
    batch& node = *b;
    node.self = b;
    try {
      executor.execute(task(&node));
    } catch (...) {  // refused: dropping the task has ended the flights as broken
      if (platform::is_thread_exit()) throw;
    }
    if (!executor.is_inline()) b->line->notify_posted(*b);
  }
  void begin_here() override { line->begin_here(this->shared_from_this()); }
  static void act_on(task_node* node, bool run) {
    if (!run && drop_later(node)) return;
    const call_scope scope;
    auto& b = *static_cast<batch*>(node);
    thread_state& thread = this_thread();
    if (!run && !std::exchange(b.dropped, true)) {
      if (thread.refusal != nullptr) b.refusal = *thread.refusal;
      run_later_here(node);  // an executor that drops several in a row must not nest them
      return;
    }
    const pointer self = std::move(b.self);
    if (!std::exchange(self->dropped, false)) {
      self->line->run_task(self, true);
    } else {
      const std::exception_ptr why = std::move(self->refusal);
      std::optional<refusing> reason;
      if (why != nullptr) reason.emplace(thread, why);
      self->line->run_task(self, false);
    }
  }

  const std::shared_ptr<line_type> line;
  typename std::list<pointer>::iterator position{};  ///< in the line
  load_base* first = nullptr;  ///< in the order of the calls; each with the reference of its task
  load_base* last = nullptr;
  std::size_t size = 0;
  steady_time due_at{};
  bool due = false;
  bool flushed = false;
  bool posted = false;
  bool sealed = false;
  const thread_state* sealer = nullptr;  ///< the thread that runs it
  bool passed_over = false;              ///< its task found no free place
  bool awaits_place = false;       ///< listed, since a waiter that would begin it found no place
  batch* next_awaiting = nullptr;  ///< in that list
  pointer self{};                  ///< while its task is with the executor
  bool dropped = false;
  std::exception_ptr refusal{};  ///< why it was dropped, where a pool has given a reason
};

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE
