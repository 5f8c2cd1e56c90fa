// SPDX-License-Identifier: Apache-2.0
#pragma once

// one_shot: a result that is given once, and taken by one handle.
//
// O1  `word_` is the lock (bit 0) and `there` (bit 1), which is set once, by publish().
// O2  `result_` is written by the producer alone, before `there`, and read by the handle alone,
//     after it. publish() unlocks with release; settled(), and the lock, acquire. A blocked thread
//     is told by a release of its own (sleeper).
// O3  At most one waits: a thread (`thread_`) or a coroutine (`waiting_`), guarded by the lock. It
//     is told once, in the critical section that takes it out: by the result, or by its own limit.
//     Whichever comes first holds.
// O4  References: the producer's until it has published, the handle's, and the runners'.

#include <coroutine>
#include <cstdint>
#include <optional>
#include <utility>

#include "singleflight/core/handle_wait.hpp"
#include "singleflight/core/outcome.hpp"
#include "singleflight/core/support/bit_lock.hpp"
#include "singleflight/core/support/sleeper.hpp"
#include "singleflight/core/support/wait_graph.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

/// All but the result. A producer derives from one_shot<V>.
class one_shot_base : public platform::allocated {
 public:
  using batch_type = resume_batch<one_shot_base>;

  one_shot_base(const any_executor& executor, timer& time) noexcept;
  one_shot_base(const one_shot_base&) = delete;
  one_shot_base& operator=(const one_shot_base&) = delete;
  virtual ~one_shot_base() = default;

  bool settled() const noexcept { return (word_.load(memory_order_acquire) & there) != 0; }

  // ---- the handle -------------------------------------------------------------------------------

  /// A coroutine is about to suspend. False: it should go on at once.
  bool enrol(handle_base& h, batch_type& batch, bool always);

  /// A limit of the suspended coroutine, or of one that is about to suspend, has struck. From here
  /// on nobody wants the result, however late the executor resumes the coroutine.
  void give_up(handle_base& h, wait_verdict why);

  /// The coroutine will not be resumed any more. The handle is as if it had never waited, but for a
  /// verdict: that stays.
  void take_out(handle_base& h) noexcept;

  /// Sleeps until the result is there, or a limit strikes; `recursive` when that would never end.
  wait_verdict sleep(const limits& bounds);
  /// For the graph of those who wait.
  wait_graph::target graph_target() const noexcept {
    return {.id = id, .behind = nullptr, .word = &word_, .mask = there, .over = there};
  }

  /// Nobody will take the result, which nobody has given up before. Drops the handle's reference.
  void abandon();

  // ---- as the owner of batches ------------------------------------------------------------------

  using waiters_lock = owner_lock<one_shot_base>;
  void lock() noexcept { lock_bit::lock(word_); }
  void unlock() noexcept { lock_bit::unlock(word_, there_ ? there : 0); }
  static constexpr bool pending_is_ready_locked() noexcept { return false; }
  static void strand_locked(waiter&) noexcept {}
  void add_reference() noexcept { references_.fetch_add(1, memory_order_relaxed); }
  void drop_reference() noexcept {
    // The release orders this owner's uses before the delete by the last one (acquire).
    if (references_.fetch_sub(1, memory_order_acq_rel) == 1) delete this;
  }

  timer& clock;            ///< for the limits of the wait
  const std::uint64_t id;  ///< what the producer leads while it runs what its result depends on

 protected:
  /// The producer, once: the result is there. Drops the producer's reference.
  void publish();

 private:
  using lock_bit = bit_lock<std::uint32_t, 1>;
  static constexpr std::uint32_t there = 2;

  /// The thread's wait has been struck. Under the graph's lock.
  static void strike(void* waiter) noexcept;

  /// Nobody wants the result any more; it may have come meanwhile. Called outside of locks, once,
  /// perhaps on a timer's thread: no user code.
  virtual void abandoned() noexcept = 0;

  void make_ready_locked(batch_type::runner*& runners) noexcept {
    batch_->make_ready_locked(*std::exchange(waiting_, nullptr), runners);
  }

  atomic<std::uint32_t> word_{0};
  atomic<std::uint32_t> references_{2};  // the producer's and the handle's
  // Guarded by the lock:
  bool there_ = false;
  handle_base* waiting_ = nullptr;
  batch_type* batch_ = nullptr;  // of the coroutine that waits, or did
  sleeper* thread_ = nullptr;

 public:
  batch_type home;  ///< for a wait that names no executor
};

template <class V>
class one_shot : public one_shot_base {
 public:
  using one_shot_base::one_shot_base;

  /// Requires settled(); once. Drops the handle's reference.
  outcome<V> take() {
    struct dropping {
      one_shot& of;
      ~dropping() { of.drop_reference(); }
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
