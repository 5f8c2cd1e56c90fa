// SPDX-License-Identifier: Apache-2.0
#pragma once

// expiry_sweep: calls a sweep on the default pool once per interval, as long as it returns that
// there is more to come.
//
// One alarm and one task per cache, and at most one of them in use: the alarm is armed, or the task
// is queued or running, or neither (idle). `lock_` guards which. The alarm is armed without the
// lock, since a timer may fire within arm; `arming_` makes stop() wait for that. A pool may be full
// of tasks that wait for the cache's end: so stop() waits for a sweep that has begun, and abandons
// a task that is only queued, which then frees itself.

#include <chrono>
#include <cstdint>
#include <memory>

#include "singleflight/cache/detail/rules.hpp"
#include "singleflight/core/default_timer.hpp"
#include "singleflight/core/thread_pool.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

class expiry_sweep final : timer_node, fork_member {
 public:
  using action = bool (*)(void* context);

  /// `sweep(context)` returns true if it is to be called again.
  expiry_sweep(timer& clock, std::chrono::nanoseconds interval, action sweep, void* context);
  expiry_sweep(const expiry_sweep&) = delete;
  expiry_sweep& operator=(const expiry_sweep&) = delete;
  ~expiry_sweep();

  /// Arms the alarm unless a sweep is pending. If arming fails, the next call tries again.
  void request() {
    if (phase_.load(memory_order_relaxed) != phase::armed) request_now();
  }

  /// After this call, no sweep runs or begins.
  void stop() noexcept;

 private:
  void request_now();

  enum class phase : std::uint8_t { idle, armed, running };
  enum class stage : std::uint32_t { queued, begun, abandoned };

  /// The task; owned by its sweep, or, once it was abandoned, by itself.
  struct sweep_task : task_node, platform::allocated {
    explicit sweep_task(expiry_sweep& sweep) noexcept : task_node(&on_task), owner(sweep) {}
    /// Changes the stage from `queued`. Either the task begins first, or stop() abandons it first.
    bool advance(stage to) noexcept {
      stage from = stage::queued;
      return state.compare_exchange_strong(from, to, memory_order_acq_rel, memory_order_acquire);
    }
    expiry_sweep& owner;
    atomic<stage> state{stage::queued};
  };

  /// Returns whether the caller has to call arm(), without the lock.
  bool claim_locked() noexcept;
  void arm();
  static void on_fire(timer_node& node) noexcept;
  static void on_task(task_node* node, bool run);
  void end(bool more) noexcept;

  // ---- fork: a sweep that was queued or running is the parent's; the child has its own ----------

  SINGLEFLIGHT_BODY void hold() noexcept override;
  SINGLEFLIGHT_BODY void release() noexcept override;
  SINGLEFLIGHT_BODY void repair() noexcept override;
  SINGLEFLIGHT_BODY void go_on() noexcept override;

  timer& clock_;
  const std::chrono::nanoseconds interval_;
  const action sweep_;
  void* const context_;
  std::unique_ptr<sweep_task> task_;
  platform::mutex lock_;
  platform::condition_variable ended_;
  atomic<phase> phase_{phase::idle};  // changed under the lock
  unsigned arming_ = 0;
  bool requested_ = false;  // request() was called since the last sweep began
  bool stopped_ = false;
  bool cut_ = false;  // by a fork
  platform::thread_id sweeper_{};
};

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE

#if !defined(SINGLEFLIGHT_COMPILED)
#include "singleflight/cache/impl/expiry_sweep.hpp"
#endif
