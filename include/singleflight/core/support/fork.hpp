// SPDX-License-Identifier: Apache-2.0
#pragma once

// fork: what a child process of fork() finds of the library.
//
// Of all threads the one that forks lives on in the child. So the others must not be within a
// critical section at that moment, and whatever stands for a thread that is not there any more (a
// pool's idle thread, a flight's leader, a waiter on a stack) must go. Each object that has such
// state is a member of one list:
//
// K1  Before the fork, every member is held: its locks are taken, in the order of the ranks, which
//     is the order in which the library nests them. So no other thread is in a critical section,
//     and what the locks guard is consistent in the child.
// K2  In the parent, the members are released. In the child they are mended, released, and then go
//     on: threads are started there, and alarms armed, for what has to happen by itself.
// K3  Between hold() and release() no code of a user runs; in the child the forking thread is alone
//     until go_on(). The stacks of the threads that have gone are still mapped then, and are given
//     to new threads later: so mend() takes out what stands on them.
// K4  A member enters at the end of its construction and leaves at the begin of its destruction,
//     under the list's lock, which is held around the fork. So none is made within the four calls
//     below.

#include <cstdint>

#include "singleflight/core/support/platform.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

class fork_member {
 public:
  /// The order in which locks are taken: a thread that has one may wait for one further down.
  /// Timers and pools are first, though nothing is taken within their locks: a fire that is under
  /// way takes others' locks, and is waited for. The graph of those who wait strikes waits within
  /// its lock, and takes those of their flights for it.
  enum class rank : std::uint8_t { timer, pool, waits, lines, cache, group, last };

  fork_member(const fork_member&) = delete;
  fork_member& operator=(const fork_member&) = delete;

  virtual void hold() noexcept = 0;
  virtual void release() noexcept = 0;
  /// In the child, while everything is held.
  virtual void mend() noexcept {}
  /// In the child, when nothing is held any more.
  virtual void go_on() noexcept {}

 protected:
  explicit fork_member(rank at) noexcept : fork_rank(at) {}
  ~fork_member() = default;
  void enter_forks();
  void leave_forks() noexcept;

 public:  // for the list
  const rank fork_rank;
  fork_member* prev_member = nullptr;
  fork_member* next_member = nullptr;
};

class SINGLEFLIGHT_SHARED_STATE fork_list {
 public:
  static fork_list& instance() noexcept {
    static platform::never_destroyed<fork_list> one;
    return one.get();
  }
  fork_list() noexcept { platform::around_fork(&before, &in_parent, &in_child); }

  /// How many forks lie between the first process and this one.
  static inline constinit std::uint32_t generation = 0;

  void add(fork_member& m) noexcept;
  void remove(fork_member& m) noexcept;

 private:
  static constexpr std::size_t ranks = static_cast<std::size_t>(fork_member::rank::last) + 1;

  template <class Visit>
  void each(Visit&& visit) noexcept;
  static void before() noexcept;
  static void in_parent() noexcept;
  static void in_child() noexcept;

  platform::fork_lock lock_;
  fork_member* first_[ranks] = {};
};

inline const platform::made_at_load<&fork_list::instance> fork_list_at_load;

/// For a lock under which nothing stands for a thread: it is held, and that is all. The last member
/// of its object.
class fork_guard final : fork_member {
 public:
  fork_guard(platform::mutex& lock, rank at) : fork_member(at), lock_(lock) { enter_forks(); }
  ~fork_guard() { leave_forks(); }

 private:
  SINGLEFLIGHT_COLD void hold() noexcept override { lock_.lock(); }
  SINGLEFLIGHT_COLD void release() noexcept override { lock_.unlock(); }
  platform::mutex& lock_;
};

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE

#if !defined(SINGLEFLIGHT_COMPILED)
#include "singleflight/core/impl/fork.hpp"
#endif
