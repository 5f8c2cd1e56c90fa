// SPDX-License-Identifier: Apache-2.0
#pragma once

// one_shot: a result that is published once and taken by one handle.
//
// O1  `word_` is the lock (bit 0) and `published` (bit 1), which is set once, by publish().
// O2  `result_` is written only by the producer, before `published`, and read only by the handle,
//     after it. publish() unlocks with release; settled() and the lock acquire. A blocked thread is
//     notified with a release of its own (sleeper).
// O3  There is at most one waiter: a thread (`thread_`) or a coroutine (`waiting_`), guarded by the
//     lock. It is notified once, in the critical section that removes it: of the result, or of its
//     own limit. Whichever comes first decides.
// O4  References: the producer's until it has published, the handle's, and those of the runners.

#include <coroutine>
#include <cstdint>
#include <optional>
#include <utility>

#include "singleflight/core/handle_wait.hpp"
#include "singleflight/core/outcome.hpp"
#include "singleflight/core/support/bit_lock.hpp"
#include "singleflight/core/support/resume_batch.hpp"
#include "singleflight/core/support/sleeper.hpp"
#include "singleflight/core/support/wait_graph.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

/// Everything but the result. A producer derives from one_shot<V>.
class one_shot_base : public platform::allocated {
 public:
  using batch_type = resume_batch<one_shot_base>;

  one_shot_base(const any_executor& executor, timer& time) noexcept;
  one_shot_base(const one_shot_base&) = delete;
  one_shot_base& operator=(const one_shot_base&) = delete;
  virtual ~one_shot_base() = default;

  bool settled() const noexcept { return (word_.load(memory_order_acquire) & published) != 0; }

  // ---- the handle -------------------------------------------------------------------------------

  /// Lists a coroutine that is about to suspend. Returns false if it should continue at once.
  bool enrol(handle_base& handle, batch_type& batch, bool always);

  /// Called when a limit of the coroutine has expired, whether it is suspended or about to suspend.
  /// From here on the result is not wanted, however late the executor resumes the coroutine.
  void give_up(handle_base& handle, wait_verdict why);

  /// Removes a coroutine that will not be resumed. The handle is as if it had never waited, except
  /// that it keeps a verdict.
  void take_out(handle_base& handle) noexcept;

  /// Blocks until the result is available or a limit expires. Returns `recursive` if the wait would
  /// never end.
  wait_verdict sleep(const limits& bounds);
  /// Returns the edge's target in the wait graph.
  wait_graph::target graph_target() const noexcept {
    return {.id = id, .behind = nullptr, .word = &word_, .mask = published, .over = published};
  }

  /// Called if the result will not be taken, and has not been given up before. Drops the handle's
  /// reference.
  void abandon();

  // ---- as the owner of batches ------------------------------------------------------------------

  using waiters_lock = owner_lock<one_shot_base>;
  void lock() noexcept { lock_bit::lock(word_); }
  void unlock() noexcept { lock_bit::unlock(word_, published_ ? published : 0); }
  static constexpr bool pending_is_ready_locked() noexcept { return false; }
  static void strand_locked(waiter&) noexcept {}
  void add_reference() noexcept { references_.fetch_add(1, memory_order_relaxed); }
  void drop_reference() noexcept {
    // The release orders this owner's uses before the delete by the last one (acquire).
    if (references_.fetch_sub(1, memory_order_acq_rel) == 1) delete this;
  }

  timer& clock;            ///< for the limits of the wait
  const std::uint64_t id;  ///< led by the producer while it runs what its result depends on

 protected:
  /// Called once by the producer, after it has stored the result. Drops the producer's reference.
  void publish();

 private:
  using lock_bit = bit_lock<std::uint32_t, 1>;
  static constexpr std::uint32_t published = 2;

  /// Called by the wait graph, under its lock, to end the thread's wait.
  static void end_wait(void* waiter) noexcept;

  /// Called once, with no lock held, perhaps on a timer's thread, when the result is not wanted any
  /// more, though it may have arrived meanwhile. Must not run user code.
  virtual void abandoned() noexcept = 0;

  void make_ready_locked(batch_type::runner*& runners) noexcept {
    batch_->make_ready_locked(*std::exchange(waiting_, nullptr), runners);
  }

  atomic<std::uint32_t> word_{0};
  atomic<std::uint32_t> references_{2};  // the producer's and the handle's
  // Guarded by the lock:
  bool published_ = false;
  handle_base* waiting_ = nullptr;
  batch_type* batch_ = nullptr;  // of the coroutine that waits or has waited
  sleeper* thread_ = nullptr;

 public:
  batch_type home;  ///< for a wait that names no executor
};

template <class V>
class one_shot : public one_shot_base {
 public:
  using one_shot_base::one_shot_base;

  /// Requires settled(); called once. Drops the handle's reference.
  outcome<V> take() {
    struct dropping {
      one_shot& self;
      ~dropping() { self.drop_reference(); }
    } const drop{*this};
    return std::move(*result_);
  }

 protected:
  std::optional<outcome<V>> result_;
};

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE

#if !defined(SINGLEFLIGHT_COMPILED)
#include "singleflight/core/impl/one_shot.hpp"
#endif
