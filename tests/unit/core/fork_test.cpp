// SPDX-License-Identifier: Apache-2.0

// How pools and timers behave in a child of fork().

#include "support/fork.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <thread>
#include <vector>

#include "support/eventually.hpp"
#include "support/gate.hpp"
#include <singleflight/core.hpp>

namespace sf = singleflight;
using namespace std::chrono_literals;

namespace {

bool runs_a_task(sf::thread_pool& pool) {
  std::atomic<bool> ran{false};
  pool.execute(sf::task([&] { ran = true; }));
  return support::comes([&] { return ran.load(); });
}

// Goal    A child does not count on its parent's idle threads (scenario 56).
// Method  The parent's pool has an idle thread when it forks; the child submits a task and destroys
//         the pool.
TEST(fork_core, a_pool_has_threads_of_its_own_in_a_child) {
  if (support::instrumented) GTEST_SKIP() << support::not_with_sanitizers_in_a_child;
  auto pool = std::make_unique<sf::thread_pool>();
  ASSERT_TRUE(runs_a_task(*pool));
  EXPECT_TRUE(support::in_child([&] {
    const bool none = pool->threads() == 0;
    const bool ran = runs_a_task(*pool);
    pool.reset();
    return none && ran;
  }));
  EXPECT_TRUE(runs_a_task(*pool));
}

// Goal    Tasks that are queued or running when a process forks are run by the parent only.
TEST(fork_core, a_child_inherits_no_tasks) {
  if (support::instrumented) GTEST_SKIP() << support::not_with_sanitizers_in_a_child;
  support::gate hold;
  std::atomic<int> ran{0};
  sf::thread_pool pool({.max_threads = 1});
  pool.execute(sf::task([&] { hold.wait(); }));
  hold.await_arrivals();
  pool.execute(sf::task([&] { ++ran; }));
  EXPECT_TRUE(support::in_child([&] { return runs_a_task(pool) && ran == 0; }));
  hold.open();
  EXPECT_TRUE(support::eventually([&] { return ran == 1; }));
}

// Goal    A task that forks continues in the child, and its pool keeps working there.
TEST(fork_core, a_task_may_fork) {
  if (support::instrumented) GTEST_SKIP() << support::not_with_sanitizers_in_a_child;
  sf::thread_pool pool({.max_threads = 2});
  std::atomic<int> right{-1};
  pool.execute(sf::task([&] { right = support::in_child([&] { return runs_a_task(pool); }); }));
  EXPECT_TRUE(support::eventually([&] { return right >= 0; }));
  EXPECT_EQ(right, 1);
}

// Goal    In a child that a task has forked, that task may destroy its pool together with the
//         threads that the child started, and exit() may destroy a static pool.
TEST(fork_core, a_task_may_end_its_pool_in_a_child) {
  if (support::instrumented) GTEST_SKIP() << support::not_with_sanitizers_in_a_child;
  auto pool = std::make_unique<sf::thread_pool>();
  std::atomic<int> right{-1};
  pool->execute(sf::task([&] {
    right = support::in_child([&] {
      const bool ran = runs_a_task(*pool);
      std::atomic<bool> last{false};
      pool->execute(sf::task([&] { last = true; }));
      pool.reset();
      return ran && last;
    });
  }));
  EXPECT_TRUE(support::eventually([&] { return right >= 0; }));
  EXPECT_EQ(right, 1);
}

struct exits_at_thread_end {
  ~exits_at_thread_end() {
    if (status >= 0) ::_exit(status);
  }
  int status = -1;
};

// Goal    The thread of such a task does not return to the pool: it ends after the task.
TEST(fork_core, a_thread_whose_pool_was_destroyed_ends) {
  if (support::instrumented) GTEST_SKIP() << support::not_with_sanitizers_in_a_child;
  auto pool = std::make_unique<sf::thread_pool>();
  std::atomic<int> status{-1};
  pool->execute(sf::task([&] {
    static thread_local exits_at_thread_end end;
    const pid_t child = ::fork();
    if (child == 0) {
      ::alarm(static_cast<unsigned>(support::patience.count()));
      end.status = 7;
      pool.reset();
      return;
    }
    int how = 0;
    EXPECT_EQ(::waitpid(child, &how, 0), child);
    status = WIFEXITED(how) ? WEXITSTATUS(how) : 0;
  }));
  EXPECT_TRUE(support::eventually([&] { return status >= 0; }));
  EXPECT_EQ(status, 7);
}

struct fork_alarm : sf::timer_node {
  fork_alarm() noexcept
      : timer_node([](timer_node& n) noexcept { static_cast<fork_alarm&>(n).fired = true; }) {}
  std::atomic<bool> fired{false};
};

// Goal    In a child clocks tell the time and alarms fire: those armed before the fork and its own.
TEST(fork_core, the_timer_works_in_a_child) {
  if (support::instrumented) GTEST_SKIP() << support::not_with_sanitizers_in_a_child;
  sf::timer& timer = sf::default_timer();
  const auto before = timer.coarse_now();
  fork_alarm armed;
  timer.arm(armed, timer.now() + 50ms);
  EXPECT_TRUE(support::in_child([&] {
    fork_alarm own;
    timer.arm(own, timer.now() + 1ms);
    const bool fired = support::comes([&] { return armed.fired && own.fired; });
    return fired && timer.coarse_now() >= before + 50ms;
  }));
  EXPECT_TRUE(support::eventually([&] { return armed.fired.load(); }));
}

// Goal    The coarse clock of a child moves, even when no alarm is armed.
TEST(fork_core, the_coarse_clock_moves_in_a_child) {
  if (support::instrumented) GTEST_SKIP() << support::not_with_sanitizers_in_a_child;
  sf::timer& timer = sf::default_timer();
  (void)timer.coarse_now();
  EXPECT_TRUE(support::in_child([&] {
    const auto begin = timer.coarse_now();
    return support::comes([&] { return timer.coarse_now() > begin + 5ms; });
  }));
}

// Goal    A child never inherits a locked lock whose holder does not exist there.
// Method  Threads use the pool and the timer all the time while the process forks many times.
TEST(fork_core, forks_amid_work) {
  if (support::instrumented) GTEST_SKIP() << support::not_with_sanitizers_in_a_child;
  sf::thread_pool pool({.max_threads = 2});
  sf::timer& timer = sf::default_timer();
  std::atomic<bool> over{false};
  fork_alarm alarms[2];  // not on a stack, which a thread of the child may reuse
  std::vector<std::jthread> workers;
  for (fork_alarm& one : alarms) {
    workers.emplace_back([&] {
      while (!over) {
        timer.arm(one, timer.now() + 10us);
        pool.execute(sf::task([] {}));
        timer.cancel(one);
      }
    });
  }
  bool right = true;
  for (int i = 0; i < 20 && right; ++i) {
    right = support::in_child([&] {
      fork_alarm own;
      timer.arm(own, timer.now());
      return runs_a_task(pool) && support::comes([&] { return own.fired.load(); });
    });
  }
  over = true;
  EXPECT_TRUE(right);
}

}  // namespace
