// SPDX-License-Identifier: Apache-2.0

// The kernel refuses the membarrier system call after it has granted it: values that have left a
// cache are still freed.

#include <gtest/gtest.h>

#include "support/gate.hpp"
#include "support/sanitizers.hpp"

#if defined(__linux__) && !defined(SUPPORT_TSAN)

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdlib>
#include <thread>

#include "support/cache.hpp"
#include <singleflight/cache.hpp>

namespace {

using singleflight::loading_cache;
using support::living;

/// From now on the kernel refuses this process the barrier's system call.
bool refuse_membarrier() {
  sock_filter rules[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_membarrier, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog program{.len = static_cast<unsigned short>(std::size(rules)), .filter = rules};
  return ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

/// The largest number of live values once the barrier is refused; -1 if it cannot be refused, a
/// lower number if a value is lost or never freed.
long most_alive() {
  loading_cache<int, living> cache([](int k) { return living(k); }, {.capacity = 100});
  for (int k = 0; k < 1000; ++k) (void)cache.get(k);
  if (!refuse_membarrier()) return -1;
  long most = 0;
  for (int k = 0; k < 20'000; ++k) {
    if (cache.get(k)->read() != k || !cache.find(k)) return -2;
    // A removed value waits for its grace period, which is real time: calls continue until it has
    // been freed.
    const auto patient_until = std::chrono::steady_clock::now() + support::patience;
    while (living::alive > 4000) {
      if (std::chrono::steady_clock::now() > patient_until) return -3;
      cache.put(k, living(k));
      std::this_thread::yield();
    }
    most = std::max(most, living::alive.load());
  }
  return most;
}

// Goal    If the barrier is refused later, the number of values that wait to be freed stays
//         bounded, and values are found and held as before (scenario 56).
// Method  The test runs in its own process, which installs a filter for that system call.
TEST(barrier, refused_later_on) {
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    const long most = most_alive();
    ::_exit(most == -1 ? 77 : most < 0 ? 2 : most > 6000 ? 1 : 0);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFEXITED(status)) << "signal " << WTERMSIG(status);
  if (WEXITSTATUS(status) == 77) GTEST_SKIP() << "no filter can be installed here";
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

}  // namespace

#endif
