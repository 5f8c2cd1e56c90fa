// SPDX-License-Identifier: Apache-2.0

// What happens when no thread can be created: RLIMIT_NPROC, a pids cgroup.

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <system_error>

#include "support/eventually.hpp"
#include "support/fork.hpp"
#include "support/gate.hpp"
#include "support/thread_refusal.hpp"
#include <singleflight/core.hpp>

namespace sf = singleflight;
using namespace std::chrono_literals;

namespace {

// Goal    A read of the coarse clock does not request a thread each time: at most ten times a
//         second (scenario 56). The clock still tells the time meanwhile.
// Method  The test runs in a child, whose timer has no thread yet.
TEST(no_threads, the_coarse_clock_asks_rarely) {
  if (support::instrumented) GTEST_SKIP() << support::not_with_sanitizers;
  EXPECT_TRUE(support::in_child([] {
    sf::timer& timer = sf::default_timer();
    const support::thread_refusal none;
    const auto begin = timer.now();
    for (int i = 0; i < 10'000; ++i) {
      const auto before = timer.now();
      if (timer.coarse_now() < before) return false;
    }
    const auto tenths = (timer.now() - begin) / 100ms + 1;
    return support::thread_refusal::asked() >= 1 && support::thread_refusal::asked() <= tenths + 1;
  }));
}

// Goal    The timer gets its thread as soon as one can be created; a reader of its clock requests
//         it.
TEST(no_threads, the_coarse_clock_ticks_again) {
  if (support::instrumented) GTEST_SKIP() << support::not_with_sanitizers;
  EXPECT_TRUE(support::in_child([] {
    sf::timer& timer = sf::default_timer();
    {
      const support::thread_refusal none;
      (void)timer.coarse_now();
    }
    // Ticking: two reads less than a tick apart see the same word.
    return support::comes([&] {
      const auto first = timer.coarse_now();
      return timer.coarse_now() == first;
    });
  }));
}

// Goal    A pool that gets no thread for a task reports that with the system's error code.
TEST(no_threads, a_pool_names_the_reason) {
  if (support::instrumented) GTEST_SKIP() << support::not_with_sanitizers;
  const support::thread_refusal none;
  sf::thread_pool pool;
  try {
    pool.execute(sf::task([] {}));
    ADD_FAILURE() << "execute() accepted a task without a thread";
  } catch (const std::system_error& e) {
    EXPECT_EQ(e.code(), std::errc::resource_unavailable_try_again);
  }
}

// Goal    A task that the default pool keeps while no thread can be created runs once threads can
//         be created again, without a further submission.
// Method  In a child, whose pool and timer have no thread yet, a node is kept while both are
//         refused one; later a thread reads the clock, as the readers of any cache do.
TEST(no_threads, what_is_kept_runs_later) {
  if (support::instrumented) GTEST_SKIP() << support::not_with_sanitizers;
  EXPECT_TRUE(support::in_child([] {
    struct kept : sf::detail::task_node {
      kept() noexcept
          : task_node([](task_node* n, bool run) { static_cast<kept*>(n)->ran = run; }) {}
      std::atomic<bool> ran{false};
    } node;
    {
      const support::thread_refusal none;
      sf::detail::post_on_default_pool(&node);
    }
    return support::comes([&] {
      (void)sf::default_timer().coarse_now();
      return node.ran.load();
    });
  }));
}

// Goal    The same where the timer has its thread already: the timer requests the pool's.
TEST(no_threads, the_timer_asks_for_the_pool) {
  if (support::instrumented) GTEST_SKIP() << support::not_with_sanitizers;
  EXPECT_TRUE(support::in_child([] {
    (void)sf::default_timer().coarse_now();
    struct kept : sf::detail::task_node {
      kept() noexcept
          : task_node([](task_node* n, bool run) { static_cast<kept*>(n)->ran = run; }) {}
      std::atomic<bool> ran{false};
    } node;
    {
      const support::thread_refusal none;
      sf::detail::post_on_default_pool(&node);
    }
    return support::comes([&] { return node.ran.load(); });
  }));
}

}  // namespace
