// SPDX-License-Identifier: Apache-2.0
#pragma once

// fork: keeps the library usable in a child process of fork().
//
// Only the forking thread exists in the child. So no other thread may be inside a critical section
// at that moment, and state that represents a thread the child does not have (a pool's idle thread,
// a flight's leader, a waiter on a stack) must be removed. Every object with such state is a member
// of one list:
//
// K1  Before the fork, hold() is called for every member: its locks are taken, in the order of the
//     ranks, which is the order in which the library nests them. So no other thread is in a
//     critical section, and what the locks guard is consistent in the child.
// K2  In the parent, release() is called for every member. In the child, repair() repairs each of
//     them, then release(), then go_on(), which starts threads and arms alarms for the work that no
//     caller will trigger.
// K3  Between hold() and release() no user code runs; until go_on() the forking thread is the only
//     one in the child. The stacks of the parent's other threads are still mapped at that point,
//     and are reused by new threads later: so repair() removes every node that lies on them.
// K4  A member enters the list at the end of its construction and leaves it at the start of its
//     destruction, under the list's lock, which is held around the fork. So no member is created or
//     destroyed within the four calls below.

#include <cstdint>

#include "singleflight/core/support/platform.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

class fork_member {
 public:
  /// The order in which locks are taken: a thread that holds one may wait for a later one. Timers
  /// and pools come first, although no lock is taken inside theirs: hold() waits for a running
  /// fire, which takes other locks. The wait graph ends waits under its lock, and takes the locks
  /// of their flights to do so.
  enum class rank : std::uint8_t { timer, pool, waits, lines, cache, group, last };

  fork_member(const fork_member&) = delete;
  fork_member& operator=(const fork_member&) = delete;

  virtual void hold() noexcept = 0;
  virtual void release() noexcept = 0;
  /// Called in the child while all members are held.
  virtual void repair() noexcept {}
  /// Called in the child after all members have been released.
  virtual void go_on() noexcept {}

 protected:
  explicit fork_member(rank own) noexcept : fork_rank(own) {}
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

  /// The number of forks between the first process and this one.
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

/// For a lock that guards no state of a thread: it is held around a fork, and nothing is repaired.
/// Must be the last data member of its object.
class fork_guard final : fork_member {
 public:
  fork_guard(platform::mutex& lock, rank own) : fork_member(own), lock_(lock) { enter_forks(); }
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
