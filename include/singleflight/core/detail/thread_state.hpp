// SPDX-License-Identifier: Apache-2.0
#pragma once

// What the library keeps per thread: the loads it leads, the task groups it works for, its
// trampoline, its range of ids, its index.

#include <cstdint>
#include <exception>
#include <vector>

#include "singleflight/core/detail/fork.hpp"
#include "singleflight/core/detail/platform.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE

class thread_pool;

namespace detail {

struct task_node;

/// One load that this thread is inside of; lives on the stack of the call that leads it.
struct led_frame {
  std::uint64_t flight_id;
  const led_frame* outer;   ///< the next load outwards on the same thread
  const led_frame* within;  ///< the load that the caller said it belongs to
  const void* group;
  bool inline_run;  ///< led by run(): under the caller's own locks, perhaps
};

/// A group of tasks that this thread is inside of; lives on the stack of the call that runs them.
struct task_frame {
  const void* group;
  const task_frame* outer;
  bool works;  ///< takes one task after the other; not: runs its stop callbacks
};

struct SINGLEFLIGHT_SHARED_STATE thread_state {
  static constexpr std::uint32_t no_index = 0xffffffffU;

  const led_frame* led = nullptr;
  const task_frame* tasks = nullptr;
  std::uint64_t next_id = 0;
  std::uint64_t ids_end = 0;
  std::uint32_t index = no_index;
  std::uint32_t vain_waits = 0;  ///< since a wait for a short flight's end last paid
  std::uint32_t inside_run = 0;  ///< > 0: no user code of others may run on this thread now
  bool in_scope = false;         ///< a library call is under way whose end drains the trampoline
  task_node* queue_head = nullptr;
  task_node* queue_tail = nullptr;
  thread_pool* pool = nullptr;                  ///< the pool that this thread works for
  const std::exception_ptr* refusal = nullptr;  ///< why a pool drops the task that it is dropping
};

inline thread_state& this_thread() noexcept { return platform::per_thread<thread_state>(); }

/// While it lives, a pool drops a task, for `why`.
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

SINGLEFLIGHT_COLD inline void refill_ids(thread_state& self) noexcept {
  constexpr std::uint64_t range = std::uint64_t{1} << 16;
  self.next_id = id_ranges().fetch_add(1, memory_order_relaxed) * range;
  self.ids_end = self.next_id + range - 1;
}

inline std::uint64_t next_flight_id(thread_state& self) noexcept {
  if (self.next_id == self.ids_end) [[unlikely]] {
    refill_ids(self);
  }
  return ++self.next_id;
}

// ---- small thread indexes, the lowest free one first --------------------------------------------

class SINGLEFLIGHT_SHARED_STATE thread_indexes final : fork_member {
 public:
  thread_indexes() : fork_member(rank::last) { enter_forks(); }
  ~thread_indexes() override { leave_forks(); }
  static thread_indexes& instance() noexcept {
    static platform::never_destroyed<thread_indexes> one;
    return one.get();
  }
  std::uint32_t take() noexcept {
    platform::unique_lock hold(lock_);
    for (std::size_t word = 0; word < words; ++word) {
      if (const int bit = std::countr_one(used_[word]); bit < 64) {
        used_[word] |= std::uint64_t{1} << bit;
        return static_cast<std::uint32_t>(word * 64 + static_cast<std::size_t>(bit));
      }
    }
    return words * 64;  // more threads than that share one index
  }
  void give_back(std::uint32_t index) noexcept {
    if (index >= words * 64) return;
    platform::unique_lock hold(lock_);
    used_[index / 64] &= ~(std::uint64_t{1} << (index % 64));
  }

  static constexpr std::uint32_t words = 64;  ///< 4,096 threads with an index of their own

 private:
  void hold() noexcept override { lock_.lock(); }
  void release() noexcept override { lock_.unlock(); }
  void mend() noexcept override {
    const std::uint32_t mine = this_thread().index;
    for (std::uint64_t& word : used_) word = 0;
    if (mine < words * 64) used_[mine / 64] |= std::uint64_t{1} << (mine % 64);
  }

  platform::mutex lock_;
  std::uint64_t used_[words] = {};
};

inline constexpr std::uint32_t shared_thread_index = thread_indexes::words * 64;

inline void give_thread_index_back() noexcept {
  thread_state& self = this_thread();
  thread_indexes::instance().give_back(self.index);
  self.index = shared_thread_index;  // calls from later thread-exit code count there
}

SINGLEFLIGHT_COLD inline std::uint32_t assign_thread_index(thread_state& self) noexcept {
  self.index = thread_indexes::instance().take();
  platform::at_thread_exit<&give_thread_index_back>();
  return self.index;
}

inline std::uint32_t thread_index(thread_state& self) noexcept {
  if (self.index == thread_state::no_index) [[unlikely]] {
    return assign_thread_index(self);
  }
  return self.index;
}

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE
