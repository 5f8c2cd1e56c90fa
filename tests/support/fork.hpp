// SPDX-License-Identifier: Apache-2.0
#pragma once

// in_child: runs a part of a test in a child of fork().

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <thread>

#include "support/gate.hpp"
#include "support/sanitizers.hpp"

namespace support {

/// ThreadSanitizer ends a child that gives the stack of a thread that has vanished to a thread of
/// its own ("dup thread with used id"), and in a child the lock of AddressSanitizer's allocator may
/// be held by a thread that does not exist there: sanitizer builds skip tests of children with
/// threads.
inline constexpr const char* not_with_sanitizers_in_a_child =
    "no sanitizer supports threads in a child of a process with threads";

/// Forks in the middle of a test that continues in both processes. An alarm ends a child that
/// hangs.
inline pid_t fork_here() {
  const pid_t child = ::fork();
  if (child == 0) ::alarm(static_cast<unsigned>(patience.count()));
  return child;
}

/// Called by both processes afterwards: ends the child, with `right` as its exit status, and
/// returns in the parent whether the child reported true.
inline bool join_child(pid_t child, bool right) {
  if (child == 0) ::_exit(right ? 0 : 1);
  int status = 0;
  EXPECT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_FALSE(WIFSIGNALED(status)) << "the child was ended by signal " << WTERMSIG(status);
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/// Whether `what`, run in a child, returned true there.
template <class What>
bool in_child(What what) {
  const pid_t child = fork_here();
  return join_child(child, child != 0 || what());
}

/// Spins until `holds()` is true; returns false when it never is. For a child, which reports by its
/// exit status.
template <class Condition>
bool comes(Condition holds) {
  const auto deadline = std::chrono::steady_clock::now() + patience;
  while (!holds()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::yield();
  }
  return true;
}

}  // namespace support
