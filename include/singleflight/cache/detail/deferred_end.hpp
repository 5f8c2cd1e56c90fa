// SPDX-License-Identifier: Apache-2.0
#pragma once

// deferred_end: where the values that a cache has removed are destroyed.
//
// A value may own anything whose destructor waits for loads: a cache, a group, a live_value. Which
// thread destroys it is a matter of chance: the next one that changes that cache, or drops the last
// handle. Inside one of those loads it would wait for itself.
//
// D1  A thread is at a safe point when no load can be waiting for it to continue: it leads nothing,
//     works for no task group, and runs nothing that was handed over (thread_state::errands). A
//     coroutine that foreign code resumes, and a promise that it answers, leave no mark on their
//     thread: as long as there are such loads (wandering_load), only D3's task is at a safe point
//     for certain. A user's own thread has no mark either, when a load on another thread waits for
//     it: a value that it removes from a cache must not wait for that load in its destructor. A
//     value is destroyed at a safe point only; one whose type cannot wait (ends_plainly), anywhere.
// D2  Elsewhere it is added to the list of this thread's outermost call on a cache, if that began
//     at a safe point; the call destroys it at its end. Such a list is bounded, since a load may be
//     long.
// D3  If there is no such call, or its list is full, it is added to the list of the process, and a
//     task of the default pool destroys it. `lock_` guards that list and `posted_`: whether the
//     task is queued. The task takes one object at a time, and has queued itself again before it
//     destroys one with others behind it: a destructor that waits delays no other. If the pool has
//     no thread, or the task was not posted (in a child of fork), the next call on a cache that
//     ends at a safe point does the task's work.
// D4  An object is on one list, by `next`, from when its last holder has dropped it until it is
//     destroyed.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "singleflight/cache/detail/hazard.hpp"
#include "singleflight/cache/detail/rules.hpp"
#include "singleflight/core/executor.hpp"
#include "singleflight/core/thread_pool.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

/// Whether the destructor of a T certainly does not wait.
template <class T>
inline constexpr bool ends_plainly = std::is_trivially_destructible_v<T>;
template <class C, class T>
inline constexpr bool ends_plainly<std::basic_string<C, T>> = true;
template <class T>
inline constexpr bool ends_plainly<std::vector<T>> = ends_plainly<T>;
template <class T>
  requires(!std::is_trivially_destructible_v<T>)
inline constexpr bool ends_plainly<std::optional<T>> = ends_plainly<T>;
template <class A, class B>
  requires(!std::is_trivially_destructible_v<std::pair<A, B>>)
inline constexpr bool ends_plainly<std::pair<A, B>> = ends_plainly<A> && ends_plainly<B>;
template <class... T>
  requires(!std::is_trivially_destructible_v<std::tuple<T...>>)
// NOLINTNEXTLINE(misc-redundant-expression): of two parts of one type
inline constexpr bool ends_plainly<std::tuple<T...>> = (ends_plainly<T> && ...);

inline bool at_safe_point(const thread_state& self) noexcept {  // D1
  return self.led == nullptr && self.errands == 0 && (self.ends_values || !wandering_load::any());
}

/// The objects that the process has yet to destroy.
class SINGLEFLIGHT_SHARED_STATE deferred_ends final : task_node, fork_member {
 public:
  static deferred_ends& instance() {
    static constinit platform::one_per_process<deferred_ends> one;
    return one.get([] { return std::make_unique<deferred_ends>(); });
  }
  deferred_ends() noexcept : task_node(&act_on), fork_member(rank::last) { enter_forks(); }
  deferred_ends(const deferred_ends&) = delete;
  deferred_ends& operator=(const deferred_ends&) = delete;
  ~deferred_ends() { leave_forks(); }

