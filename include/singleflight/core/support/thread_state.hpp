// SPDX-License-Identifier: Apache-2.0
#pragma once

// thread_state: the library's state per thread: what the thread leads, its trampoline, its range of
// ids, its index.

#include <cstdint>
#include <exception>
#include <span>
#include <utility>

#include "singleflight/core/support/fork.hpp"
#include "singleflight/core/support/platform.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE

class thread_pool;

namespace detail {

struct task_node;
class end_scope;

/// A load, a task of a group, or an attempt that this thread is running; lives on the stack of the
/// call that leads it.
struct led_frame {
  std::uint64_t flight_id;  ///< what cannot end before this does; 0 if nothing waits for this
  const led_frame* outer;   ///< the next one outwards on the same thread
  const led_frame* within;  ///< the load that the caller has named as the one it belongs to
  const void* group;        ///< the group of flights or of tasks
  bool inline_run;          ///< led by run(), and so perhaps under locks of the caller's
  bool works = false;       ///< runs the tasks of the group, one after the other
};

/// A call of a loader that returns its result through a promise; lives on the stack of the call.
struct promise_call {
  const void* load;
  std::uint32_t attempt;
  int exceptions_before;  ///< uncaught exceptions on this thread when the call began
  promise_call* outer;    ///< the next such call outwards on the same thread
  void (*settle)(promise_call&);
  /// True if the promise was destroyed without a result during stack unwinding: if the exception
  /// leaves the loader, it is the result. Whether it does is known when the call has ended.
  bool dropped = false;
};

struct SINGLEFLIGHT_SHARED_STATE thread_state {
  static constexpr std::uint32_t no_index = 0xffffffffU;
  /// In a child of fork: the forking thread.
  static inline constinit const thread_state* forker = nullptr;

  const led_frame* led = nullptr;
  promise_call* promise_calls = nullptr;
  std::uint64_t next_id = 0;
  std::uint64_t ids_end = 0;
  std::uint32_t index = no_index;
  std::uint32_t vain_waits = 0;  ///< spins for a short flight's end since the last that succeeded
  std::uint32_t inside_run = 0;  ///< if > 0, no user code of other callers may run on this thread
  std::uint32_t errands = 0;     ///< if > 0, running other threads' work: tasks, callbacks, results
  bool ends_values = false;      ///< in the pool's task that destroys values removed from caches
  end_scope* ends = nullptr;     ///< the outermost call on a cache that may load on this thread
  bool in_scope = false;         ///< inside a library call that drains the trampoline at its end
  bool forked = false;           ///< the forker, and its trampoline has not been handed over since
  task_node* queue_head = nullptr;
  task_node* queue_tail = nullptr;
  thread_pool* pool = nullptr;                  ///< the pool that this thread belongs to
  std::uint32_t fires = 0;                      ///< how many fires of timers this thread is inside
  const std::exception_ptr* refusal = nullptr;  ///< why a pool is dropping a task on this thread
};

inline thread_state& this_thread() noexcept { return platform::per_thread<thread_state>(); }

/// Called before this thread blocks. A loader on it may have caught the exception that destroyed
/// its promise: its callers get `broken` now, instead of waiting along with it.
void settle_promises();

/// Marks this thread, for as long as the object exists, as running other threads' work, for which a
/// load may wait.
class on_errand {
 public:
  on_errand() noexcept : self_(this_thread()) { ++self_.errands; }
  on_errand(const on_errand&) = delete;
  on_errand& operator=(const on_errand&) = delete;
  ~on_errand() { --self_.errands; }

