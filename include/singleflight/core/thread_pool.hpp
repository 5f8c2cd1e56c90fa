// SPDX-License-Identifier: Apache-2.0
#pragma once

/// thread_pool: an elastic pool: it starts a thread when none is idle, up to a bound.
///
/// Use when    loads or resumptions need threads and there is no other executor.
/// Threads     every member, from any thread.
/// Ordering    tasks begin in the order in which they were queued.
/// Blocking    execute never blocks; the destructor runs the queued tasks and joins the threads.
///             Within one of the pool's own tasks it would wait for itself, so it aborts the
///             process.
/// Errors      execute throws std::system_error (resource_unavailable_try_again) if the pool has no
///             thread and none can be started.
/// Fork        a child has none of the threads and starts its own; queued and running tasks remain
///             the parent's. A task that forks may destroy the pool in the child, also by exit().
/// Lifetime    outlives every use as an executor; may be destroyed once all its tasks have run,
///             even while the call that queued the last one returns. default_pool() is never
///             destroyed.
/// Cost        queueing a task of the library allocates nothing.

#include <chrono>
#include <cstddef>
#include <vector>

#include "singleflight/core/executor.hpp"
#include "singleflight/core/support/fork.hpp"
#include "singleflight/core/timer.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE

struct thread_pool_options {
  std::size_t max_threads = 64;    ///< at least 1
  const char* name = "sf-worker";  ///< of each thread, at most 15 characters; must outlive the pool
};

class SINGLEFLIGHT_SHARED_STATE thread_pool final : detail::fork_member {
 public:
  explicit thread_pool(thread_pool_options options = {});
  thread_pool(const thread_pool&) = delete;
  thread_pool& operator=(const thread_pool&) = delete;

  /// 1. No idle thread goes back to sleep; 2. the threads run the queued tasks; 3. they are joined;
  /// 4. tasks left by threads that a task has ended (pthread_exit) run here. In a child that a task
  /// has forked, the thread of that task does not join itself; it ends after the task.
  ~thread_pool();

  void execute(task t);

  std::size_t threads() const {
    platform::unique_lock hold(lock_);
    return live_;
  }
  /// Returns whether more tasks are queued than there are threads on their way to take them; the
  /// others wait for a busy thread.
  bool starved() const {
    platform::unique_lock hold(lock_);
    return queued_ > notified_ + starting_;
  }

  /// Queues an intrusive node. If no thread can be started: with `keep` the node stays queued, and
  /// the pool retries from time to time (so the pool must never be destroyed); without, it throws
  /// std::system_error and does not queue the node.
  void post(detail::task_node* node, bool keep);

 private:
  using platform_thread = detail::platform::thread;
  struct platform {  // the seam, by its short name
    using mutex = detail::platform::mutex;
    using condition_variable = detail::platform::condition_variable;
    using unique_lock = detail::platform::unique_lock;
    using thread = detail::platform::thread;
  };

  bool add_thread_locked() noexcept;

  void work();

  // ---- no thread could be started ---------------------------------------------------------------

  struct retry : timer_node {
    explicit retry(thread_pool& owner) noexcept : timer_node(&on_retry), pool(owner) {}
    thread_pool& pool;
  };
  static constexpr std::chrono::milliseconds between_attempts{100};

  void arm_retry() noexcept;
  static void on_retry(timer_node& node) noexcept;

  // ---- fork -------------------------------------------------------------------------------------

  SINGLEFLIGHT_COLD void hold() noexcept override { lock_.lock(); }
  SINGLEFLIGHT_COLD void release() noexcept override { lock_.unlock(); }
  SINGLEFLIGHT_BODY void repair() noexcept override;

  const thread_pool_options options_;
  mutable platform::mutex lock_;  // guards all below; only list operations run under it
  platform::condition_variable work_;
  detail::task_node* head_ = nullptr;
  detail::task_node* tail_ = nullptr;
  std::vector<platform_thread> threads_;
  std::size_t live_ = 0;
  std::size_t queued_ = 0;
  std::size_t starting_ = 0;  // threads started that have not reached the queue yet
  std::size_t idle_ = 0;      // threads asleep and not yet promised to a task
  std::size_t notified_ = 0;  // threads promised to a task and not yet awake
  bool stopping_ = false;
  bool forked_within_ = false;  // in a child of fork: it was forked by one of the pool's tasks
  bool retrying_ = false;       // retry_ is armed, or about to be
  retry retry_;
};

namespace detail {
struct SINGLEFLIGHT_SHARED_STATE shared_pools {
  static inline constinit platform::one_per_process<thread_pool> usual;
  static inline constinit platform::one_per_process<thread_pool> of_timeouts;
};
}  // namespace detail

/// The process-wide elastic pool: up to 64 threads or four per processor, whichever is more,
/// started when first needed.
thread_pool& default_pool();

namespace detail {
/// The pool that runs what a timeout leaves to do, mainly stop callbacks. default_pool() cannot:
/// its threads may all be inside loads that hang. One fewer of these tasks than the pool has
/// threads may hang at a time.
thread_pool& timeout_pool();

/// Creates both pools. Called by the constructor of what posts where nothing may be thrown, as in a
/// timer's fire, so that no such post has to allocate a pool.
void make_shared_pools();

/// Called for a task that is being dropped and whose destruction runs user code. Returns true
/// within a timer's fire: a thread of timeout_pool() will drop the task. Returns false elsewhere,
/// or if no memory is left for that: the caller drops it now.
bool drop_later(task_node* node) noexcept;

}  // namespace detail

SINGLEFLIGHT_END_NAMESPACE

#if !defined(SINGLEFLIGHT_COMPILED)
#include "singleflight/core/impl/thread_pool.hpp"
#endif
