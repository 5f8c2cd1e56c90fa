// SPDX-License-Identifier: Apache-2.0
#pragma once

/// thread_pool: an elastic pool: a thread when none is idle, up to a bound.
///
/// Use when    loads or resumptions need threads and no other executor is at hand.
/// Threads     every member, from any thread.
/// Ordering    tasks begin in the order in which they were handed over.
/// Blocking    execute never waits; the destructor runs what is queued and joins the threads.
///             Within one of the pool's own tasks it would wait for itself, and aborts the process.
/// Errors      execute throws std::system_error (resource_unavailable_try_again) when the pool has
///             no thread and none can be made.
/// Fork        a child has none of the threads, and starts its own; what was queued or running is
///             its parent's. A task that forks may end the pool in the child, also by exit().
/// Lifetime    outlives whatever uses it as executor; may go once all it was given has run, also
///             while the call that handed it over returns. default_pool() is never destroyed.
/// Cost        no allocation to queue a task of the library.

#include <chrono>
#include <cstddef>
#include <vector>

#include "singleflight/core/executor.hpp"
#include "singleflight/core/support/fork.hpp"
#include "singleflight/core/timer.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE

struct thread_pool_options {
  std::size_t max_threads = 64;    ///< 1 or more
  const char* name = "sf-worker";  ///< of each thread, at most 15 characters; must outlive the pool
};

class SINGLEFLIGHT_SHARED_STATE thread_pool final : detail::fork_member {
 public:
  explicit thread_pool(thread_pool_options options = {});
  thread_pool(const thread_pool&) = delete;
  thread_pool& operator=(const thread_pool&) = delete;

  /// 1. no idle thread goes back to sleep; 2. the threads run what is queued; 3. they are joined;
  /// 4. what threads that were ended by a task (pthread_exit) left behind runs here. In a child
  /// that a task has forked, the thread of that task does not join itself: it ends after the task.
  ~thread_pool();

  void execute(task t);

  std::size_t threads() const {
    platform::unique_lock hold(lock_);
    return live_;
  }
  /// Whether more tasks are queued than threads are on their way to take them: the rest waits until
  /// a busy thread comes back.
  bool starved() const {
    platform::unique_lock hold(lock_);
    return queued_ > notified_ + starting_;
  }

  /// Queues an intrusive node. When `keep` and no thread can be made, the node stays queued, and a
  /// thread is asked for again from time to time (of a pool that is never destroyed, therefore);
  /// otherwise std::system_error is thrown and the node is not queued.
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

  // ---- no thread to be had ----------------------------------------------------------------------

  struct retry : timer_node {
    explicit retry(thread_pool& of) noexcept : timer_node(&ask_again), pool(of) {}
    thread_pool& pool;
  };
  static constexpr std::chrono::milliseconds between_attempts{100};

  void ask_again_later() noexcept;
  static void ask_again(timer_node& node) noexcept;

  // ---- fork -------------------------------------------------------------------------------------

  SINGLEFLIGHT_COLD void hold() noexcept override { lock_.lock(); }
  SINGLEFLIGHT_COLD void release() noexcept override { lock_.unlock(); }
  SINGLEFLIGHT_BODY void mend() noexcept override;

  const thread_pool_options options_;
  mutable platform::mutex lock_;  // guards all below; nothing but list work under it
  platform::condition_variable work_;
  detail::task_node* head_ = nullptr;
  detail::task_node* tail_ = nullptr;
  std::vector<platform_thread> threads_;
  std::size_t live_ = 0;
  std::size_t queued_ = 0;
  std::size_t starting_ = 0;  // made, not yet at the queue
  std::size_t idle_ = 0;      // asleep and not yet promised to a task
  std::size_t notified_ = 0;  // promised, not yet awake
  bool stopping_ = false;
  bool forked_within_ = false;  // in a child of fork: the thread of one of the tasks has forked it
  bool retrying_ = false;       // retry_ is armed, or about to be
  retry retry_;
};

namespace detail {
struct SINGLEFLIGHT_SHARED_STATE shared_pools {
  static inline constinit platform::one_per_process<thread_pool> usual;
  static inline constinit platform::one_per_process<thread_pool> of_timeouts;
};
}  // namespace detail

/// The process-wide elastic pool: up to 64 threads or four a processor, started when first
/// needed.
thread_pool& default_pool();

namespace detail {
/// Where what a timeout leaves to do runs, stop callbacks above all: not on default_pool(), whose
/// threads may all be in the loads that hang. As many may hang at a time as there are threads, less
/// one.
thread_pool& timeout_pool();

/// For the constructor of what posts where nothing may be thrown, as in a fire: no post then finds
/// a pool missing, and no memory for it.
void make_shared_pools();

/// Asked by a task that is dropped, and stands for users' code. True: this is within a timer's
/// fire, and a thread of timeout_pool() will drop it. Where there is no memory for that it is
/// dropped here.
bool drop_later(task_node* node) noexcept;

}  // namespace detail

SINGLEFLIGHT_END_NAMESPACE

#if !defined(SINGLEFLIGHT_COMPILED)
#include "singleflight/core/impl/thread_pool.hpp"
#endif