 private:
  thread_state& self_;
};

/// The first threads have one each, which only they write; the others share the last.
struct alignas(64) wandering_cell {
  atomic<std::uint32_t> begun{0};
  atomic<std::uint32_t> ended{0};
};
/// Counts a load that does not stay on one thread: it continues on whichever thread resumes its
/// coroutine or fulfils its promise, and that thread's state may not list it.
class SINGLEFLIGHT_SHARED_STATE wandering_load {
 public:
  wandering_load() noexcept { begin(); }
  wandering_load(const wandering_load&) = delete;
  wandering_load& operator=(const wandering_load&) = delete;
  ~wandering_load() { end(); }
  static void begin() noexcept { count(&cell::begun); }
  static void end() noexcept { count(&cell::ended); }
  /// Returns whether such a load exists. A thread on which one runs sees it, since the load was
  /// passed to that thread. Ends are summed first: the acquire of an end pairs with its release, so
  /// the begin of the same load is in the other sum, and no running load is hidden. A cell is
  /// marked as used before its first count: a thread that sees a count, or was passed a load, sees
  /// that cell as used.
  static bool any() noexcept {
    std::uint32_t ended = 0;
    std::uint32_t begun = 0;
    for (const cell& c : in_use()) ended += c.ended.load(memory_order_acquire);
    for (const cell& c : in_use()) begun += c.begun.load(memory_order_relaxed);
    return begun != ended;
  }

 private:
  using cell = wandering_cell;
  static constexpr std::uint32_t own_cells = platform::tuned(16, 1);
  static inline constinit cell cells[own_cells + 1];
  static inline constinit atomic<std::uint32_t> used{0};  ///< how many cells; only grows

  static std::span<const cell> in_use() noexcept {
    return {cells, used.load(memory_order_relaxed)};
  }
  SINGLEFLIGHT_INLINE static void count(atomic<std::uint32_t> cell::*which) noexcept {
    const std::uint32_t index = this_thread().index;
    if (index >= own_cells) return count_shared(which);
    atomic<std::uint32_t>& own = cells[index].*which;
    const std::uint32_t before = own.load(memory_order_relaxed);
    if (before == 0) use(index);
    own.store(before + 1, memory_order_release);
  }
  static void count_shared(atomic<std::uint32_t> cell::*which) noexcept;
  static void use(std::uint32_t index) noexcept;
};

/// Marks this thread, for as long as the object exists, as one on which a pool is dropping a task
/// because of `why`.
class refusing {
 public:
  refusing(thread_state& self, const std::exception_ptr& why) noexcept
      : self_(self), outer_(std::exchange(self.refusal, &why)) {}
  refusing(const refusing&) = delete;
  refusing& operator=(const refusing&) = delete;
  ~refusing() { self_.refusal = outer_; }

 private:
  thread_state& self_;
  const std::exception_ptr* const outer_;
};

// ---- flight ids: unique in the process, never 0, never reused -----------------------------------

SINGLEFLIGHT_SHARED_STATE inline atomic<std::uint64_t>& id_ranges() noexcept {
  static constinit atomic<std::uint64_t> next{0};
  return next;
}

void refill_ids(thread_state& self) noexcept;

inline std::uint64_t next_flight_id(thread_state& self) noexcept {
  if (self.next_id == self.ids_end) [[unlikely]] {
    refill_ids(self);
  }
  return ++self.next_id;
}

// ---- small thread indexes, the lowest free one first --------------------------------------------

class SINGLEFLIGHT_SHARED_STATE thread_indexes final : fork_member {
 public:
  thread_indexes();
  static thread_indexes& instance() noexcept {
    static platform::never_destroyed<thread_indexes> one;
    return one.get();
  }
  std::uint32_t take() noexcept;
  void give_back(std::uint32_t index) noexcept;

  static constexpr std::uint32_t words = 64;  ///< so 4,096 threads have an index of their own

 private:
  SINGLEFLIGHT_COLD void hold() noexcept override { lock_.lock(); }
  SINGLEFLIGHT_COLD void release() noexcept override { lock_.unlock(); }
  SINGLEFLIGHT_BODY void repair() noexcept override;

  platform::mutex lock_;
  std::uint64_t used_[words] = {};
};
inline const platform::made_at_load<&thread_indexes::instance> thread_indexes_at_load;

inline constexpr std::uint32_t shared_thread_index = thread_indexes::words * 64;

void give_thread_index_back() noexcept;

std::uint32_t assign_thread_index(thread_state& self) noexcept;

inline std::uint32_t thread_index(thread_state& self) noexcept {
  if (self.index == thread_state::no_index) [[unlikely]] {
    return assign_thread_index(self);
  }
  return self.index;
}

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE

#if !defined(SINGLEFLIGHT_COMPILED)
#include "singleflight/core/impl/thread_state.hpp"
#endif
