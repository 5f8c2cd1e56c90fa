// SPDX-License-Identifier: Apache-2.0
#pragma once

// fork: the list of members, and the three calls around a fork.

#include <cstddef>

#include "singleflight/core/support/fork.hpp"
#include "singleflight/core/support/rules.hpp"

SINGLEFLIGHT_BEGIN_NAMESPACE
namespace detail {

SINGLEFLIGHT_BODY void fork_member::enter_forks() { fork_list::instance().add(*this); }
SINGLEFLIGHT_BODY void fork_member::leave_forks() noexcept { fork_list::instance().remove(*this); }

SINGLEFLIGHT_BODY void fork_list::add(fork_member& m) noexcept {
  const platform::fork_lock::scope hold(lock_);
  fork_member*& first = first_[static_cast<std::size_t>(m.fork_rank)];
  m.next_member = first;
  if (first != nullptr) first->prev_member = &m;
  first = &m;
}

SINGLEFLIGHT_BODY void fork_list::remove(fork_member& m) noexcept {
  const platform::fork_lock::scope hold(lock_);
  (m.prev_member != nullptr ? m.prev_member->next_member
                            : first_[static_cast<std::size_t>(m.fork_rank)]) = m.next_member;
  if (m.next_member != nullptr) m.next_member->prev_member = m.prev_member;
}

template <class Visit>
void fork_list::each(Visit&& visit) noexcept {
  for (fork_member* m : first_) {
    for (; m != nullptr; m = m->next_member) visit(*m);
  }
}

SINGLEFLIGHT_COLD SINGLEFLIGHT_BODY void fork_list::before() noexcept {
  instance().lock_.lock();
  if (platform::holds(rule::fork_holds_locks)) {
    instance().each([](fork_member& m) { m.hold(); });
  }
}

SINGLEFLIGHT_COLD SINGLEFLIGHT_BODY void fork_list::in_parent() noexcept {
  if (platform::holds(rule::fork_holds_locks)) {
    instance().each([](fork_member& m) { m.release(); });
  }
  instance().lock_.unlock();
}

SINGLEFLIGHT_COLD SINGLEFLIGHT_BODY void fork_list::in_child() noexcept {
  fork_list& all = instance();
  ++generation;
  if (platform::holds(rule::child_is_repaired)) all.each([](fork_member& m) { m.repair(); });
  if (platform::holds(rule::fork_holds_locks)) all.each([](fork_member& m) { m.release(); });
  if (platform::holds(rule::child_restarts)) all.each([](fork_member& m) { m.go_on(); });
  all.lock_.unlock();
}

}  // namespace detail
SINGLEFLIGHT_END_NAMESPACE