  void add(reclaimable& object) noexcept {
    bool post = false;
    {
      const platform::unique_lock hold(lock_);
      object.next = list_;
      list_ = &object;
      waiting.store(true, memory_order_relaxed);
      post = !std::exchange(posted_, true);
    }
    if (post) detail::post_on_default_pool(this);
  }
  /// Returns whether there is anything to destroy.
  static bool any() noexcept { return waiting.load(memory_order_relaxed); }
  /// Requires a safe point. Does the task's work if the pool has no thread, or the task is not
  /// posted.
  void destroy_without_pool() noexcept {
    if (!is_posted() || default_pool().threads() == 0) destroy_all(false);
  }

 private:
  bool is_posted() noexcept {
    const platform::unique_lock hold(lock_);
    return posted_;
  }
  static void act_on(task_node* node, bool) {
    static_cast<deferred_ends*>(node)->destroy_all(true);
  }
  void destroy_all(bool task) {
    const struct safe_point {  // the frames below have nothing to continue
      safe_point() noexcept
          : self(this_thread()),
            errands(std::exchange(self.errands, 0)),
            before(std::exchange(self.ends_values, true)) {}
      safe_point(const safe_point&) = delete;
      safe_point& operator=(const safe_point&) = delete;
      ~safe_point() {
        self.errands = errands;
        self.ends_values = before;
      }
      thread_state& self;
      const std::uint32_t errands;
      const bool before;
    } here;
    bool mine = task;  // the task is no longer queued: it may be queued again
    for (;;) {
      reclaimable* one = nullptr;
      bool post = false;
      {
        const platform::unique_lock hold(lock_);
        if (std::exchange(mine, false)) posted_ = false;
        one = list_;
        if (one == nullptr) return;
        list_ = one->next;
        waiting.store(list_ != nullptr, memory_order_relaxed);
        post = list_ != nullptr && !std::exchange(posted_, true);
      }
      if (post) detail::post_on_default_pool(this);
      one->destroy(one);
    }
  }

  // ---- fork: in a child the list waits for the next call on a cache, as the child may be about to
  // call exec. An object that another thread was destroying is the parent's -----------------------

  SINGLEFLIGHT_COLD void hold() noexcept override { lock_.lock(); }
  SINGLEFLIGHT_COLD void release() noexcept override { lock_.unlock(); }
  SINGLEFLIGHT_COLD void repair() noexcept override {
    posted_ = false;  // no queue of the child has the task
  }

  platform::mutex lock_;
  reclaimable* list_ = nullptr;
  bool posted_ = false;
  static inline constinit atomic<bool> waiting{false};
};

/// A call on a cache, or a live_value, that may load on its own thread; a local of that call.
class end_scope {
 public:
  end_scope() noexcept : self_(this_thread()) {
    if (self_.ends != nullptr || !at_safe_point(self_)) return;
    self_.ends = this;
    outermost_ = true;
  }
  end_scope(const end_scope&) = delete;
  end_scope& operator=(const end_scope&) = delete;
  ~end_scope() {
    if (!outermost_) return;
    self_.ends = nullptr;
    while (reclaimable* const one = list_) {
      list_ = one->next;
      one->destroy(one);
    }
    if (deferred_ends::any() && at_safe_point(self_)) [[unlikely]] {
      deferred_ends::instance().destroy_without_pool();
    }
  }

  /// Returns false if the list is full.
  bool add(reclaimable& object) noexcept {
    if (count_ == max_count) return false;
    ++count_;
    object.next = list_;
    list_ = &object;
    return true;
  }

 private:
  static constexpr std::size_t max_count = 256;

  thread_state& self_;
  reclaimable* list_ = nullptr;
  std::size_t count_ = 0;
  bool outermost_ = false;
};

/// Called before `object`, which has no holder, is destroyed. Returns true if it is destroyed
/// elsewhere.
inline bool ends_elsewhere(reclaimable& object) noexcept {
  thread_state& self = this_thread();
  if (at_safe_point(self) || !platform::holds(rule::nothing_ends_within_a_load)) return false;
  if (self.ends != nullptr && self.ends->add(object)) return true;
  deferred_ends::instance().add(object);
  return true;
}

/// Like make_shared_state(), but makes the state that all caches share.
inline void make_shared_cache_state() {
  (void)hazard_domain::instance();
  (void)deferred_ends::instance();
}

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE
